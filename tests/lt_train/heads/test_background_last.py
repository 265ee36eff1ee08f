"""Heads in the order of other frameworks: labels 0..C-1, then the background."""

import subprocess
import sys

import pytest
import torch

from lt_train.heads import HEADS, make_head, make_head_with_background_last
from lt_train.randomness import keyed_generator

torch.set_num_threads(1)

COUNTS = [5, 50, 500, 5000]
OURS = torch.tensor([0, 1, 2, 3, 4, 0, 0, 2])
THEIRS = torch.tensor([4, 0, 1, 2, 3, 4, 4, 1])


def arguments():
    return {"instance_counts": COUNTS, "image_counts": COUNTS, "num_images": 9000}


@pytest.mark.parametrize("name", HEADS)
def test_losses_and_scores_are_those_of_the_head(name):
    ours, theirs = make_head(name, **arguments()), make_head_with_background_last(name, **arguments())
    assert (theirs.num_classes, theirs.num_logits) == (len(COUNTS), ours.num_logits)
    logits = torch.randn(len(OURS), ours.num_logits, generator=torch.Generator().manual_seed(0))
    moved = torch.cat([logits[:, 1:], logits[:, :1]], dim=1) if theirs.logit_order is not None else logits
    objects = torch.arange(len(OURS)).where(OURS > 0, -1)
    wanted = ours.loss(logits, OURS, generator=keyed_generator(0, "others"), objects=objects)
    found = theirs.loss(moved, THEIRS, generator=keyed_generator(0, "others"), objects=objects)
    torch.testing.assert_close(found, wanted)
    scores = ours.scores(logits)
    torch.testing.assert_close(theirs.scores(moved), torch.cat([scores[:, 1:], scores[:, :1]], dim=1))


@pytest.mark.parametrize("name", ["softmax", "focal", "bags"])
def test_a_fresh_bias_lies_where_the_logits_do(name):
    ours, theirs = make_head(name, **arguments()), make_head_with_background_last(name, **arguments())
    wanted, found = torch.empty(ours.num_logits), torch.empty(ours.num_logits)
    ours.initialise(wanted)
    theirs.initialise(found)
    assert torch.equal(theirs._ordered(found[None])[0], wanted)


def test_softmax_is_what_such_frameworks_compute():
    head = make_head_with_background_last("softmax", instance_counts=COUNTS)
    logits = torch.randn(8, 5, generator=torch.Generator().manual_seed(1))
    loss = head.loss(logits, THEIRS)["loss_classifier"]
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, THEIRS))
    torch.testing.assert_close(head.scores(logits), logits.softmax(dim=1))


def test_heads_need_no_torchvision():
    code = (
        "import sys\nfrom lt_train.heads import make_head\nmake_head('bags', instance_counts=[3, 30])\n"
        "assert 'torch' in sys.modules and 'torchvision' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
