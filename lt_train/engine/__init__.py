"""Training and evaluating: ``fit`` is the main path, read it first."""
