"""Hosts made of namespaces on one Linux machine, for root: the kernel takes them away with whoever made them."""
