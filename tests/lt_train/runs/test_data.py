"""What a run says of its validation data."""

import json

from lt_train.runs.data import load_run_data


def test_validation_boxes_of_no_size_are_said_before_the_first_step(tiny_recipe, tiny_pool, tmp_path):
    content = json.loads((tiny_pool / "annotations.json").read_text())
    content["annotations"][3]["bbox"][2] = 0
    (tmp_path / "val.json").write_text(json.dumps(content))
    data = load_run_data(tiny_recipe(f"data.val.annotations={tmp_path / 'val.json'}"))
    line = "val.json: 1 of 38 annotations have a box of no size (annotation ids 4); they are left out"
    assert data.notes.count(line) == 1
    assert len(data.val.truth.boxes) == len(data.val.truth.segmentations) == 37
