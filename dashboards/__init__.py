"""Grafana's dashboards as code: `python -m dashboards` writes `json/`, which `provisioning/` has Grafana read."""
