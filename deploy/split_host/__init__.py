"""The published split-host matrix on one Linux machine, as root: `make split-host`."""
