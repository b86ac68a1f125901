"""Files for running on several hosts: the templates of `treni-route cluster init`."""
