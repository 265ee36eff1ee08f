"""COCO-LT from a file of the official size and the real counts (about 450 MB): minutes, not seconds."""

import subprocess
import sys
from pathlib import Path

import pytest

from lt_data.build.coco_lt import build_coco_lt
from lt_data.build.result import totals
from lt_data.counts.group_stats import group_stats

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def official_size(shared_data, tmp_path_factory):
    tool = shared_data.parent / "tools/make_full_size.py"
    if not tool.is_file():
        pytest.skip("the generator of official-size files is not here")
    path = tmp_path_factory.mktemp("full") / "instances_train2017.json"
    subprocess.run([sys.executable, tool, "coco", path], check=True, timeout=1200)
    yield path
    path.unlink()


def test_coco_lt_of_the_official_size(official_size: Path, tmp_path):
    build = build_coco_lt(official_size, tmp_path / "coco_lt")
    assert totals(build)["instances"] == 64_504
    assert totals(build)["categories"] == 80
    assert [len(g.category_ids) for g in build.groups] == [19, 29, 20, 12]
    stats = group_stats(tmp_path / "coco_lt")
    assert stats.instances == 64_504
    assert [g.categories for g in stats.groups] == [19, 29, 20, 12]


def test_lvis_file_as_reference_equals_the_embedded_one(shared_data, official_size, tmp_path):
    tool = shared_data.parent / "tools/make_full_size.py"
    path = tmp_path / "lvis_v0.5_train.json"
    subprocess.run([sys.executable, tool, "lvis0", path], check=True, timeout=1200)
    by_file = build_coco_lt(official_size, None, reference=path)
    assert by_file.alignment.targets.sum() == 64_504
    assert by_file.warnings == ()
    by_name = build_coco_lt(official_size, None)
    assert (by_file.selection.annotations == by_name.selection.annotations).all()
