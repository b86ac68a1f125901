"""Prometheus on everything: our scrape configuration and rules beside services and a matrix (docs/observability.md)."""
