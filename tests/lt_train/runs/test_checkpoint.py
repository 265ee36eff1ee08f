"""Checkpoints that were damaged, changed or are of something else: each is one line, none is half used."""

import math
import os
import random
from contextlib import suppress

import pytest
import torch

from lt_data.errors import DataError, OutputError
from lt_train.detectors.weight_files import read_state_dict
from lt_train.runs.checkpoint import load_checkpoint, load_newest, save_checkpoint
from lt_train.runs.content import check_content, check_progress, load_optimizer, load_scaler, load_weights_into
from tests.lt_train.full_disk import files_take
from tests.lt_train.runs.checkpoints import content


def refusal(function, *args, **options):
    """The only line that it says."""
    with pytest.raises(DataError) as error:
        function(*args, **options)
    (line,) = error.value.problems
    return line


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return a == b


def test_what_was_saved_is_loaded(tmp_path):
    save_checkpoint(tmp_path / "last.pt", content())
    assert same(load_checkpoint(tmp_path / "last.pt"), {"format": 1, **content()})


def loaded_or_problems(path):
    try:
        return load_checkpoint(path)
    except DataError as error:
        return error.problems


def flipped(whole, rng):
    place = rng.randrange(len(whole))
    return whole[:place] + bytes([whole[place] ^ 1 << rng.randrange(8)]) + whole[place + 1 :]


def wiped(whole, rng):
    first = rng.randrange(len(whole))
    last = min(first + 512, len(whole))
    return whole[:first] + bytes(last - first) + whole[last:]


def cut(whole, rng):
    return whole[: rng.randrange(len(whole))]


def lengthened(whole, rng):
    return whole + rng.randbytes(16)


@pytest.mark.parametrize("damage", [flipped, wiped, cut, lengthened])
@pytest.mark.parametrize("count", [60, pytest.param(3000, marks=pytest.mark.slow)])
def test_damaged_bytes_are_a_line_or_change_nothing(tmp_path, damage, count):
    """What is loaded in spite of them, since they are between the members, is what was saved."""
    path, rng, refused = tmp_path / "last.pt", random.Random(count), 0
    save_checkpoint(path, content())
    whole, wanted = path.read_bytes(), {"format": 1, **content()}
    for _ in range(count):
        path.write_bytes(damage(whole, rng))
        loaded = loaded_or_problems(path)
        if isinstance(loaded, dict):
            assert same(loaded, wanted)
        else:
            refused += 1
            assert [line.startswith(f"{path}: ") for line in loaded] == [True]
    assert refused or damage is lengthened


def test_one_wrong_bit_of_a_weight_is_found_wherever_weights_are_read(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, content())
    whole = path.read_bytes()
    place = whole.index(torch.arange(6.0).numpy().tobytes()) + 9
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    assert "is damaged or cut short (archive/data/0 is not what was written)" in refusal(load_checkpoint, path)
    assert "is damaged or cut short" in refusal(read_state_dict, path)


WRONG = [None, True, -3, 1.5, math.nan, 2**70, "text", b"bytes", [], [1], {}, {"a": 1}, {1: {}}, torch.zeros(2)]


@pytest.mark.parametrize("name", content())
def test_every_entry_of_any_other_type_is_a_line(tmp_path, name):
    path = tmp_path / "last.pt"
    allowed = {"best": [None, 1.5], "val_sha256": [None], "scaler": [{}, {"a": 1}]}
    for value in WRONG:
        save_checkpoint(path, content(**{name: value}))
        if any(value is right or value == right for right in allowed.get(name, []) if not torch.is_tensor(value)):
            load_checkpoint(path)
        else:
            assert refusal(load_checkpoint, path).startswith(f"{path}: {name} is "), value


@pytest.mark.parametrize("name", ["model", "recipe", "categories", "train_sha256"])
def test_an_entry_that_is_missing_is_a_line(tmp_path, name):
    whole = content()
    del whole[name]
    save_checkpoint(tmp_path / "last.pt", whole)
    assert f"{name} is missing; it must be " in refusal(load_checkpoint, tmp_path / "last.pt")


@pytest.mark.parametrize("key", content()["categories"])
@pytest.mark.parametrize("value", [None, [], [1.5, 2], ["a"], [4, 4], [-9, -9], [True, False], "ab", [2**70, 1]])
def test_categories_that_are_none(tmp_path, key, value):
    path = tmp_path / "last.pt"
    fits = (key == "instances" and value == [4, 4]) or (key == "images" and value == [4, 4])
    fits |= key == "frequency_source" and value == "ab"
    save_checkpoint(path, content(categories={**content()["categories"], key: value}))
    if fits:
        load_checkpoint(path)
    else:
        assert ": categories is a dict; it must be the ids, names and counts" in refusal(load_checkpoint, path)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_weights_that_are_not_finite(tmp_path, number):
    bad = torch.full((2, 3), number)
    path = tmp_path / "last.pt"
    for name in ("model", "trained_model"):
        save_checkpoint(path, content(**{name: {"layer.weight": bad}}))
        assert f"{name} is not whole ('layer.weight' is wrong)" in refusal(load_checkpoint, path)
    optimizer = {"state": {0: {"momentum_buffer": bad}}, "param_groups": [{"params": [0]}]}
    save_checkpoint(path, content(optimizer=optimizer))
    assert "optimizer is " in refusal(load_checkpoint, path)


UNUSABLE = {
    "of no memory": lambda: torch.zeros(2, 3, device="meta"),
    "larger than the file": lambda: torch.zeros(1).expand(10**13),
    "of eight bits": lambda: torch.zeros(2, 3).to(torch.float8_e4m3fn),
    "of unequal rows": lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
    "of unequal rows in one block": lambda: torch.nested.nested_tensor(
        [torch.zeros(2), torch.zeros(3)], layout=torch.jagged
    ),
    "sparse": lambda: torch.zeros(2, 3).to_sparse_csr(),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", UNUSABLE)
def test_tensors_that_nothing_can_compute_with(tmp_path, kind):
    """Where PyTorch writes them at all: each is a line wherever it stands, and the entry is named."""
    path, bad = tmp_path / "last.pt", UNUSABLE[kind]()
    optimizer = {"state": {0: {"momentum_buffer": bad}}, "param_groups": [{"params": [0]}]}
    for name, value in {"model": {"a": bad}, "trained_model": {"a": bad}, "optimizer": optimizer}.items():
        assert f"{path}: {name} is " in refusal(check_content, content(**{name: value}), path)
        save_checkpoint(path, content(**{name: value}))
        assert refusal(load_checkpoint, path).startswith(f"{path}: ")


def test_lists_in_lists_in_lists(tmp_path):
    deep = []
    for _ in range(5000):
        deep = [deep]
    path = tmp_path / "last.pt"
    torch.save({"format": 1, **content(), "recipe": {"data": {}, "a": 1}}, path)
    load_checkpoint(path)
    assert "recipe is a dict" in refusal(check_content, content(recipe={"data": {}, "a": deep}), path)


@pytest.mark.parametrize(
    "recipe", [{"seed": 0}, {"data": {}, "schedule": 5}, {"data": {}, "sampler": [1]}, {"data": 1}]
)
def test_a_recipe_without_its_sections_is_none(tmp_path, recipe):
    path = tmp_path / "last.pt"
    save_checkpoint(path, content(recipe=recipe))
    assert f"{path}: recipe is a dict; it must be a recipe" in refusal(load_checkpoint, path)


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({}, "weight is missing"),
        ({"weight": torch.zeros(2, 2), "bias": torch.zeros(2)}, "bias has no place in the model"),
        ({"weight": torch.zeros(3, 2)}, "weight is 3x2 numbers, the model has 2x2 numbers"),
        ({"weight": torch.zeros(2, 2, dtype=torch.int64)}, "weight is 2x2 whole numbers, the model has 2x2 numbers"),
    ],
)
def test_weights_of_another_model_change_nothing(tmp_path, state, says):
    model = torch.nn.Linear(2, 2, bias=False)
    before = model.weight.detach().clone()
    assert says in refusal(load_weights_into, model, state, tmp_path / "last.pt")
    assert torch.equal(model.weight, before)


def test_many_problems_are_one_line(tmp_path):
    model = torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(4)))
    line = refusal(load_weights_into, model, {}, tmp_path / "last.pt")
    assert "0.bias is missing; 0.weight is missing; 1.bias is missing (and 5 more)" in line


@pytest.mark.parametrize(
    ("state", "groups"),
    [
        ({}, [0]),
        ({0: {"momentum_buffer": torch.zeros(3)}}, [0]),
        ({0: {"momentum_buffer": 1}}, [0]),
        ({0: {"other": torch.zeros(1)}}, [0]),
        ({1: {"momentum_buffer": torch.zeros(1)}}, [1]),
        ({0: {"momentum_buffer": torch.zeros(1)}}, [0, 1]),
    ],
)
def test_the_memory_of_another_optimiser(tmp_path, state, groups):
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    optimizer.state[weight]["momentum_buffer"] = torch.ones(1)
    saved = {"state": state, "param_groups": [{"params": groups}]}
    assert "state of other weights" in refusal(load_optimizer, optimizer, saved, tmp_path / "last.pt")
    assert float(optimizer.state[weight]["momentum_buffer"]) == 1


@pytest.mark.parametrize("changed", [{"scale": 0.0}, {"scale": "a"}, {"_growth_tracker": -1}, {"more": 1.0}])
def test_the_scale_of_another_run(tmp_path, changed):
    scaler = torch.amp.GradScaler("cpu", enabled=True)
    saved = scaler.state_dict() | changed
    assert "scaler is " in refusal(load_scaler, scaler, saved, tmp_path / "last.pt")
    load_scaler(scaler, scaler.state_dict() | {"scale": 4.0}, tmp_path / "last.pt")
    assert scaler.get_scale() == 4.0


def test_progress_that_is_not_of_the_run(tmp_path):
    path = tmp_path / "last.pt"
    check_progress(content(done=3), path, steps=3, averaged=False)
    assert "4 steps are done" in refusal(check_progress, content(done=4), path, steps=3, averaged=False)
    assert "2 evaluated" in refusal(check_progress, content(evaluated=2), path, steps=3, averaged=False)
    assert "holds no trained_model, averaged," in refusal(check_progress, content(), path, steps=3, averaged=True)


# --- the checkpoint before -------------------------------------------------------------------------------------------


def saved_twice(folder):
    last, previous = folder / "last.pt", folder / "previous.pt"
    for done in (1, 2):
        save_checkpoint(last, content(done=done), keep=previous)
    return last, previous


def done_of(folder):
    return {path.name: load_checkpoint(path)["done"] for path in sorted(folder.iterdir())}


def test_the_checkpoint_before_is_kept(tmp_path):
    saved_twice(tmp_path)
    assert done_of(tmp_path) == {"last.pt": 2, "previous.pt": 1}


def test_without_hard_links_too(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    saved_twice(tmp_path)
    assert done_of(tmp_path) == {"last.pt": 2, "previous.pt": 1}


class Killed(BaseException):
    pass


@pytest.mark.parametrize("links", [True, False])
def test_a_kill_between_any_two_calls_leaves_a_whole_checkpoint(tmp_path, monkeypatch, links):
    """Every call that changes names is the last one once; nothing is tidied up, as after a kill."""
    original = {name: getattr(os, name) for name in ("replace", "link", "fsync", "unlink")}
    calls, stop = [], [0]

    def counted(name):
        def call(*args, **options):
            if name == "link" and not links:
                raise OSError(95, "Operation not supported")
            calls.append(name)
            if len(calls) >= stop[0] > 0:
                raise Killed
            return original[name](*args, **options)

        return call

    for stop[0] in range(1, 12):
        folder = tmp_path / str(stop[0])
        folder.mkdir()
        last, previous = saved_twice(folder)
        calls.clear()
        with monkeypatch.context() as patch:
            for name in original:
                patch.setattr(os, name, counted(name))
            with suppress(Killed):
                save_checkpoint(last, content(done=3), keep=previous)
        loaded, _, _ = load_newest(last, [previous])
        assert loaded["done"] >= 2
        save_checkpoint(last, content(done=4), keep=previous)
        assert load_checkpoint(last)["done"] == 4
        assert sorted(path.name for path in folder.iterdir()) == ["last.pt", "previous.pt"]
    assert len(calls) < stop[0]


@pytest.mark.parametrize("damage", ["missing", "cut", "of another kind"])
def test_the_newest_whole_one_is_taken_and_said(tmp_path, damage):
    last, previous = saved_twice(tmp_path)
    best = tmp_path / "best.pt"
    save_checkpoint(best, content(done=0))
    if damage == "missing":
        last.unlink()
    elif damage == "cut":
        last.write_bytes(last.read_bytes()[:-100])
    else:
        save_checkpoint(last, content(done=-3))
    loaded, path, (note,) = load_newest(last, [previous, best])
    assert (loaded["done"], path) == (1, previous)
    assert note.startswith(f"warning: {last}: ")
    assert note.endswith("; the run goes on from previous.pt, the checkpoint of step 1")
    previous.write_bytes(b"")
    assert load_newest(last, [previous, best])[0]["done"] == 0
    best.unlink()
    with pytest.raises(DataError) as error:
        load_newest(last, [previous, best])
    assert [line.split(": ")[0] for line in error.value.problems] == [str(last), str(previous)]


def test_a_disk_that_fills_up_at_any_byte(tmp_path):
    """However much fits: the checkpoint that was there stays, and a line names the file."""
    last, previous = saved_twice(tmp_path)
    size = last.stat().st_size
    for room in [*range(0, 200, 7), *range(200, size, 97), size - 1]:
        with files_take(room), pytest.raises(OutputError, match=r"last\.pt: cannot be written \(File too large\)"):
            save_checkpoint(last, content(done=2), keep=previous)
    assert done_of(tmp_path) == {"last.pt": 2, "previous.pt": 1}
