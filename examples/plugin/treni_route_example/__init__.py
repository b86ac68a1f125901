"""One of everything that a package can add to treni-route, a file each."""
