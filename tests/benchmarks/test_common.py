"""What benchmarks share."""

import csv
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.autograd import DeviceType


def test_a_card_is_named_with_its_driver(monkeypatch):
    from common import record

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(record, "driver", lambda: "580.1")
    assert record.machine("cuda") == "NVIDIA H100 80GB HBM3, driver 580.1"
    assert record.machine() != record.machine("cuda")


@pytest.mark.parametrize("words", [("nvidia-smi-is-not-here",), ("false",)])
def test_without_an_answer_the_driver_is_unknown(monkeypatch, words):
    from common import record

    real = record.subprocess.run
    monkeypatch.setattr(record.subprocess, "run", lambda _, **options: real(words, **options))
    assert record.driver() == "unknown"


def test_rows_are_on_the_disk_at_once(tmp_path, capsys):
    from common.record import Table

    table = Table(tmp_path / "a.csv", ("what", "value"), "cpu")
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 1
    table.add("x", 1.23456)
    with (tmp_path / "a.csv").open(newline="") as handle:
        (row,) = csv.DictReader(handle)
    assert (row["what"], row["value"], row["torch"]) == ("x", "1.235", torch.__version__)
    table.add("y", None)
    assert (tmp_path / "a.csv").read_text().splitlines()[-1].endswith("y,")
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]
    assert capsys.readouterr().out.splitlines() == ["x, 1.235", "y, "]


def test_waits_are_told_with_the_line_that_asks():
    from common.waits import by_package, waits_of

    found = waits_of(lambda: torch.ones(3).nonzero(), "cpu")
    assert by_package(found) == {"lt_train": 0, "torchvision": 0, "other": 1}
    assert next(iter(found)).startswith("benchmarks/common/waits.py:")
    from torchvision.ops import batched_nms

    boxes = torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1]])
    places = waits_of(lambda: batched_nms(boxes, torch.ones(2), torch.zeros(2), 0.5), "cpu")
    assert all(place.startswith("torchvision/ops/boxes.py:") for place in places)
    assert by_package(places)["torchvision"] == places.total() >= 1


def test_waits_that_pytorch_warns_of_are_collected(monkeypatch):
    """As on a GPU: the warning is raised by the line that waits."""
    import warnings

    from common.waits import waits_of

    modes = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def call():
        # PyTorch says this once a process, when the mode is set
        warnings.warn("Synchronization debug mode is a prototype: synchronizing operations", stacklevel=1)
        warnings.warn("called a synchronizing CUDA operation", stacklevel=1)

    (place,) = waits_of(call, "cuda")
    assert place.startswith("benchmarks/common/waits.py:")
    assert modes == ["warn", "default"]


def test_kernels_and_calls_of_a_profile(tmp_path, monkeypatch):
    """What a GPU adds to a profile, made up."""
    from common.record import Table
    from gpu_parts import profile

    def event(key, kind, count, us, annotation=False):
        times = {"self_device_time_total": us, "self_cpu_time_total": us}
        return SimpleNamespace(key=key, device_type=kind, count=count, is_user_annotation=annotation, **times)

    events = [
        event("gemm" * 100, DeviceType.CUDA, 30, 6000.0),
        event("named by a user", DeviceType.CUDA, 3, 9000.0, annotation=True),
        event("cudaLaunchKernel", DeviceType.CPU, 60, 900.0),
    ]

    class Profile:
        def __init__(self, activities):
            pass

        def __enter__(self):
            return SimpleNamespace(key_averages=lambda: events)

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(profile, "profile", Profile)
    table = Table(tmp_path / "p.csv", profile.COLUMNS, "cpu", shown=False)
    profile.add_events(table, SimpleNamespace(device="cpu", classes=80), SimpleNamespace(step=lambda: None), 0.004)
    with (tmp_path / "p.csv").open(newline="") as handle:
        rows = [(r["kind"], r["calls"], r["ms"], r["share"]) for r in csv.DictReader(handle)]
    assert rows == [("kernels", "10", "2", "0.5"), ("kernel", "10", "2", "1"), ("host", "20", "0.3", "1")]


@pytest.mark.parametrize(
    ("name", "peak"), [("NVIDIA H100 80GB HBM3", 989.4), ("NVIDIA A100-SXM4-80GB", 312.0), ("A card of tomorrow", None)]
)
def test_peaks_are_of_known_cards(monkeypatch, name, peak):
    from gpu_parts import profile

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: name)
    assert profile.peak_of("cuda") == peak
    assert profile.peak_of("cpu") is None


def test_portraits_are_a_share_of_the_drawn_images(tmp_path):
    import json

    from common.drawn_data import draw_data
    from PIL import Image

    content = json.loads(draw_data(tmp_path, images=4, classes=3, objects=2, portraits=0.25).read_text())
    assert [(i["width"], i["height"]) for i in content["images"]] == [(480, 640)] + 3 * [(640, 480)]
    for record in content["images"]:
        with Image.open(tmp_path / "images" / record["file_name"]) as image:
            assert image.size == (record["width"], record["height"])
    for a in content["annotations"]:
        image = content["images"][a["image_id"] - 1]
        x, y, w, h = a["bbox"]
        assert x >= 0
        assert y >= 0
        assert x + w <= image["width"]
        assert y + h <= image["height"]


def test_padding_of_batches():
    import padding

    sizes = padding.resized(np.array([[480, 640], [640, 480], [1000, 4000]]))
    assert sizes.tolist() == [[800, 1066], [1066, 800], [333, 1333]]
    batches = padding.batches_of(sizes[:2], 2, np.zeros(2))
    padded, cost = padding.shares(batches)
    assert padded == pytest.approx(1 - 800 * 1066 / 1088**2)
    assert cost == pytest.approx(2 * 1088**2 / (2 * 800 * 1088))


def test_every_script_says_what_it_does():
    from pathlib import Path

    folder = Path(__file__).resolve().parents[2] / "benchmarks"
    assert sys.path.count(str(folder)) >= 1
    for script in sorted(folder.glob("*.py")):
        assert f"python benchmarks/{script.name}" in script.read_text(), script.name


def test_jobs_are_in_the_order_of_their_worth(tmp_path, monkeypatch):
    from common import steps

    monkeypatch.setattr(steps, "draw_data", lambda folder, **_: folder)
    monkeypatch.setattr(steps, "reference_model", lambda *_: torch.nn.Linear(1, 1))
    options = dict.fromkeys(("batch", "side", "workers", "warmup", "steps"), 1) | {"device": "cpu"}
    found = [(job.classes, job.trains) for job in steps.jobs(tmp_path, **options)]
    assert found == [(1230, "all"), (80, "all"), (1230, "classifier"), (80, "classifier")]
    assert [(j.classes, j.trains) for j in steps.jobs(tmp_path, [(80, "all")], **options)] == [(80, "all")]


def test_a_contestant_that_fails_is_told_and_the_others_are_measured(monkeypatch, capsys):
    import train_step
    from common.steps import Job

    def run(job, name):
        if name == "lt-train, fp16":
            raise train_step.ContestantError(1, "Traceback\nCUDA error: out of memory")
        return {"loss_difference": 0.5} if name == "check" else dict.fromkeys(train_step.COLUMNS, 1.0)

    monkeypatch.setattr(train_step, "run", run)
    monkeypatch.setattr(train_step, "machine", lambda _: "a card")
    contest = train_step.Contest(Job("a", "w", "classifier", 80, 16, 800, "cuda", 0, 1, 1))
    rows = list(train_step.rows([contest], train_step.ON_GPU))
    assert [row[train_step.COLUMNS.index("contestant")] for row in rows] == [
        "torchvision references", "lt-train, bf16, NHWC", "lt-train, bf16", train_step.DDP,
    ]  # fmt: skip
    assert contest.failed == [
        "80:classifier, check: losses differ by a share of 0.5",
        "80:classifier, lt-train, fp16: CUDA error: out of memory",
    ]
    assert capsys.readouterr().err.splitlines() == contest.failed


def test_a_job_that_fails_ends_no_other(tmp_path, monkeypatch):
    from gpu_parts import end_to_end, pieces

    def broken(*_):
        raise KeyError("AP")

    for job in ("fit", "quickstart", "evaluate"):
        monkeypatch.setattr(end_to_end, job, broken)
    failed = end_to_end.measure(tmp_path / "e.csv", "cpu", tiny=True)
    assert len(failed) == 4
    assert failed[2] == "same_ap: needs the quickstart's run"
    for make in ("mask_predictors", "detections", "balanced_groups"):
        monkeypatch.setattr(pieces, make, broken)
    assert len(pieces.measure(tmp_path / "p.csv", "cpu", tiny=True)) == 3
    assert "sampling" in (tmp_path / "p.csv").read_text()


def test_ap_that_differs_is_told_for_boxes_and_masks():
    from gpu_parts.end_to_end import JobError, check_same_ap

    check_same_ap({"bbox": 10.0}, {"bbox": 10.09}, "here", "there")
    with pytest.raises(JobError, match=r"bbox AP is 10.00 here and 10.20 there; segm"):
        check_same_ap({"bbox": 10.0, "segm": 1.0}, {"bbox": 10.2, "segm": 0.5}, "here", "there")
