"""Pascal VOC and YOLO annotations as a COCO file."""
