"""The evaluation of a run."""

import json

import pytest
import torch
from click.testing import CliRunner

from cli.train import main
from lt_data.errors import DataError, OutputError
from lt_train.engine.fit import fit
from lt_train.evaluation.measure import Choices
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


def test_boxes_only(softmax_run, tiny_pool, tmp_path):
    """Of annotations without masks, as the refusal says; the figures of boxes are those beside figures of masks."""
    content = json.loads((tiny_pool / "annotations.json").read_text())
    for annotation in content["annotations"]:
        del annotation["segmentation"]
    (tmp_path / "unmasked.json").write_text(json.dumps(content))
    asked = ["eval", str(softmax_run.path), "--annotations", str(tmp_path / "unmasked.json")]
    asked += ["--images", str(tiny_pool / "images")]
    before = (softmax_run.evaluation / "metrics.json").read_bytes()
    refused = CliRunner().invoke(main, asked)
    assert refused.exit_code == 1
    assert "lt-train eval --boxes-only" in refused.output
    done = CliRunner().invoke(main, [*asked, "--boxes-only"])
    assert done.exit_code == 0, done.output
    metrics = json.loads((softmax_run.path / "eval-last-unmasked-boxes" / "metrics.json").read_text())
    assert "segm" not in metrics
    assert metrics["bbox"] == json.loads(before)["bbox"]
    # the figures of the run, which has masks, stay
    _, out = evaluate_run(softmax_run.path, choices=Choices(boxes_only=True))
    assert out == softmax_run.path / "eval-last-boxes"
    assert (softmax_run.evaluation / "metrics.json").read_bytes() == before
    found = softmax_run.evaluation / "predictions.json"
    results = CliRunner().invoke(
        main, ["eval", "--predictions", str(found), "--annotations", str(tmp_path / "unmasked.json"), "--boxes-only"]
    )
    assert results.exit_code == 0, results.output
    assert "segm" not in results.output


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
