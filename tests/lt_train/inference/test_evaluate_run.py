"""The evaluation of a run."""

import pytest
import torch

from lt_data.errors import DataError, OutputError
from lt_train.engine.fit import fit
from lt_train.evaluation.truth import columns as truth_columns
from lt_train.inference.evaluate_run import evaluate_run
from lt_train.recipe.sections import Files
from lt_train.runs.checkpoint import load_checkpoint, save_checkpoint


def test_evaluation_of_a_run_equals_that_of_the_fit(softmax_run, monkeypatch):
    before = (softmax_run.evaluation / "metrics.json").read_bytes()
    decoded = []

    def read_masks(file, source, rows):
        decoded.append(source)
        return original(file, source, rows)

    original = truth_columns.read_masks
    monkeypatch.setattr(truth_columns, "read_masks", read_masks)
    measured, out = evaluate_run(softmax_run.path)
    assert out == softmax_run.evaluation
    # masks of the annotations take long to decode: once is enough to check and to measure
    assert decoded == ["annotations.json"]
    assert (out / "metrics.json").read_bytes() == before
    assert measured.text.startswith("protocol coco (100 detections per image and category)")
    assert measured.text.splitlines()[1].split()[:3] == ["AP", "AP50", "AP75"]
    (note,) = measured.warnings
    assert note.startswith("annotations.json is the file that the run was trained on")


def test_evaluation_elsewhere(softmax_run, tiny_pool, tmp_path):
    files = Files(annotations=tiny_pool / "annotations.json", images=tiny_pool / "images")
    _, out = evaluate_run(softmax_run.path, files=files, out=tmp_path / "eval")
    assert (out / "per_class.csv").is_file()
    with pytest.raises(OutputError, match="--force"):
        evaluate_run(softmax_run.path, files=files, out=tmp_path / "eval")
    evaluate_run(softmax_run.path, files=files, out=tmp_path / "eval", force=True)


def test_evaluation_never_replaces_files_of_others(softmax_run, tiny_pool, tmp_path):
    files = Files(annotations=tiny_pool / "annotations.json", images=tiny_pool / "images")
    (tmp_path / "predictions.json").write_text("mine")
    with pytest.raises(OutputError, match="holds predictions.json"):
        evaluate_run(softmax_run.path, files=files, out=tmp_path)
    with pytest.raises(OutputError, match="is a file"):
        evaluate_run(softmax_run.path, files=files, out=tmp_path / "predictions.json")
    assert (tmp_path / "predictions.json").read_text() == "mine"


def test_best_needs_validation_data(tiny_recipe, tmp_path, tiny_pool):
    run = fit(tiny_recipe("data.val=null", "schedule.iterations=1"), tmp_path / "run")
    files = Files(annotations=tiny_pool / "annotations.json", images=tiny_pool / "images")
    with pytest.raises(DataError, match="evaluated on validation data"):
        evaluate_run(run.path, checkpoint="best", files=files)


def test_evaluation_of_what_is_no_run(tmp_path):
    with pytest.raises(DataError, match="not a run directory"):
        evaluate_run(tmp_path)


def test_checkpoint_with_code_is_refused(tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return (print, ("hacked",))

    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Evil()))
    torch.save({"format": 1, "model": Evil()}, tmp_path / "evil2.pt")
    for name in ("evil.pt", "evil2.pt"):
        with pytest.raises(DataError, match="read safely"):
            load_checkpoint(tmp_path / name)


def test_checkpoint_of_another_format(tmp_path):
    save_checkpoint(tmp_path / "new.pt", {"format": 99})
    with pytest.raises(DataError, match="format is 99"):
        load_checkpoint(tmp_path / "new.pt")
