"""The bytes of build.json: the struct that reads it writes it, every key in its place."""

import hashlib
import json

import numpy as np
import pytest

from lt_data.build.coco_lt import build_coco_lt
from lt_data.build.result import Extras
from lt_data.dataset.options import BuildOptions
from lt_data.dataset.record import read_build_record
from tests.lt_data.pools import SMALL, pool, save

KEYS = [
    *("schema", "inputs", "rule", "options", "seed", "totals", "images_rarest_first", "dropped", "shortage"),
    *("warnings", "files"),
]
IGNORE = BuildOptions(3, "0.001", (2, 5), 0.1, on_shortage="cap", surplus="ignore", order="random")
EXPLICIT = BuildOptions(on_shortage="cap")


def val(tmp_path):
    return save(pool({1: [1, 2], 2: []}, categories=[90, 1, 2, 5, 8], names={2: 'a "b", \u00e9'}), tmp_path / "v.json")


def targets(tmp_path):
    path = tmp_path / "targets.csv"
    path.write_text("category_id,target\n1,40\n2,9\n5,300\n8,0\n90,2\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("options", "explicit", "with_val", "digest"),
    [
        (SMALL, False, False, "75a947c3160a8b03e9c202cbf8eceac5300131c3f445da74f606864238beae63"),
        (IGNORE, False, True, "ca4e013e942bee2b488441b1d7a54c5de452efec5616a11f20219ecbb14f825a"),
        (EXPLICIT, True, True, "b28086c025be214e1294e1e34b0859a5776c0f8ba48858a9c4f697234e2978df"),
    ],
    ids=["reference", "ignore", "targets"],
)
def test_bytes_of_a_build_record(small_pool, tmp_path, options, explicit, with_val, digest):
    extras = Extras(val=val(tmp_path) if with_val else None)
    wanted = targets(tmp_path) if explicit else None
    build_coco_lt(small_pool, tmp_path / "lt", options=options, targets=wanted, extras=extras)
    data = (tmp_path / "lt/build.json").read_bytes()
    record = json.loads(data)
    keys = list(record)
    assert [key for key in keys if key != "ignored"] == KEYS
    assert ("ignored" in keys) == (options.surplus == "ignore")
    assert list(record["inputs"]) == ["pool", "targets" if explicit else "reference", *(["val"] if with_val else [])]
    assert hashlib.sha256(data).hexdigest() == digest, data.decode()


def test_a_threshold_of_numpy_is_written_as_a_number(small_pool, tmp_path):
    options = BuildOptions(0, SMALL.scale, threshold=np.float64(0.25), on_shortage="cap")
    build_coco_lt(small_pool, tmp_path / "lt", options=options)
    assert b'"threshold": 0.25,' in (tmp_path / "lt/build.json").read_bytes()
    assert read_build_record(tmp_path / "lt").build_options().threshold == 0.25
