"""What the heads share: the base class, counts, draws, weights of labels, and the options that several have."""
