"""The map of methods: names of points that lie close together can be read."""

import pytest
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from lt_train.report import method_map
from lt_train.report.method_map import plot_methods
from lt_train.report.two_runs import Spread


def one(value):
    return Spread(value, value, value, 1)


@pytest.mark.parametrize("points", [1, 2, 6])
def test_names_of_close_points_do_not_cover_each_other(points, tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(method_map, "save_figure", lambda figure, path: saved.append(figure))
    close = {f"method-{n}": (one(20 + n / 100), one(5 - n / 100)) for n in range(points)}
    plot_methods(
        tmp_path / "a.png",
        {**close, "far": (one(30), one(9)), "low": (one(10), one(1))},
        labels=("x", "y"),
        marked="far",
    )
    (axes,) = saved[0].axes
    assert [text.get_text() for text in axes.texts] == [*close, "far", "low"]
    # as they are saved: names move nothing, and stay inside
    saved[0].draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in axes.texts]
    assert all(Bbox.intersection(box, axes.bbox).bounds == pytest.approx(box.bounds) for box in boxes)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
