"""What a report draws, a file for each kind: charts as values, and the one place that renders them."""
