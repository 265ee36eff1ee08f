import pytest

from lt_data.text_tables import WIDTH
from lt_train.evaluation.comparison.published import FIGURES, format_published, our_figures, read_published

# classes of each mean: fixed category lists of COCO-LT, categories of LVIS v0.5 that occur in its validation set
CLASSES = {
    "coco-lt": [4, 24, 32, 20],
    "coco-lt-simcal": [4, 24, 32, 20],
    "lvis-v0.5": [67, 298, 284, 181],
}


def weighted(figures, names, counts):
    values = [figures[name] for name in names]
    return None if None in values else sum(v * n for v, n in zip(values, counts, strict=True)) / sum(counts)


@pytest.mark.parametrize(("paper", "rows"), [("coco-lt", 12), ("lvis", 7)])
def test_groups_weighted_by_their_classes_give_ap(paper, rows):
    """A digit that was copied wrongly shows here."""
    checked = 0
    for row in read_published(paper):
        mean = weighted(row.figures, ["AP1", "AP2", "AP3", "AP4"], CLASSES.get(row.dataset, [1] * 4))
        if mean is not None:
            assert mean == pytest.approx(row.figures["AP"], abs=0.08), row
            checked += 1
    assert checked >= rows


def test_frequencies_weighted_by_their_classes_give_ap_of_lvis_v0_5():
    checked = 0
    for row in read_published("lvis"):
        mean = weighted(row.figures, ["APr", "APc", "APf"], [125, 392, 313])
        if row.dataset == "lvis-v0.5" and mean is not None:
            assert mean == pytest.approx(row.figures["AP"], abs=0.1), row
            checked += 1
    assert checked > 15


@pytest.mark.parametrize("paper", ["coco-lt", "lvis"])
def test_every_row_is_a_figure_with_a_source(paper):
    rows = read_published(paper)
    for row in rows:
        assert row.model
        assert row.method
        assert row.source
        assert row.iou_type in ("bbox", "segm")
        assert row.figures["AP"] is not None
        assert set(row.figures) == set(FIGURES)
        assert all(value is None or 0 <= value < 60 for value in row.figures.values())
    keys = [(row.dataset, row.table, row.model, row.method, row.iou_type) for row in rows]
    assert len(set(keys)) == len(keys)


def test_main_rows():
    rows = {(r.dataset, r.table, r.model, r.method, r.iou_type): r for r in read_published("lvis")}
    bags = rows["lvis-v0.5", "main table", "Mask R-CNN R50-FPN", "BAGS", "segm"]
    assert (bags.figures["AP"], bags.figures["APr"], bags.figures["APf"]) == (26.25, 17.97, None)
    bags = rows["lvis-v0.5", "main table", "Faster R-CNN R50-FPN", "BAGS", "bbox"]
    assert [bags.figures[name] for name in ("AP", "AP50", "AP75", "APr", "APc", "APf")] == [
        *(25.96, 43.58, 27.15),
        *(17.66, 25.75, 29.55),
    ]


def metrics(groups, *, ap=0.2, classes=(19, 29, 20, 12), frequency=(None, 0.1, 0.2)):
    block = {"AP": ap, "AP50": 0.4, "AP75": None, "groups": groups}
    block["frequency"] = dict(zip("rcf", frequency, strict=True))
    counts = {
        "AP": sum(classes),
        "groups": dict(zip(groups, classes, strict=False)),
        "frequency": {"r": 1, "c": 2, "f": 3},
    }
    return {"schema": 1, "bbox": block, "counts": {"classes": counts}}


FOUR = {"(0, 10)": 0.011, "[10, 100)": None, "[100, 1000)": 0.3, "[1000, ~)": 0.4}


def below(lines, name):
    """The figures of a row."""
    return lines[lines.index(name) + 1].split()


@pytest.mark.parametrize("paper", ["coco-lt", "lvis"])
def test_rows_fit_a_terminal(paper):
    text = format_published(paper, {"run": metrics(FOUR)}, iou_types=["bbox"])
    rows = [line for line in text.splitlines() if not line.startswith(("not comparable", "["))]
    assert max(map(len, rows)) <= WIDTH


def test_ours_beside_published():
    text = format_published("coco-lt", {"my run": metrics(FOUR, classes=(4, 24, 32, 20))}, iou_types=["bbox"])
    lines = text.splitlines()
    assert lines[0] == "coco-lt bbox"
    assert lines[1].split() == ["AP", "AP50", "AP1", "AP2", "AP3", "AP4", "APc", "APf"]
    assert below(lines, "ours: my run") == ["20.0", "40.0", "1.1", "-", "30.0", "40.0", "10.0", "20.0"]
    figures = below(lines, "published: Faster R-CNN R50-FPN, BAGS [1]")
    assert figures[:6] == ["22.5", "-", "13.0", "18.6", "24.1", "26.4"]
    assert "[1] BAGS (CVPR 2020), supplement, table 2" in lines
    assert "segm" not in text
    assert "not comparable" not in text


def test_means_over_other_classes_are_named():
    text = format_published("coco-lt", {"my run": metrics(FOUR)}, iou_types=["bbox"])
    line = next(line for line in text.splitlines() if line.startswith("not comparable"))
    assert line == (
        "not comparable: AP1, AP2, AP3, AP4 of my run: the means are over 19/29/20/12 classes, those of the published "
        "coco-lt figures over 4/24/32/20"
    )


def test_other_groups_have_no_published_name():
    text = format_published("coco-lt", {"run": metrics({"(0, 100)": 0.1, "[100, ~)": 0.2})}, iou_types=["bbox"])
    assert below(text.splitlines(), "ours: run") == ["20.0", "40.0", "-", "-", "-", "-", "10.0", "20.0"]


def test_unknown_paper():
    with pytest.raises(ValueError, match="paper must be one of coco-lt, lvis, got 'voc'"):
        read_published("voc")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["(0, 10)", "[10, 100)", "[100, 1000)", "[1000, ~)"], [10.0, 20.0, 30.0, 40.0]),
        (["birds", "cups", "cars", "rest"], [None] * 4),
    ],
)
def test_only_groups_by_bounds_stand_beside_published_ones(names, expected):
    groups = dict(zip(names, (0.1, 0.2, 0.3, 0.4), strict=True))
    metrics = {"bbox": {"AP": 0.25, "AP50": 0.5, "AP75": 0.2, "groups": groups, "frequency": {}}}
    figures = our_figures(metrics, "bbox")
    assert [figures[name] for name in ("AP1", "AP2", "AP3", "AP4")] == pytest.approx(expected)
