"""Heads that part the classes into groups which compete among themselves."""
