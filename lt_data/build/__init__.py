"""Building a long-tailed dataset directory; ``coco_lt`` is the whole job on one page."""
