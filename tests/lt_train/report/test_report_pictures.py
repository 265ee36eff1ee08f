"""Loss curves, group bars and prediction grids: valid PNGs of what was asked for; no torch on the way."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lt_data.errors import DataError
from lt_train.report.curves import loss_figure, loss_series, loss_title, plot_loss_curves, read_metrics, smooth
from lt_train.report.group_bars import plot_group_ap
from lt_train.report.prediction_grid import Found, Panel, plot_predictions
from lt_train.report.search_curve import plot_search, search_figure


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 20
        return picture.size


def write_lines(path: Path, records: list[Any], end: str = "\n") -> Path:
    path.write_text("\n".join(json.dumps(record) for record in records) + end, encoding="utf-8")
    return path


def step(number: int, loss: float | None, **parts: float) -> dict[str, Any]:
    return {"step": number, "epoch": 0.5, "lr": 0.02, "loss": loss, **parts}


def group_metrics(ap: float, groups: list[float | None]) -> dict[str, Any]:
    names = [f"[{10**i}, {10 ** (i + 1)})" for i in range(len(groups))]
    classes = {"AP": len(groups), "groups": dict.fromkeys(names, 1)}
    return {"bbox": {"AP": ap, "groups": dict(zip(names, groups, strict=True))}, "counts": {"classes": classes}}


def panel(count: int, **fields: Any) -> Panel:
    image = np.full((40, 60, 3), 90, np.uint8)
    boxes = np.array([[2.0 + 9 * i, 3.0, 10.0 + 9 * i, 20.0] for i in range(count)]).reshape(-1, 4)
    return Panel(image, boxes, ["plain-disc"] * count, ["(0, 10)"] * count, **fields)


def test_metrics_are_read_and_a_torn_last_line_left_out(tmp_path: Path) -> None:
    records = [step(1, 2.0, loss_mask=0.5), {"step": 1, "bbox_AP": 0.1}]
    path = write_lines(tmp_path / "m.jsonl", records, end='\n{"step": 2, "lo')
    assert read_metrics(path) == records


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1, "loss": 1.0}\nnot json\n{"step": 2, "loss": 1.0}\n')
    with pytest.raises(DataError, match=r"m\.jsonl, line 2: not a JSON object"):
        read_metrics(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_metrics(tmp_path / "none.jsonl")


def test_series_take_the_later_record_of_a_step_and_skip_evaluations() -> None:
    records = [step(10, 3.0), step(20, 2.0), {"step": 20, "bbox_AP": 0.1}, step(20, 1.5), step(30, None)]
    steps, values = loss_series(records, "loss")
    assert steps.tolist() == [10, 20, 30]
    np.testing.assert_array_equal(values, [3.0, 1.5, np.nan])


def test_smoothing_is_a_running_mean_without_nan() -> None:
    assert smooth(np.array([1.0, 3.0, 2.0])).tolist() == [1.0, 3.0, 2.0]
    values = np.arange(80.0)
    values[40] = np.nan
    smoothed = smooth(values)
    assert smoothed[20] == pytest.approx(20.0)
    assert smoothed[40] == pytest.approx(np.mean([38, 39, 41, 42]))
    assert smoothed[0] == pytest.approx(1.0)
    assert smoothed[-1] == pytest.approx(78.0)
    assert np.isnan(smooth(np.array([np.nan, 1.0]))).tolist() == [True, False]


def test_losses_of_different_runs_never_share_a_panel(tmp_path: Path) -> None:
    """Each run has its total and its own parts; groups are called by their names."""
    short = write_lines(tmp_path / "a.jsonl", [step(i, 2.0 / i, loss_mask=0.5) for i in range(1, 9)])
    parts = {f"loss_group_{g}": 0.3 for g in range(4)}
    validation = {"step": 8, "eval/loss": 0.9, "eval/loss_group_1": 0.2}
    long = write_lines(tmp_path / "b.jsonl", [*(step(i, 3.0 / i, **parts) for i in range(1, 9)), validation])
    figure = loss_figure({"softmax": short, "bags": long}, head_groups={"bags": ["(0, 10)", "[10, 100)"]})
    titles = [axes.get_title() for axes in figure.axes]
    bags = ["bags: total loss", "gate: object or background", "group 1: (0, 10)", "group 2: [10, 100)", "group 3"]
    assert titles == ["softmax: total loss", "mask", *bags]
    # raw and smooth, and where there is one the loss of the validation data
    assert [len(axes.lines) for axes in figure.axes] == [2, 2, 3, 2, 3, 2, 2]
    assert [line.tolist() for line in figure.axes[2].lines[2].get_data()] == [[8], [0.9]]
    plot_loss_curves(tmp_path / "one.png", {"softmax": short})
    plot_loss_curves(tmp_path / "two.png", {"softmax": short, "bags": long})
    assert size_of(tmp_path / "two.png")[1] > 1.9 * size_of(tmp_path / "one.png")[1]


def test_stages_of_a_cascade_keep_their_number() -> None:
    names = ("loss_mask", "s1.loss_classifier", "s2.loss_group_1", "s2.loss_group_0", "loss_group_9")
    titles = ["mask", "s1.classifier", "s2.group 1: few", "s2.gate: object or background", "group 9"]
    assert [loss_title(name, ["few"]) for name in names] == titles


def test_curves_of_nothing_are_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "m.jsonl", [{"step": 1, "bbox_AP": 0.1}])
    with pytest.raises(DataError, match="no line has a loss"):
        plot_loss_curves(tmp_path / "out.png", {"run": path})
    with pytest.raises(DataError, match="no run to draw"):
        plot_loss_curves(tmp_path / "out.png", {})
    assert not (tmp_path / "out.png").exists()


def test_group_bars_grow_with_runs_and_take_missing_values(tmp_path: Path) -> None:
    first, second = group_metrics(0.2, [0.0, 0.3, None]), group_metrics(0.3, [0.1, 0.4, None])
    plot_group_ap(tmp_path / "one.png", {"softmax": first})
    plot_group_ap(tmp_path / "four.png", {"a": first, "b": second, "c": first, "d": second})
    one, four = size_of(tmp_path / "one.png"), size_of(tmp_path / "four.png")
    assert one[1] == four[1] > 400
    assert four[0] > one[0] > 700


@pytest.mark.parametrize(("ap", "top", "text"), [(0.0004, 10, "0.04"), (0.02, 10, "2.0"), (0.5, 56, "50.0")])
def test_an_axis_never_makes_next_to_nothing_look_like_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ap: float, top: float, text: str
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr("lt_train.report.group_bars.save_figure", lambda figure, path: drawn.append(figure))
    plot_group_ap(tmp_path / "x.png", {"run": group_metrics(ap, [ap, None])})
    (axes,) = drawn[0].axes
    assert axes.get_ylim() == pytest.approx((0, top))
    assert [label.get_text() for label in axes.texts] == [text, text, "-"]


def test_group_bars_refuse_what_cannot_be_compared(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="different groups"):
        plot_group_ap(tmp_path / "x.png", {"a": group_metrics(0.1, [0.1]), "b": group_metrics(0.1, [0.1, 0.2])})
    with pytest.raises(DataError, match="no segm results"):
        plot_group_ap(tmp_path / "x.png", {"a": group_metrics(0.1, [0.1])}, "segm")
    with pytest.raises(DataError, match="nothing to compare"):
        plot_group_ap(tmp_path / "x.png", {})


@pytest.mark.parametrize("groups", [1, 8, pytest.param(7, marks=pytest.mark.slow), 40])
def test_every_group_of_a_search_has_a_line_of_its_own(tmp_path: Path, groups: int) -> None:
    """None looks like another, and only all classes together are black."""
    shares = {f"[{100 * i}, {100 * i + 100})": i / groups if i else None for i in range(groups)}
    tried = [{"bbox": {"AP": ap, "groups": shares}} for ap in (0.2, 0.3)]
    figure = search_figure("tau", [0.0, 1.0], tried)
    lines = figure.axes[0].get_lines()
    assert [line.get_label() for line in lines] == ["all classes", *(f"{name} instances" for name in shares)]
    assert lines[-1].get_ydata().tolist() == pytest.approx([100 * (groups - 1) / groups or np.nan] * 2, nan_ok=True)
    looks = {(line.get_color(), line.get_linestyle(), line._unscaled_dash_pattern) for line in lines}
    assert len(looks) == groups + 1
    assert [line.get_color() == "#000000" for line in lines] == [True] + [False] * groups
    figure.draw_without_rendering()
    legend, whole = figure.axes[0].get_legend().get_window_extent(), figure.bbox
    assert 0 <= legend.y0 < legend.y1 <= whole.y1
    assert legend.x1 <= whole.x1
    plot_search(tmp_path / "search.png", "tau", [0.0, 1.0], tried)
    assert size_of(tmp_path / "search.png") == (whole.width, int(whole.height))


def test_grid_of_truth_and_predictions(tmp_path: Path) -> None:
    masks = np.zeros((2, 40, 60), bool)
    masks[0, 5:15, 3:9] = True
    some = Found([0.9, 0.2, 0.5], [True, False, False], np.array([[1.0, 1.0, 9.0, 9.0]]))
    panels = [panel(2, masks=masks, title="image 7"), panel(3, found=some), panel(1), panel(0, found=Found([]))]
    plot_predictions(tmp_path / "grid.png", panels, columns=["ground truth", "bags"], groups=["(0, 10)", "[10, ~)"])
    width, height = size_of(tmp_path / "grid.png")
    assert width > 700
    assert height > 700
    plot_predictions(tmp_path / "row.png", panels[:2], columns=["ground truth", "bags"])
    assert size_of(tmp_path / "row.png")[1] < height


def test_grid_shows_the_masks(tmp_path: Path) -> None:
    masks = np.zeros((1, 40, 60), bool)
    masks[0, 8:18, 3:9] = True
    plot_predictions(tmp_path / "with.png", [panel(1, masks=masks)], columns=["x"])
    plot_predictions(tmp_path / "without.png", [panel(1)], columns=["x"])
    assert (tmp_path / "with.png").read_bytes() != (tmp_path / "without.png").read_bytes()


def test_panels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 panels do not fill rows of 2"):
        plot_predictions(tmp_path / "x.png", [panel(1)] * 3, columns=["a", "b"])
    with pytest.raises(ValueError, match="panel 0: 2 scores for 1 names"):
        plot_predictions(tmp_path / "x.png", [panel(1, found=Found([0.1, 0.2]))], columns=["a"])
    with pytest.raises(ValueError, match="panel 0: 2 marks for 1 names"):
        plot_predictions(tmp_path / "x.png", [panel(1, found=Found([0.1], [True, False]))], columns=["a"])
    with pytest.raises(ValueError, match="masks of"):
        plot_predictions(tmp_path / "x.png", [panel(1, masks=np.zeros((1, 4, 4), bool))], columns=["a"])


def test_reports_load_neither_torch_nor_matplotlib() -> None:
    modules = ["two_runs", "curves", "group_bars", "prediction_grid", "search_curve", "class_dots", "confusion_picture"]
    code = "".join(f"import lt_train.report.{name}\n" for name in modules)
    code += "import sys; print(sorted({'torch', 'matplotlib', 'pandas', 'PIL'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
