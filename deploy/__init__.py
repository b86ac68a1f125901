"""Ways to get hosts to run on: clusters of Ray by templates, and namespaces of one Linux machine to try things on."""
