"""A batch that processes share: each has the gradients of its own regions in the loss of one process."""

from functools import partial

import pytest
import torch

from lt_train.global_batch import pooled_divisors, sharing
from lt_train.heads import make_head
from lt_train.heads.shared.draws import MicroBatchDraws
from lt_train.processes import run_together
from tests.lt_train.several import start

COUNTS = [5, 40, 300, 7, 2000, 12]
# regions of each micro-batch; the last one has no object
SIZES = (7, 5, 9, 4)
# micro-batches of each process; the third one computes on regions that do not count
PARTS = ((0, 1, 2), (3,), ())
HEADS = {
    "softmax": {},
    "focal": {},
    "focal, elements": {"normalise": "elements"},
    "reweight": {},
    "bags": {},
    "bags, inverse": {"in_group": "inverse", "others_ratio": 1.0},
}
# micro-batches, common divisors
MODES = {"whole": (False, False), "micro-batches": (True, False), "divisors of the batch": (True, True)}
CASES = [(head, mode) for head in HEADS for mode in MODES if mode != "whole" or not head.startswith("bags")]


def regions(head, numbers):
    """Logits, labels and numbers of the micro-batches, drawn for each by itself."""
    logits, labels = [], []
    for number in numbers:
        generator = torch.Generator().manual_seed(number)
        logits.append(torch.randn(SIZES[number], head.num_logits, generator=generator))
        labels.append(
            torch.randint(0, len(COUNTS) + 1, (SIZES[number],), generator=generator) * (number != len(SIZES) - 1)
        )
    places = torch.cat([torch.full((SIZES[number],), number) for number in numbers])
    return torch.cat(logits).requires_grad_(), torch.cat(labels), places


def gradients(name, mode, numbers):
    """Of the sum of a head's losses, for each region; and the sum."""
    head = make_head(name.partition(",")[0], instance_counts=COUNTS, **HEADS[name])
    logits, labels, places = regions(head, numbers)
    apart, pooled = MODES[mode]
    draws = MicroBatchDraws([torch.Generator().manual_seed(100 + n) for n in numbers], [SIZES[n] for n in numbers])
    with pooled_divisors(pooled):
        losses = head.loss(logits, labels, micro_batch=places if apart else None, generator=draws)
    total = sum(losses.values())
    total.backward()
    return logits.grad, total.detach()


def shared(processes, out):
    numbers = PARTS[processes.rank]
    found = {}
    for case in CASES:
        with sharing(processes.world, weight=float(bool(numbers))):
            found[case] = gradients(*case, numbers or (1, 3))
    if numbers:
        torch.save(found, out / f"{processes.rank}.pt")
    # none leaves while others wait for it
    processes.wait()


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    out = tmp_path_factory.mktemp("parts")
    assert start(3, partial(run_together, partial(shared, out=out))) == ["None"] * 3
    return [torch.load(out / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("case", CASES, ids=", ".join)
def test_gradients_and_loss_are_those_of_one_process(parts, case):
    wanted, loss = gradients(*case, range(len(SIZES)))
    # the mean over the processes is taken of both
    torch.testing.assert_close(torch.cat([part[case][0] for part in parts]) / 3, wanted)
    torch.testing.assert_close(sum(part[case][1] for part in parts) / 3, loss)
    assert wanted.abs().sum() > 0
