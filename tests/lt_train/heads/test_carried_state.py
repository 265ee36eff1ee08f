"""Heads that carry something from step to step: the same for one process and for several, and after a save and load."""

import copy
from functools import partial

import pytest
import torch

from lt_train.global_batch import sharing
from lt_train.heads import make_head
from lt_train.processes import run_together
from tests.lt_train.several import start

torch.set_num_threads(1)

COUNTS = [5, 40, 300, 7, 2000, 0]
HEADS = {"equalization-v2": {}, "equalization-v2, steep": {"gamma": 3.0, "mu": 0.2}, "seesaw": {}}
# the batch in one piece, or in micro-batches
CASES = [(head, apart) for head in HEADS for apart in (False, True)]
STEPS = 4
# regions of each micro-batch; the last one has no object
SIZES = (7, 5, 9, 4)
# micro-batches of each process; the third one has no image and computes on one that does not count
PARTS = ((0, 1), (2, 3), ())


def made(name):
    return make_head(name.partition(",")[0], instance_counts=COUNTS, **HEADS[name])


def regions(head, step, numbers):
    """Logits, labels and micro-batches of a step, drawn for each micro-batch by itself."""
    logits, labels = [], []
    for number in numbers:
        generator = torch.Generator().manual_seed(100 * step + number)
        logits.append(torch.randn(SIZES[number], head.num_logits, generator=generator))
        found = torch.randint(0, len(COUNTS) + 1, (SIZES[number],), generator=generator)
        labels.append(found * (number != len(SIZES) - 1))
    places = torch.cat([torch.full((SIZES[number],), number) for number in numbers])
    return torch.cat(logits).requires_grad_(), torch.cat(labels), places


def take(head, step, numbers, apart):
    """Losses of one step, the gradients of its regions, and what the head carries after it."""
    logits, labels, places = regions(head, step, numbers)
    losses = head.loss(logits, labels, micro_batch=places if apart else None)
    sum(losses.values()).backward()
    return {name: value.detach() for name, value in losses.items()}, logits.grad, copy.deepcopy(head.state_dict())


def steps(name, apart, numbers):
    head = made(name)
    return [take(head, step, numbers, apart) for step in range(STEPS)]


def shared(processes, out):
    numbers = PARTS[processes.rank]
    found = {}
    for case in CASES:
        with sharing(processes.world, weight=float(bool(numbers))):
            found[case] = steps(*case, numbers or (1, 3))
    torch.save(found, out / f"{processes.rank}.pt")
    # none leaves while others wait for it
    processes.wait()


@pytest.fixture(scope="module", params=[2, 3], ids="{} processes".format)
def parts(request, tmp_path_factory):
    out = tmp_path_factory.mktemp("parts")
    assert start(request.param, partial(run_together, partial(shared, out=out))) == ["None"] * request.param
    return [torch.load(out / f"{rank}.pt") for rank in range(request.param)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_state_and_losses_are_those_of_one_process(parts, case):
    wanted = steps(*case, range(len(SIZES)))
    # one without an image has no share in the losses; the mean over all processes is taken
    with_images = [part[case] for part, numbers in zip(parts, PARTS, strict=False) if numbers]
    for step, (losses, gradients, state) in enumerate(wanted):
        for part in parts:
            torch.testing.assert_close(part[case][step][2], state)
        for name, value in losses.items():
            torch.testing.assert_close(sum(part[step][0][name] for part in with_images) / len(parts), value)
        torch.testing.assert_close(torch.cat([part[step][1] for part in with_images]) / len(parts), gradients)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_all_processes_carry_the_same_bits(parts, case):
    for step in range(STEPS):
        states = [part[case][step][2] for part in parts]
        for state in states[1:]:
            torch.testing.assert_close(state, states[0], rtol=0, atol=0)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("stopped", [1, 3])
def test_a_state_that_is_put_back_goes_on_bit_for_bit(case, stopped, tmp_path):
    name, apart = case
    wanted = steps(name, apart, range(len(SIZES)))
    torch.save(wanted[stopped - 1][2], tmp_path / "state.pt")
    head = made(name)
    head.load_state_dict(torch.load(tmp_path / "state.pt"))
    for step in range(stopped, STEPS):
        again = take(head, step, range(len(SIZES)), apart)
        torch.testing.assert_close(again, wanted[step], rtol=0, atol=0)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_carried_matters(case):
    """The tests above can fail: a head that forgets has other losses."""
    name, apart = case
    wanted = steps(name, apart, range(len(SIZES)))
    forgetful = take(made(name), STEPS - 1, range(len(SIZES)), apart)
    assert float(forgetful[0]["loss_classifier"]) != pytest.approx(float(wanted[-1][0]["loss_classifier"]), rel=1e-3)
