"""Options as sections: names, defaults, ranges, a sentence for each, and what is wrong with a value, in one place."""
