import json
from pathlib import Path

import pytest

from lt_data.errors import OutputError
from lt_train.evaluation import write_evaluation
from lt_train.evaluation.directory import remove_results

METRICS = {"schema": 1, "bbox": {"AP": 0.1, "APs": None}}
ROWS = [
    {"category_id": 1, "name": "kite, red", "group": "(0, 10)", "bbox_AP": 0.1},
    {"category_id": 2, "name": "été", "group": None, "bbox_AP": None},
]
RESULTS = [
    {"image_id": 1, "category_id": 2, "bbox": [0.1, 1 / 3, 2.0, 3.0], "score": 0.30000001192092896},
    {"image_id": 1, "category_id": 2, "score": 0.5, "segmentation": {"size": [2, 3], "counts": b"12Z"}},
]


def test_files_and_their_bytes(tmp_path):
    write_evaluation(tmp_path / "run/eval", METRICS, ROWS, RESULTS)
    out = tmp_path / "run/eval"
    assert sorted(p.name for p in out.iterdir()) == ["metrics.json", "per_class.csv", "predictions.json"]
    assert json.loads((out / "metrics.json").read_text(encoding="utf-8")) == METRICS
    table = 'category_id,name,group,bbox_AP\n1,"kite, red","(0, 10)",0.1\n2,été,,\n'
    assert (out / "per_class.csv").read_bytes() == table.encode()
    assert all(b"\r" not in p.read_bytes() for p in out.iterdir())


def test_results_come_back_to_the_last_bit(tmp_path):
    write_evaluation(tmp_path, METRICS, ROWS, RESULTS)
    text = {**RESULTS[1], "segmentation": {"size": [2, 3], "counts": "12Z"}}
    assert json.loads((tmp_path / "predictions.json").read_bytes()) == [RESULTS[0], text]
    assert RESULTS[1]["segmentation"]["counts"] == b"12Z"


def test_no_predictions_file_unless_asked_and_empty_lists(tmp_path):
    write_evaluation(tmp_path, METRICS, [])
    assert not (tmp_path / "predictions.json").exists()
    write_evaluation(tmp_path, METRICS, [], [])
    assert json.loads((tmp_path / "predictions.json").read_bytes()) == []
    for _ in range(2):
        remove_results(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.json", "per_class.csv"]


def test_nan_is_never_written(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_evaluation(tmp_path, {"AP": float("nan")}, [])
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    write_evaluation(tmp_path, METRICS, ROWS)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lt_train.evaluation.directory.os.replace", full)
    with pytest.raises(OutputError, match=r"metrics\.json: cannot be written \(No space left"):
        write_evaluation(tmp_path, {"schema": 2}, [])
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_full_disk_leaves_the_whole_older_evaluation(tmp_path, monkeypatch):
    """Figures of the new one beside detections of the old one would be no evaluation at all."""
    write_evaluation(tmp_path, METRICS, ROWS, RESULTS)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    original = Path.write_bytes

    def full(path, content):
        if path.name.endswith("predictions.json"):
            raise OSError(28, "No space left on device")
        return original(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError) as error:
        write_evaluation(tmp_path, {"schema": 2}, [], [])
    assert str(error.value).startswith(f"{tmp_path}/predictions.json: cannot be written (No space left on device)")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
