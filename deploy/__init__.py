"""Ways to get hosts to run on: those made of namespaces on one Linux machine, to try everything between hosts."""
