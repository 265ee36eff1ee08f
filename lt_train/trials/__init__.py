"""What is tried without a run: a machine, a recipe, a step that failed."""
