"""What a campaign says: figures first, then the table, the pages and the CSV files that show them."""
