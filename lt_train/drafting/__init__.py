"""A first recipe for data of one's own, on the machine that it is written on: every choice with its reason."""
