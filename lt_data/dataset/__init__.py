"""The dataset directory on the disk: names, options, record."""
