"""The order of images: complete, repeatable, resumable."""

import json
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_train.data.plan import BiLevel, Plan, class_aware_rows, image_copies, rows_by_orientation
from lt_train.runs.data import load_run_data
from lt_train.runs.data import make_plan as plan_of


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
    plan = make_plan(len(factors), factors=factors, rounding=rounding, whole_passes=True)
    copies = image_copies(factors, rounding, 0, 1)
    seen = Counter(plan.epoch_rows(1))
    assert [seen[i] for i in range(len(factors))] == copies.tolist()
    expected = {"ceil": np.ceil(factors), "bags": np.where(factors > 1, 1 + np.ceil(factors), 1)}
    if rounding in expected:
        assert copies.tolist() == expected[rounding].tolist()
    else:
        assert (np.abs(copies - factors) < 1).all()


@given(st.lists(st.floats(1, 8), min_size=1, max_size=30), st.integers(1, 4), st.integers(1, 4))
def test_an_epoch_is_as_long_as_the_data_whatever_the_sampler(factors, batch, epochs):
    """Equal budget: repeat factors and classes change which images are seen, not how many."""
    count = len(factors)
    classes = (np.arange(count), np.array([0]))
    plans = [
        make_plan(count, batch, epochs=epochs),
        make_plan(count, batch, epochs=epochs, factors=np.array(factors)),
        make_plan(count, batch, epochs=epochs, class_rows=classes),
    ]
    for plan in plans:
        assert len(flat(plan.steps())) == epochs * count == plan.total_images()
        assert plan.total_steps() == plans[0].total_steps()
        assert plan.seen(plan.total_steps()).sum() == epochs * count


def test_part_of_a_pass_follows_the_factors():
    """The images of an epoch are a fair share of the repeated list: mean over many epochs within 5 deviations."""
    factors = np.array([1.0, 1, 1, 1, 4, 2])
    plan = make_plan(6, factors=factors, rounding="ceil")
    seen = np.mean([np.bincount(plan.epoch_rows(epoch), minlength=6) for epoch in range(2000)], axis=0)
    np.testing.assert_allclose(seen, 6 * factors / factors.sum(), atol=5 * (1 / 2000) ** 0.5)


CLASSES = st.lists(
    st.lists(st.integers(0, 19), min_size=1, max_size=8, unique=True).map(sorted), min_size=1, max_size=6
)


@given(CLASSES, st.integers(0, 40), st.integers(1, 60))
def test_class_aware_sampling_takes_turns(classes, start, length):
    classes = [np.array(own) for own in classes]
    rows = class_aware_rows(classes, start, length, 0)
    assert rows == class_aware_rows(classes, 0, start + length, 0)[start:]
    # every round has one image of each class: some assignment of its images to the classes exists
    whole = class_aware_rows(classes, 0, 4 * len(classes), 0)
    for first in range(0, len(whole), len(classes)):
        turn = whole[first : first + len(classes)]
        assert any(all(row in own for row, own in zip(order, classes, strict=True)) for order in permutations(turn))


def test_class_aware_sampling_goes_through_a_class_before_repeating():
    rows = class_aware_rows([np.arange(5), np.array([9])], 0, 20, 3)
    own = [row for row in rows if row < 9]
    assert len(own) == rows.count(9) == 10
    assert sorted(own[:5]) == sorted(own[5:]) == list(range(5))
    assert own[:5] != own[5:]


@given(CLASSES, st.integers(1, 4), st.integers(1, 3), st.integers(1, 6), st.integers(0, 20), st.booleans())
def test_bi_level_sampling_draws_a_class_and_an_image_that_holds_it(classes, batch, accumulate, steps, done, grouped):
    """A pass is so many steps; a run goes on after any step; what was seen of a class are the draws of that class."""
    labels = np.arange(3, 3 + 2 * len(classes), 2)
    bi_level = BiLevel(labels, tuple(np.array(own) for own in classes), steps)
    upright = np.arange(20) % 3 == 0 if grouped else None
    plan = make_plan(20, batch, accumulate, epochs=3, bi_level=bi_level, whole_passes=True, upright=upright)
    taken = list(plan.steps())
    assert len(taken) == 3 * steps == plan.total_steps()
    assert all(step.images == batch * accumulate for step in taken)
    holds = dict(zip(labels.tolist(), classes, strict=True))
    assert all(draw.row in holds[draw.label] for draw in flat(taken))
    assert list(plan.steps(done)) == taken[done:]
    held = Counter((draw.row, draw.label) for draw in flat(taken[:done]))
    pairs = np.array([(row, label) for label, own in holds.items() for row in own])
    seen = plan.seen_objects(min(done, len(taken)), *pairs.T)
    assert seen.tolist() == [held[row, label] for row, label in pairs.tolist()]


def test_bi_level_sampling_is_uniform_with_replacement_and_begins_alike():
    """64,000 draws of 16 classes, one of them with 500 images and one with one: within 5 deviations."""
    bi_level = BiLevel(np.arange(1, 17), (*[np.arange(500)] * 15, np.array([7])), 4000)
    rows, labels = bi_level.drawn(64_000, 0, 0)
    counts = np.bincount(labels, minlength=17)[1:]
    assert abs(counts - 4000).max() < 5 * 4000**0.5
    assert {row for row, label in zip(rows, labels, strict=True) if label == 16} == {7}
    images = np.bincount([row for row, label in zip(rows, labels, strict=True) if label < 16], minlength=500)
    assert abs(images - 120).max() < 5 * 120**0.5
    # among 16 draws of 16 classes nearly always one comes twice
    assert sum(len(set(labels[i : i + 16])) == 16 for i in range(0, 64_000, 16)) == 0
    assert bi_level.drawn(100, 0, 0) == (rows[:100], labels[:100])
    assert bi_level.drawn(100, 0, 1)[1] != labels[:100]
    assert bi_level.drawn(100, 1, 0)[1] != labels[:100]


@given(st.integers(1, 25), st.integers(1, 4), st.integers(1, 3), st.integers(0, 30), st.booleans())
def test_what_was_seen_is_what_the_steps_held(images, batch, accumulate, done, repeated):
    factors = np.linspace(1, 3, images) if repeated else None
    plan = make_plan(images, batch, accumulate, epochs=4, factors=factors, whole_passes=repeated)
    done = min(done, plan.total_steps())
    held = Counter(draw.row for draw in flat(list(plan.steps())[:done]))
    assert plan.seen(done).tolist() == [held[row] for row in range(images)]


def test_stochastic_rounding_has_the_right_mean():
    copies = [image_copies(np.full(500, 1.3), "stochastic", 0, epoch).mean() for epoch in range(20)]
    assert np.mean(copies) == pytest.approx(1.3, abs=0.02)


def test_lvis_v05_epoch_of_the_released_bags_code(shared_data):
    from lt_data.counts.repeat_factors import category_repeat_factors

    path = shared_data / "lvis_v0.5_category_image_index/lvis_v0.5_train_category_to_image_ids.json"
    index = [entry["image_ids"] for entry in json.loads(path.read_text()).values()]
    images, row = np.unique(np.concatenate(index), return_inverse=True)
    counts = np.array([len(ids) for ids in index])
    factors = np.ones(len(images))
    np.maximum.at(factors, row, np.repeat(category_repeat_factors(counts, len(images), 0.001), counts))
    assert image_copies(factors, "bags", 0, 0).sum() == 80_488
    assert image_copies(factors, "stochastic", 0, 0).sum() == pytest.approx(64_858, rel=0.005)


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 6), st.integers(1, 3), st.integers(0, 20))
def test_upright_images_have_batches_of_their_own(upright, batch, accumulate, done):
    """But for the last ones of an epoch; the images of an epoch stay, and a run goes on after any step."""
    kinds = np.array(upright)
    plan = make_plan(len(upright), batch, accumulate, 2, upright=kinds)
    steps = list(plan.steps())
    for epoch in range(2):
        rows = [d.row for d in flat(steps) if d.epoch == epoch]
        assert sorted(rows) == list(range(len(upright)))
        batches = [[d.row for d in b] for s in steps if s.epoch == epoch for b in s.batches]
        mixed = [i for i, b in enumerate(batches) if len({bool(kinds[row]) for row in b}) == 2]
        # fewer than two batches are left over
        assert mixed in ([], [len(batches) - 1], [len(batches) - 2])
        assert all(len(b) == batch for b in batches[:-1])
    assert list(plan.steps(done)) == steps[done:]
    assert plan.seen(len(steps)).tolist() == [2] * len(upright)


@given(st.permutations(range(12)), st.integers(1, 5), st.booleans())
def test_images_of_one_orientation_keep_their_order(rows, batch, kind):
    assert rows_by_orientation(rows, np.full(12, kind), batch) == rows


def test_a_batch_takes_the_place_at_which_it_became_full():
    upright = np.array([False, True, False, True, True, False, False])
    assert rows_by_orientation([0, 1, 2, 3, 4, 5, 6], upright, 2) == [0, 2, 1, 3, 5, 6, 4]
    assert rows_by_orientation([4, 0, 1, 2, 5, 3, 6], upright, 2) == [4, 1, 0, 2, 5, 6, 3]


def test_a_recipe_that_asks_for_it_groups_by_the_sizes_of_the_file(tiny_recipe, tiny_pool, tmp_path):
    content = json.loads((tiny_pool / "annotations.json").read_text())
    for image in content["images"][::3]:
        image["height"] += 1
    file = tmp_path / "a.json"
    file.write_text(json.dumps(content))
    asked = ("data.aspect_ratio_grouping=true", f"data.train.annotations={file}", "data.val=null")
    data = load_run_data(tiny_recipe(*asked))
    plan = plan_of(tiny_recipe(*asked), data)
    tall = {image["id"] for image in content["images"][::3]}
    ids = data.train.file.image_ids[data.dataset.rows]
    assert [int(i) in tall for i in ids] == plan.upright.tolist()
    assert plan_of(tiny_recipe(*asked[1:]), data).upright is None
