"""What is done to a host or its links under a fault of site "host", and what undoes it whatever happens to us."""
