"""Boxes that an evaluation wrote, compared."""

import json

import numpy as np


def predictions(folder):
    return json.loads((folder / "predictions.json").read_text())


def assert_same_boxes(found, wanted):
    assert [(p["image_id"], p["category_id"]) for p in found] == [(p["image_id"], p["category_id"]) for p in wanted]
    for name in ("bbox", "score"):
        np.testing.assert_allclose([p[name] for p in found], [p[name] for p in wanted], rtol=1e-4, atol=1e-4)
