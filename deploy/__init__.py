"""Several hosts: the templates of `treni-route cluster init`, and hosts made of namespaces to try everything on."""
