"""Several annotation files as one."""
