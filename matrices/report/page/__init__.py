"""The report as one HTML file: the layout of its values, its style, and the few lines of script that sort tables."""
