"""Instances and images per category, and what follows from them: groups, repeat factors, class weights."""
