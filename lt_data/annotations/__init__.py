"""A COCO or LVIS annotation file as columns, with the bytes of every record."""
