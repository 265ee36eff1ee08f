"""Plain figures: instance and image counts of public training sets, one CSV each.

``lvis-v0.5`` and ``lvis-v1`` list the training categories in descending order of instances, each with its images;
``coco-2017`` lists train2017 by category id (instances without crowds). The counts are of annotations that are
published under CC BY 4.0 by the LVIS and COCO consortia.
"""
