"""The options of each head as a section, without torch; ``lt_train.heads`` lists them."""
