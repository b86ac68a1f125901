"""The commands of `treni-route`."""
