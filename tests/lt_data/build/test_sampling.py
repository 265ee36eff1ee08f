"""Choosing images, against a plain reading of the contract."""

import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lt_data.annotations.file import read_annotations
from lt_data.build.sampling import image_order, select
from tests.lt_data.pools import pool, save

C = 5
IMAGES = st.dictionaries(
    st.integers(1, 10**7),
    st.lists(st.one_of(st.integers(1, C), st.tuples(st.integers(1, C), st.just("crowd"))), max_size=8),
    min_size=1,
    max_size=20,
)


def oracle(content, targets, serving, seed):
    """The contract, sentence by sentence, on plain lists."""
    order = sorted(content["images"], key=lambda i: hashlib.sha256(f"{seed}:{i['id']}".encode()).digest())
    have, taken, kept = dict.fromkeys(targets, 0), set(), set()
    for category in serving:
        for image in order:
            if have[category] >= targets[category]:
                break
            here = [a for a in content["annotations"] if a["image_id"] == image["id"] and not a["iscrowd"]]
            if image["id"] in taken or all(a["category_id"] != category for a in here):
                continue
            taken.add(image["id"])
            for a in here:
                if have[a["category_id"]] < targets[a["category_id"]]:
                    have[a["category_id"]] += 1
                    kept.add(a["id"])
    return taken, kept, have


@given(IMAGES, st.lists(st.integers(1, 6), min_size=C, max_size=C), st.permutations(range(1, C + 1)), st.integers(0, 9))
def test_equals_the_contract(tmp_path_factory, images, targets, serving, seed):
    content = pool(images, categories=range(1, C + 1))
    file = read_annotations(save(content, tmp_path_factory.mktemp("pool") / "a.json"))
    ids = np.arange(1, C + 1)
    chosen = select(file, ids, np.array(targets), serving_order=np.array(serving) - 1, seed=seed)
    taken, kept, have = oracle(content, dict(zip(ids.tolist(), targets, strict=True)), serving, seed)
    assert set(file.image_ids[chosen.images].tolist()) == taken
    assert set(file.annotation_ids[chosen.annotations].tolist()) == kept
    assert chosen.instances.tolist() == [have[c] for c in ids.tolist()]
    available = np.bincount(file.annotation_category_ids[~file.crowd] - 1, minlength=C)
    np.testing.assert_array_equal(chosen.instances, np.minimum(targets, available))


def test_order_is_pinned():
    # sha256 of "0:1" ... "0:6", so that the order can never change unnoticed
    ids = np.array([1, 2, 3, 4, 5, 6])
    expected = sorted(range(6), key=lambda i: hashlib.sha256(f"0:{i + 1}".encode()).hexdigest())
    assert image_order(ids, 0).tolist() == expected
    assert image_order(ids, 1).tolist() != expected


def test_order_does_not_depend_on_the_file_order():
    ids = np.array([9, 4, 77, 15, 3])
    forward = ids[image_order(ids, 3)].tolist()
    backward = ids[::-1][image_order(ids[::-1], 3)].tolist()
    assert forward == backward
