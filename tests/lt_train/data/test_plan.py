"""The order of images: complete, repeatable, resumable."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_train.data.plan import Plan, image_copies


def make_plan(images=10, batch=2, accumulate=1, epochs=3, iterations=None, **more):
    return Plan(0, images, batch, accumulate, epochs, iterations, **more)


def flat(steps):
    return [draw for step in steps for batch in step.batches for draw in batch]


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3))
def test_every_image_once_an_epoch(images, batch, accumulate, epochs):
    plan = make_plan(images, batch, accumulate, epochs)
    steps = list(plan.steps())
    assert len(steps) == plan.total_steps() == sum(s.ends_epoch for s in steps) * plan.epoch_steps(0)
    assert [step.index for step in steps] == list(range(len(steps)))
    for epoch in range(epochs):
        draws = [d for d in flat(steps) if d.epoch == epoch]
        assert sorted(d.row for d in draws) == list(range(images))
        assert [d.position for d in draws] == list(range(images))
    assert all(len(b) <= batch for s in steps for b in s.batches)
    assert all(len(s.batches) <= accumulate for s in steps)


@given(st.integers(1, 30), st.integers(1, 4), st.integers(0, 40), st.booleans())
def test_going_on_after_any_step_gives_the_same_steps(images, batch, done, by_iterations):
    plan = make_plan(images, batch, 2, 3, 17 if by_iterations else None)
    assert list(plan.steps(done)) == list(plan.steps())[done:]


def test_batch_does_not_change_the_order():
    rows = [[d.row for d in flat(make_plan(batch=b, accumulate=a).steps())] for b, a in ((1, 1), (2, 2), (5, 1))]
    assert rows[0] == rows[1] == rows[2]


def test_epochs_and_seeds_differ():
    plan = make_plan(images=30)
    assert plan.epoch_rows(0) != plan.epoch_rows(1)
    assert plan.epoch_rows(0) != Plan(1, 30, 2, 1, 3).epoch_rows(0)


@given(st.lists(st.floats(1, 8), min_size=1, max_size=30), st.sampled_from(["stochastic", "ceil", "bags"]))
def test_copies_follow_the_factors(factors, rounding):
    factors = np.array(factors)
    plan = make_plan(len(factors), factors=factors, rounding=rounding)
    copies = image_copies(factors, rounding, 0, 1)
    seen = Counter(plan.epoch_rows(1))
    assert [seen[i] for i in range(len(factors))] == copies.tolist()
    expected = {"ceil": np.ceil(factors), "bags": np.where(factors > 1, 1 + np.ceil(factors), 1)}
    if rounding in expected:
        assert copies.tolist() == expected[rounding].tolist()
    else:
        assert (np.abs(copies - factors) < 1).all()


def test_stochastic_rounding_has_the_right_mean():
    copies = [image_copies(np.full(500, 1.3), "stochastic", 0, epoch).mean() for epoch in range(20)]
    assert np.mean(copies) == pytest.approx(1.3, abs=0.02)


def test_lvis_v05_epoch_of_the_released_bags_code(shared_data):
    from lt_data.repeat_factors import category_repeat_factors

    path = shared_data / "lvis_v0.5_category_image_index/lvis_v0.5_train_category_to_image_ids.json"
    index = [entry["image_ids"] for entry in json.loads(path.read_text()).values()]
    images, row = np.unique(np.concatenate(index), return_inverse=True)
    counts = np.array([len(ids) for ids in index])
    factors = np.ones(len(images))
    np.maximum.at(factors, row, np.repeat(category_repeat_factors(counts, len(images), 0.001), counts))
    assert image_copies(factors, "bags", 0, 0).sum() == 80_488
    assert image_copies(factors, "stochastic", 0, 0).sum() == pytest.approx(64_858, rel=0.005)
