"""How `lt_data.mend` reads a file: what it takes for numbers, and what it tells meanwhile."""

import json

from lt_data import mend


def test_words_in_names_are_no_numbers(tmp_path):
    """What JSON lacks is looked for outside of texts."""
    path = tmp_path / "a.json"
    content = {
        "images": [{"id": 1, "width": 9, "height": 9, "file_name": "NaN.jpg"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 9, 4], "area": 16}],
        "categories": [{"id": 1, "name": "Infinity pool"}],
    }
    path.write_text(json.dumps(content))
    report = mend(path, tmp_path / "b.json", fix=["clip"])
    assert [change.field for change in report.changes] == ["bbox"]


def test_progress_counts_bytes_and_names_what_changed_the_file(tmp_path):
    class Told:
        def __init__(self):
            self.steps, self.done = [], []

        def step(self, what):
            self.steps.append(what)

        def __call__(self, done, total):
            self.done.append((done, total))

    path = tmp_path / "a.json"
    annotation = {"image_id": 1, "category_id": 1, "area": 16}
    content = {
        "images": [{"id": 1, "width": 9, "height": 9, "file_name": "a.jpg"}],
        "annotations": [{"id": 1, "bbox": box, **annotation} for box in ([5, 5, 9, 4], [2, 1, 9, 2])],
        "categories": [{"id": 1, "name": "a"}],
    }
    path.write_text(json.dumps(content))
    told = Told()
    report = mend(path, fix=["repeated-ids", "clip"], progress=told)
    assert [step.partition(":")[0] for step in told.steps] == ["mending", "repeated-ids", "clip", "checking the result"]
    assert "clip: 3 changed" in told.steps[2]
    # the file, then its records at first and after each of both kinds; what is checked has been read by then
    assert len(told.done) == 4
    assert told.done[0] == (path.stat().st_size, path.stat().st_size)
    assert {new.new_id for new in report.new_ids} == {2}
