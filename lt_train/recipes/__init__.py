"""Complete run descriptions; each file stands alone."""
