"""Pictures of counts: valid PNG and SVG files, the same bytes again, text as it is, nothing half-written."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.text import Text
from PIL import Image

from lt_data.counts.group_stats import GroupCounts
from lt_data.errors import OutputError
from lt_data.pictures.figures import (
    alignment_figure,
    category_label,
    groups_figure,
    new_figure,
    plain,
    plot_alignment,
    plot_groups,
    save_figure,
)

GROUPS = [
    GroupCounts("(0, 10)", 0, 10, 3, 4, 7),
    GroupCounts("[10, 100)", 10, 100, 5, 120, 208),
    GroupCounts("[100, ~)", 100, None, 0, 0, 0),
]


def assert_picture(path: Path, *, wider_than: int, higher_than: int) -> None:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.width > wider_than
        assert picture.height > higher_than
        # not one empty sheet
        assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 20


def draw_alignment(path: Path, pool: list[int], targets: list[int]) -> None:
    count = len(pool)
    plot_alignment(
        path,
        pool_instances=np.array(pool),
        reference_instances=np.array([500, 80, 20, 3, 1]),
        reference_positions=np.arange(count) * 4 // max(count - 1, 1),
        targets=np.array(targets),
        realised=np.minimum(pool, targets),
        pool_name="pool.json",
        reference_name="lvis-v0.5",
    )


def test_alignment_is_drawn_the_same_twice(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        draw_alignment(tmp_path / name, [900, 400, 30], [500, 20, 1])
    assert_picture(tmp_path / "a.png", wider_than=1000, higher_than=400)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_alignment_with_a_single_category_and_with_shortage(tmp_path: Path) -> None:
    draw_alignment(tmp_path / "one.png", [7], [3])
    draw_alignment(tmp_path / "short.png", [900, 10, 0], [500, 20, 1])
    draw_alignment(tmp_path / "enough.png", [900, 30, 1], [500, 20, 1])
    for name in ("one.png", "short.png", "enough.png"):
        assert_picture(tmp_path / name, wider_than=1000, higher_than=400)
    with Image.open(tmp_path / "short.png") as short, Image.open(tmp_path / "enough.png") as enough:
        red = (192, 0, 0)
        assert red in {colour for _, colour in short.convert("RGB").getcolors(1 << 20) or []}
        assert red not in {colour for _, colour in enough.convert("RGB").getcolors(1 << 20) or []}


def test_groups_with_an_empty_one(tmp_path: Path) -> None:
    plot_groups(tmp_path / "new" / "groups.png", GROUPS, "a title")
    assert_picture(tmp_path / "new" / "groups.png", wider_than=900, higher_than=300)


def test_groups_need_nothing_but_four_fields(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Mine:
        name: str
        categories: int
        images: int
        instances: int

    plot_groups(tmp_path / "a.png", [Mine(g.name, g.categories, g.images, g.instances) for g in GROUPS], "t")
    plot_groups(tmp_path / "b.png", GROUPS, "t")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_an_existing_picture_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "groups.png"
    path.write_text("old")
    plot_groups(path, GROUPS, "t")
    assert_picture(path, wider_than=900, higher_than=300)
    assert [p.name for p in tmp_path.iterdir()] == ["groups.png"]


def test_a_failure_keeps_the_old_picture_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "groups.png"
    path.write_text("old")
    figure = new_figure(2, 2)
    figure.text(0.5, 0.5, "$\\nosuchcommand$")
    with pytest.raises(ValueError, match="nosuchcommand"):
        save_figure(figure, path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["groups.png"]


def test_a_place_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"groups\.png: cannot be written"):
        plot_groups(tmp_path / "file" / "groups.png", GROUPS, "t")


def test_an_svg_is_drawn_the_same_twice_and_bears_no_date(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        figure = new_figure(2, 2)
        # markers, clipping and letters all get names of their own
        figure.subplots().plot([1, 2], [3, 4], "o-")
        save_figure(figure, tmp_path / name)
    content = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert content == (tmp_path / "b.svg").read_text(encoding="utf-8")
    assert content.startswith("<?xml")
    assert "</svg>" in content
    assert "dc:date" not in content


def test_the_salt_of_svg_names_is_given_back(tmp_path: Path) -> None:
    from matplotlib import rcParams

    before = rcParams["svg.hashsalt"]
    save_figure(new_figure(1, 1), tmp_path / "a.svg")
    assert rcParams["svg.hashsalt"] == before


@pytest.mark.parametrize("name", ["a.jpg", "a", "a.svg.gz"])
def test_other_endings_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"written as \.png or \.svg"):
        save_figure(new_figure(1, 1), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def texts_of(figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_alignment_of_targets_without_a_reference_is_one_panel() -> None:
    figure = alignment_figure(
        pool_instances=np.array([9, 4]),
        reference_instances=np.zeros(0, np.int64),
        reference_positions=np.array([-1, -1]),
        targets=np.array([5, 4]),
        realised=np.array([5, 3]),
        pool_name="pool",
        reference_name="targets.csv",
    )
    assert len(figure.axes) == 1
    assert {"target (9 instances)", "realised (8 instances)"} <= set(texts_of(figure))


def test_reference_counts_that_are_not_known_leave_no_gap_in_the_line() -> None:
    figure = alignment_figure(
        pool_instances=np.array([9, 4, 2]),
        reference_instances=np.array([50, 0, 0, 7, 0, 0, 1]),
        reference_positions=np.array([0, 3, 6]),
        targets=np.array([9, 4, 1]),
        realised=np.array([9, 4, 1]),
        pool_name="pool",
        reference_name="$a$",
    )
    by_label = {line.get_label(): line for line in figure.axes[0].get_lines()}
    line = by_label[r"\$a\$ (reference)"]
    np.testing.assert_array_equal(line.get_xydata(), [[0, 50], [0.5, 7], [1, 1]])


def test_text_is_shortened_in_the_middle_and_names_the_font_lacks_become_ids() -> None:
    assert plain("a\n  b\t c") == "a b c"
    assert plain("trailer_(for_transporting)", 12) == "trailer\u2026ing)"
    assert plain("caf\u00e9 \u4e2d") == "caf\u00e9 ?"
    assert category_label("caf\u00e9", 3) == "caf\u00e9"
    assert category_label("\u4e2d\u6587", 3) == "id 3"
    assert plain("cup\u202e (id 3)\u2066") == "cup (id 3)"
    assert category_label("\u202e\u200f", 3) == "id 3"


@settings(max_examples=40)
@given(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("$\\{}^_ab"), max_size=90))
def test_no_text_is_taken_for_a_formula_or_has_no_glyph(name: str) -> None:
    import warnings

    figure = new_figure(1, 1)
    figure.text(0.5, 0.5, plain(name, 30))
    figure.text(0.5, 0.5, category_label(name or "x", 7))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.draw_without_rendering()
    assert len(plain(name, 30).replace(r"\$", "$")) <= 30


def test_the_title_of_groups_may_hold_dollars(tmp_path: Path) -> None:
    assert r"\$x\$.json" in texts_of(groups_figure(GROUPS, "$x$.json"))


def test_matplotlib_waits_until_it_is_needed_and_pyplot_is_never_loaded(tmp_path: Path) -> None:
    code = f"""
import sys
from lt_data.pictures.figures import new_figure, save_figure
print("matplotlib" in sys.modules)
save_figure(new_figure(1, 1), {str(tmp_path / "a.png")!r})
print("matplotlib" in sys.modules, "matplotlib.pyplot" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "False"]


@pytest.mark.parametrize("most", [1, 9, 70, 262_465, 9_000_000_000])
@pytest.mark.parametrize("with_reference", [True, False])
def test_the_texts_of_an_alignment_lie_within_the_picture_and_apart(most: int, with_reference: bool) -> None:
    """Its margins are fixed, whatever the numbers and the names are."""
    pool = np.unique(np.geomspace(1, most, 80).astype(np.int64))[::-1]
    figure = alignment_figure(
        pool_instances=pool,
        reference_instances=pool if with_reference else pool[:0],
        reference_positions=np.arange(len(pool)),
        targets=pool,
        realised=pool,
        pool_name="x" * 60,
        reference_name="y" * 60,
    )
    figure.draw_without_rendering()
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    assert len(boxes) == 1 + with_reference
    for box in boxes:
        assert box.x0 > 0
        assert box.y0 > 0
        assert box.x1 < figure.bbox.x1
        assert box.y1 < figure.bbox.y1
    assert not with_reference or boxes[0].x1 < boxes[1].x0
    for axes in figure.axes:
        shown = [tick.get_text() for tick in axes.get_yticklabels() if tick.get_text()]
        assert shown
        assert len(set(shown)) == len(shown)
