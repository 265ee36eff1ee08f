"""What every head promises; runs on each entry of the dict by itself."""

import copy
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lt_data.errors import RecipeError
from lt_train.heads import HEADS, make_head
from lt_train.heads.groups.options import MERGES
from lt_train.heads.shared.background_last import BackgroundLast
from lt_train.randomness import keyed_generator

torch.set_num_threads(1)

# every group of the usual edges has a class; one class has no instance
COUNTS = [5, 50, 500, 5000, 0, 20, 3]
# other counts of the same groups, whatever the edges below
ALIKE = [6, 70, 600, 5001, 1, 30, 4]
FEATURES = 16


# every head with its defaults, and options that change the layout, the loss or the scores
CASES = {name: (name, {}) for name in sorted(HEADS)} | {
    "bags, 2 groups": ("bags", {"edges": (100,)}),
    "bags, 8 groups": ("bags", {"edges": (5, 10, 50, 100, 500, 1000, 5000)}),
    "bags, in-group weights": ("bags", {"in_group": "inverse"}),
    "bags, no gate": ("bags", {"gate": False}),
    "bags, no gate, in-group weights": ("bags", {"gate": False, "in_group": "inverse", "merge": "best-group"}),
    **{f"bags, {merge}": ("bags", {"merge": merge}) for merge in MERGES[1:]},
    "focal, softmax scores": ("focal", {"score": "softmax"}),
    "focal, elements": ("focal", {"normalise": "elements"}),
    "focal, weighted": ("focal", {"weighting": "effective-number", "gamma": 0.5, "background_ratio": 3}),
    "reweight, uncapped": ("reweight", {"weighting": "effective-number", "lower": None, "upper": None}),
    "reweight, background counted": ("reweight", {"background_ratio": 3}),
}


# options with which a head that draws regions or classes takes all of them
DRAWS_NOTHING = {
    "bags": {"others_ratio": float("inf")},
    "acsl": {"keep_rare": 1.0, "keep_common": 1.0},
    "federated": {"classes": 1_000_000},
    "droploss": {"threshold": 0.0},
}
IMAGES = 10_000


@pytest.fixture(params=CASES)
def make(request):
    """A head for counts: ``make(counts)``; ``make(counts, sampling=False)`` draws nothing."""
    name, options = CASES[request.param]

    def made(counts, *, sampling=True):
        more = {} if sampling else DRAWS_NOTHING.get(name, {})
        images = {"image_counts": [min(count, 400) for count in counts], "num_images": IMAGES}
        return make_head(name, instance_counts=counts, **images, **options, **more)

    made.has_state = made(COUNTS).carries_state
    return made


def losses_of(head, logits, labels, **around):
    """The losses, from the state that the head is in; every region that is no background is an object of its own."""
    objects = torch.arange(len(labels)).where(labels > 0, -1)
    return copy.deepcopy(head).loss(logits, labels, objects=objects, **around)


def batch(head, labels, seed=0, std=1.0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.as_tensor(labels, dtype=torch.int64)
    return torch.randn(len(labels), head.num_logits, generator=generator) * std, labels


def total(losses):
    return torch.stack(list(losses.values())).sum()


def test_has_buffers_and_no_parameters(make):
    head = make(COUNTS)
    assert not list(head.parameters())
    assert head.num_classes == len(COUNTS)
    assert head.num_logits >= len(COUNTS)
    assert set(head.layout_buffers) <= set(dict(head.named_buffers()))


@pytest.mark.parametrize("std", [1.0, 1e4])
def test_finite_scalars_and_gradient(make, std):
    head = make(COUNTS)
    logits, labels = batch(head, [0, 0, 1, 2, 3, 4, 5, 6, 7, 0, 0, 0], std=std)
    logits.requires_grad_()
    losses = losses_of(head, logits, labels, generator=keyed_generator(0, "others"))
    total(losses).backward()
    assert losses
    for value in losses.values():
        assert value.shape == ()
        assert torch.isfinite(value)
        assert value >= 0
    assert torch.isfinite(logits.grad).all()


def test_gradient_reaches_every_row_of_the_classifier(make):
    head = make(COUNTS)
    classifier = torch.nn.Linear(FEATURES, head.num_logits)
    labels = torch.arange(len(COUNTS) + 1)
    features = torch.rand(len(labels), FEATURES, generator=torch.Generator().manual_seed(0))
    total(losses_of(head, classifier(features), labels, generator=keyed_generator(0, "others"))).backward()
    # the "others" of a group without classes stands alone in its softmax
    untrained = {start for start, length in getattr(head, "slices", ()) if length == 1}
    reached = classifier.weight.grad.abs().sum(dim=1) > 0
    assert {row for row, hit in enumerate(reached.tolist()) if not hit} == untrained


@pytest.mark.parametrize("micro_batch", [None, torch.zeros(0, dtype=torch.int64)])
def test_no_region(make, micro_batch):
    head = make(COUNTS)
    logits = torch.zeros(0, head.num_logits, requires_grad=True)
    losses = losses_of(head, logits, torch.zeros(0, dtype=torch.int64), micro_batch=micro_batch)
    assert all(float(value.detach()) == 0 for value in losses.values())
    total(losses).backward()
    assert head.scores(logits).shape == (0, head.num_classes + 1)


def test_no_foreground(make):
    head = make(COUNTS)
    logits, labels = batch(head, [0] * 6)
    logits.requires_grad_()
    losses = losses_of(head, logits, labels, generator=keyed_generator(0, "others"))
    total(losses).backward()
    assert torch.isfinite(logits.grad).all()
    # without a gate, groups alone are trained, and each is silent without a region of its own
    silent = not getattr(head, "gate", True)
    assert (float(total(losses).detach()) > 0) != silent


@pytest.mark.parametrize("count", [0, 1, 5000])
def test_one_class(make, count):
    head = make([count])
    logits, labels = batch(head, [0, 1, 1, 0])
    losses = losses_of(head, logits, labels, generator=keyed_generator(0, "others"))
    assert all(torch.isfinite(value) for value in losses.values())
    assert head.scores(logits).shape == (4, 2)


def test_all_classes_in_one_group(make):
    head = make([1, 2, 3])
    logits, labels = batch(head, [0, 1, 2, 3])
    assert all(
        torch.isfinite(v) for v in losses_of(head, logits, labels, generator=keyed_generator(0, "others")).values()
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(make, dtype):
    head = make(COUNTS)
    logits, labels = batch(head, [0, 1, 2, 3, 4, 5, 6, 7])
    logits = logits.to(dtype)
    low = losses_of(head, logits, labels, generator=keyed_generator(0, "others"))
    full = losses_of(head, logits.float(), labels, generator=keyed_generator(0, "others"))
    for key, value in low.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, full[key])
    assert head.scores(logits).dtype == torch.float32


@pytest.mark.parametrize("std", [1.0, 1e4])
def test_scores_are_probabilities(make, std):
    head = make(COUNTS)
    logits, labels = batch(head, range(8), std=std)
    scores = head.scores(logits)
    assert scores.shape == (len(labels), head.num_classes + 1)
    assert bool(((scores >= 0) & (scores <= 1)).all())


def test_a_high_logit_gives_its_class_the_best_score(make):
    """Ties the layout of the loss to that of the scores: descend on one label, read the same label back."""
    head = make(COUNTS)
    labels = torch.arange(len(COUNTS) + 1)
    logits = torch.zeros(len(labels), head.num_logits, requires_grad=True)
    total(losses_of(head, logits, labels, generator=keyed_generator(0, "others"))).backward()
    scores = head.scores(logits.detach() - 1e4 * logits.grad)
    assert torch.equal(scores.argmax(dim=1), labels)


def test_region_order_is_irrelevant_when_nothing_is_sampled(make):
    head = make(COUNTS, sampling=False)
    logits, labels = batch(head, [0, 1, 2, 3, 4, 5, 6, 7, 0, 0, 3, 3])
    micro_batch = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 2])
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    here = losses_of(head, logits, labels, micro_batch=micro_batch)
    there = losses_of(head, logits[order], labels[order], micro_batch=micro_batch[order])
    torch.testing.assert_close(here, there)


def test_micro_batches_average(make):
    """One call with micro-batches equals the mean of one call each; their numbers do not matter."""
    if make.has_state:
        pytest.skip("what a head carries over is that of the whole batch; its own test has processes")
    head = make(COUNTS, sampling=False)
    logits, labels = batch(head, [0, 1, 2, 3, 0, 0, 4, 0, 5, 6])
    parts = torch.tensor([7, 7, 7, -1, -1, 7, 400, 400, 400, 7])
    together = losses_of(head, logits, labels, micro_batch=parts)
    each = [losses_of(head, logits[parts == p], labels[parts == p]) for p in parts.unique()]
    for key, value in together.items():
        torch.testing.assert_close(value, torch.stack([losses[key] for losses in each]).mean())


def test_two_processes_give_the_gradient_of_one(make):
    """Two ranks that average their gradients give the classifier what one process with two micro-batches gives."""
    if make.has_state:
        pytest.skip("what a head carries over is that of the whole batch; its own test has processes")
    head = make(COUNTS, sampling=False)
    features = torch.rand(14, FEATURES, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 1, 2, 3, 0, 0, 7, 4, 5, 6, 0, 0, 1, 1])
    parts = torch.tensor([0] * 7 + [1] * 7)

    def gradient(rows, micro_batch=None):
        classifier = torch.nn.Linear(FEATURES, head.num_logits)
        torch.nn.init.normal_(classifier.weight, generator=torch.Generator().manual_seed(2))
        torch.nn.init.zeros_(classifier.bias)
        total(losses_of(head, classifier(features[rows]), labels[rows], micro_batch=micro_batch)).backward()
        return classifier.weight.grad

    ranks = [gradient(parts == rank) for rank in (0, 1)]
    torch.testing.assert_close(gradient(parts >= 0, parts), (ranks[0] + ranks[1]) / 2)


def test_state_dict_round_trip(make):
    """Losses and scores of a head that takes over a state are those of the head it came from, bit for bit."""
    head, twin = make(COUNTS), make(ALIKE)
    twin.load_state_dict(head.state_dict())
    for key, value in head.state_dict().items():
        assert torch.equal(value, twin.state_dict()[key])
    logits, labels = batch(head, [0] * 20 + [1, 2, 3, 4, 5, 6, 7])
    there, here = (losses_of(h, logits, labels, generator=keyed_generator(0, "others")) for h in (twin, head))
    assert there.keys() == here.keys()
    assert all(torch.equal(there[key], here[key]) for key in here)
    assert torch.equal(twin.scores(logits), head.scores(logits))


def test_the_state_of_another_layout_is_refused(make):
    """Not taken over in part: the head scores as before."""
    head, other = make(COUNTS), make(COUNTS[::-1])
    logits = batch(head, [0] * 9)[0]
    before, state = head.scores(logits), {f"head.{key}": value for key, value in other.state_dict().items()}
    outer = torch.nn.ModuleDict({"head": head})
    if not head.layout_buffers:
        outer.load_state_dict(state)
        return
    with pytest.raises(RuntimeError, match=r"head.label_to_bin: the logits of the state stand for other groups"):
        outer.load_state_dict(state)
    assert torch.equal(head.scores(logits), before)
    assert torch.equal(head.instance_counts, torch.tensor(COUNTS))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(make, dtype):
    """A head is called where layers compute in half precision; its own mathematics is float32 there too."""
    head = make(COUNTS)
    logits, labels = batch(head, [0] * 20 + [1, 2, 3, 4, 5, 6, 7])
    micro_batch = torch.arange(len(labels)) % 2

    def computed():
        losses = losses_of(head, logits, labels, micro_batch=micro_batch, generator=keyed_generator(0, "others"))
        return [*losses.values(), *losses_of(head, logits, labels, generator=keyed_generator(0, "others")).values()]

    outside = [*computed(), head.scores(logits)]
    with torch.autocast("cpu", dtype=dtype):
        inside = [*computed(), head.scores(logits)]
    assert {value.dtype for value in inside} == {torch.float32}
    assert all(torch.equal(a, b) for a, b in zip(inside, outside, strict=True))


def test_equal_generators_give_equal_losses_and_leave_the_global_one_alone(make):
    head = make(COUNTS)
    logits, labels = batch(head, [0] * 40 + [1, 2, 3, 4])
    state = torch.get_rng_state()
    first = losses_of(head, logits, labels, generator=keyed_generator(5, "others"))
    second = losses_of(head, logits, labels, generator=keyed_generator(5, "others"))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert torch.equal(state, torch.get_rng_state())


class HostSyncs(TorchDispatchMode):
    """Collects the operations that make the host wait for a CUDA device."""

    waiting = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "item", "is_nonzero", "equal")

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        operation = func.overloadpacket.__name__
        boolean_index = operation.startswith("index") and any(
            isinstance(part, torch.Tensor) and part.dtype in (torch.bool, torch.uint8)
            for index in args[1:2]
            if isinstance(index, list | tuple)
            for part in index
        )
        if boolean_index or any(operation == w or operation.startswith(f"{w}_") for w in self.waiting):
            self.seen.append(operation)
        return func(*args, **(kwargs or {}))


def test_loss_and_scores_never_wait_for_the_device(make):
    head = make(COUNTS)
    logits, labels = batch(head, [0] * 30 + [1, 2, 3, 4, 5, 6, 7])
    logits.requires_grad_()
    micro_batch = torch.arange(len(labels)) % 3
    generator = keyed_generator(0, "others")
    with HostSyncs() as syncs:
        total(losses_of(head, logits, labels, micro_batch=micro_batch, generator=generator)).backward()
        total(losses_of(head, logits, labels, generator=generator))
        head.scores(logits)
    assert syncs.seen == []


def test_the_watch_sees_a_wait():
    """The test above can fail."""
    x = torch.arange(4.0)
    with HostSyncs() as syncs:
        _ = x[x > 1]
        float(x.sum())
    assert len(syncs.seen) == 2


def test_unknown_names_list_the_known():
    with pytest.raises(RecipeError, match="acsl, bags, balanced-sigmoid"):
        make_head("bag", instance_counts=COUNTS)
    with pytest.raises(RecipeError, match="'other_ratio'; allowed are others_ratio, edges, gate"):
        make_head("bags", instance_counts=COUNTS, other_ratio=8)
    with pytest.raises(RecipeError, match="'edges'; allowed are classifier, scale"):
        make_head("softmax", instance_counts=COUNTS, edges=(1, 2))


@pytest.mark.parametrize("counts", [[], [3, -1]])
def test_bad_counts(make, counts):
    with pytest.raises(RecipeError, match="instance counts"):
        make(counts)


@pytest.mark.parametrize(
    ("counts", "wrong"),
    [
        ({"instance_counts": [3, float("nan")]}, "instance counts: number 2 is nan; needed are whole numbers"),
        ({"instance_counts": [3, 2.5]}, "instance counts: number 2 is 2.5;"),
        ({"instance_counts": [None]}, "instance counts: number 1 is None;"),
        (
            {"instance_counts": {1: 3}},
            "instance counts are a dict; needed is a list, in the order of",
        ),
        ({"instance_counts": [3], "image_counts": [float("inf")]}, "image counts: number 1 is inf;"),
        ({"instance_counts": [3], "image_counts": [3], "num_images": float("nan")}, "num_images: number 1 is nan;"),
    ],
)
def test_counts_that_are_no_counts(counts, wrong):
    with pytest.raises(RecipeError, match=re.escape(wrong)):
        make_head("equalization", **counts)


def test_counts_of_any_kind_of_whole_number():
    counts = make_head("softmax", instance_counts=torch.tensor([3, 0]), image_counts=np.array([2.0, 0.0])).counts
    assert (counts.instances, counts.images) == ((3, 0), (2, 0))


def test_logits_of_another_width_are_refused(make):
    """A wider softmax would be computed as if nothing were wrong."""
    head = make([9])
    for width in (head.num_logits - 1, head.num_logits + 1):
        with pytest.raises(ValueError, match=rf"got shape \[2, {width}\]; .*needs \[R, {head.num_logits}\]"):
            losses_of(head, torch.zeros(2, width), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="logits: got shape"):
        BackgroundLast(head).scores(torch.zeros(2, head.num_logits + 1))


def test_listing_the_heads_imports_no_torch():
    code = "import sys, lt_train.heads; assert lt_train.heads.HEADS; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
