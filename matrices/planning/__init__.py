"""What a campaign will do, derived before it runs, without clock or I/O: cells, order, faults, what a run comes to."""
