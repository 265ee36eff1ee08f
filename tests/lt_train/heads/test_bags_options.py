"""Options of BAGS against an oracle written from the formulas: no gate, in-group weights, ways to merge scores."""

import numpy as np
import pytest
import torch

from lt_data.errors import RecipeError
from lt_train.heads import make_head
from lt_train.heads.groups.options import MERGES
from lt_train.heads.groups.region_weights import others_weights
from lt_train.randomness import keyed_generator

torch.set_num_threads(1)

# groups {2, 5}, {1, 4, 7}, {3}, {6}; class 7 and 5 have no instance or one
COUNTS = [50, 5, 500, 60, 0, 5000, 30]
GROUPS = [[2, 5], [1, 4, 7], [3], [6]]


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def columns_of(gate, groups=GROUPS):
    """Columns of each slice of the logits, written out."""
    slices, first = ([[0, 1]], 2) if gate else ([], 0)
    for group in groups:
        slices.append(list(range(first, first + 1 + len(group))))
        first += 1 + len(group)
    return slices


def in_group_weight(label, group):
    """1 / n over the mean of 1 / n in the group, between 0.1 and 5; a class without instances has the most."""
    if label not in group:
        return 1.0
    count = COUNTS[label - 1]
    inverse = [1 / COUNTS[c - 1] for c in group if COUNTS[c - 1]]
    return 5.0 if not count else float(np.clip(1 / count / np.mean(inverse), 0.1, 5))


def oracle(logits, labels, kept, *, gate, weighted, micro_batch):
    """Losses and the gradient of their sum, one region and one micro-batch at a time, in float64."""
    slices = columns_of(gate)
    losses, gradient = np.zeros(len(slices)), np.zeros_like(logits)
    parts = sorted(set(micro_batch))
    for s, columns in enumerate(slices):
        group = None if gate and s == 0 else GROUPS[s - int(gate)]
        for part in parts:
            here = [r for r in range(len(labels)) if micro_batch[r] == part]
            weight = {}
            for r in here:
                weight[r] = 1.0 if group is None else kept[s - int(gate)][r]
                if weighted and group is not None:
                    weight[r] *= in_group_weight(labels[r], group)
            divisor = max(sum(weight.values()), 1.0) * len(parts)
            for r in here:
                place = (
                    int(labels[r] > 0) if group is None else (group.index(labels[r]) + 1 if labels[r] in group else 0)
                )
                p = softmax(logits[r, columns])
                losses[s] -= weight[r] / divisor * np.log(p[place])
                gradient[r, columns] += weight[r] / divisor * (p - np.eye(len(columns))[place])
    return losses, gradient


@pytest.mark.parametrize("gate", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_losses_and_gradients(gate, weighted, parts, seed):
    random = np.random.default_rng(seed)
    head = make_head(
        "bags", instance_counts=COUNTS, gate=gate, in_group="inverse" if weighted else "none", others_ratio=2.0
    )
    labels = torch.from_numpy(random.choice(8, size=40, p=[0.5] + [0.5 / 7] * 7))
    micro_batch = torch.from_numpy(random.integers(0, parts, 40))
    logits = torch.from_numpy(random.normal(size=(40, head.num_logits))).float().requires_grad_()
    losses = head.loss(logits, labels, micro_batch=micro_batch, generator=keyed_generator(seed, "others"))
    torch.stack(list(losses.values())).sum().backward()
    bins = head.label_to_bin[int(gate) :, labels]
    kept = others_weights(bins, 2.0, micro_batch=micro_batch, generator=keyed_generator(seed, "others")).numpy()
    want, gradient = oracle(
        logits.detach().double().numpy(),
        labels.tolist(),
        kept,
        gate=gate,
        weighted=weighted,
        micro_batch=micro_batch.tolist(),
    )
    assert list(losses) == [f"loss_group_{i}" for i in range(0 if gate else 1, 5)]
    np.testing.assert_allclose([float(v.detach()) for v in losses.values()], want, rtol=3e-6, atol=1e-7)
    np.testing.assert_allclose(logits.grad.numpy(), gradient, atol=1e-6)


def scores_by_definition(logits, merge, gate, members=GROUPS):
    """[R, C+1], one region and one class at a time."""
    slices, num_classes = columns_of(gate, members), sum(map(len, members))
    result = np.zeros((len(logits), num_classes + 1))
    for r, row in enumerate(logits):
        groups = [softmax(row[columns]) for columns in slices[int(gate) :]]
        in_group = np.zeros(num_classes)
        for group, p in zip(members, groups, strict=True):
            for place, label in enumerate(group, start=1):
                in_group[label - 1] = p[place]
        background, foreground = softmax(row[:2]) if gate else (min(p[0] for p in groups), 1.0)
        product = in_group * foreground
        if merge == "product":
            result[r] = [background, *product]
        elif merge == "gated":
            result[r] = [background, *(in_group if foreground > 0.5 else 0 * in_group)]
        elif merge == "softmax":
            result[r] = softmax(np.array([background, *product]))
        elif merge == "softmax-foreground":
            result[r] = [background, *(softmax(in_group) * foreground)]
        else:
            best = max(range(len(groups)), key=lambda g, groups=groups: max(groups[g][1:], default=0))
            kept = [product[c] if c + 1 in members[best] else 0.0 for c in range(num_classes)]
            result[r] = [background, *kept]
    return result


RULES = [*((merge, True) for merge in MERGES), ("product", False), ("best-group", False)]


@pytest.mark.parametrize(("merge", "gate"), RULES)
@pytest.mark.parametrize(
    ("counts", "members"), [(COUNTS, GROUPS), ([2000, 7, 3000], [[2], [], [], [1, 3]]), ([20], [[], [1], [], []])]
)
def test_scores(merge, gate, counts, members):
    """Also where groups have no class."""
    head = make_head("bags", instance_counts=counts, merge=merge, gate=gate)
    logits = np.random.default_rng(0).normal(size=(60, head.num_logits), scale=2).astype(np.float32)
    got = head.scores(torch.from_numpy(logits)).numpy()
    np.testing.assert_allclose(got, scores_by_definition(logits.astype(float), merge, gate, members), atol=1e-6)


@pytest.mark.parametrize("gate", [True, False])
def test_of_equally_good_groups_the_first_keeps_its_scores(gate):
    head = make_head("bags", instance_counts=[50, 5, 60, 6], merge="best-group", gate=gate)
    scores = head.scores(torch.zeros(3, head.num_logits))
    assert (scores[:, 1:] > 0).tolist() == [[False, True, False, True]] * 3


@pytest.mark.parametrize(("merge", "gate"), RULES)
def test_scores_have_a_gradient(merge, gate):
    """Numeric derivatives of a weighted sum of the scores."""
    head = make_head("bags", instance_counts=COUNTS, merge=merge, gate=gate)
    random = np.random.default_rng(1)
    logits = random.normal(size=(3, head.num_logits))
    factors = random.normal(size=(3, len(COUNTS) + 1))
    tensor = torch.from_numpy(logits.astype(np.float32)).requires_grad_()
    (head.scores(tensor) * torch.from_numpy(factors.astype(np.float32))).sum().backward()
    for place in [(0, 0), (1, 2), (2, 5), (0, head.num_logits - 1)]:
        step = np.zeros_like(logits)
        step[place] = 1e-5
        ends = [(scores_by_definition(logits + sign * step, merge, gate) * factors).sum() for sign in (1, -1)]
        assert float(tensor.grad[place]) == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-5)


def test_in_group_weights():
    head = make_head("bags", instance_counts=COUNTS, in_group="inverse")
    want = [[in_group_weight(label, group) for label in range(8)] for group in GROUPS]
    np.testing.assert_allclose(head.label_weights[1:].numpy(), want, rtol=1e-6)
    assert bool((head.label_weights[0] == 1).all())


@pytest.mark.parametrize(
    ("counts", "want"),
    [
        # 1/5 and 1/6 over 11/60
        ([5, 6], [1.0909091, 0.9090909]),
        # mean of 1 and eighteen 1/9 is 3/19, so that the first has 19/3
        ([1] + [9] * 18, [5.0] + [0.7037037] * 18),
        # 1/1000 and 1/10^6 over their mean: 1.998 and 0.002
        ([1000, 10**6], [1.998002, 0.1]),
        # groups do not mix, and a class without instances is not in the mean
        ([0, 4, 4, 2000], [5.0, 1.0, 1.0, 1.0]),
    ],
)
def test_in_group_weights_by_hand(counts, want):
    weights = make_head("bags", instance_counts=counts, in_group="inverse", gate=False).label_weights
    head_bins = make_head("bags", instance_counts=counts, gate=False).label_to_bin
    own = weights.where(head_bins > 0, 0).sum(dim=0)[1:]
    torch.testing.assert_close(own, torch.tensor(want), atol=1e-6, rtol=0)
    assert bool((weights[head_bins == 0] == 1).all())


def test_other_caps_inside_a_group():
    options = {"in_group": "inverse", "in_group_lower": 0.01, "in_group_upper": 1.5}
    weights = make_head("bags", instance_counts=[1000, 10**6], **options).label_weights
    torch.testing.assert_close(weights[4, 1:], torch.tensor([1.5, 0.01]))


def test_layouts_differ_even_where_widths_are_equal():
    """What the loading of weights compares: a gate's two logits are as many as two groups' "others"."""
    gated = make_head("bags", instance_counts=COUNTS, edges=(10, 100))
    gateless = make_head("bags", instance_counts=COUNTS, edges=(10, 100, 1000, 10**4), gate=False)
    assert gated.num_logits == gateless.num_logits
    assert gated.layout_buffers == ("label_to_bin",)
    assert not torch.equal(gated.label_to_bin, gateless.label_to_bin)
    same_rows = make_head("bags", instance_counts=COUNTS, edges=(10, 100, 1000), gate=False)
    assert gated.label_to_bin.shape == same_rows.label_to_bin.shape
    assert not torch.equal(gated.label_to_bin, same_rows.label_to_bin)


def test_layout_without_a_gate():
    head = make_head("bags", instance_counts=COUNTS, gate=False)
    assert head.num_logits == len(COUNTS) + 4
    assert head.slices == ((0, 3), (3, 4), (7, 2), (9, 2))
    assert head.class_logit.tolist() == [4, 1, 8, 5, 2, 10, 6]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"merge": "sum"}, "merge: got 'sum'; allowed are 'product', 'gated'"),
        (
            {"merge": "gated", "gate": False},
            "merge is gated, which needs the gate; allowed with gate=false",
        ),
        ({"in_group": "linear"}, "in_group: got 'linear'; allowed are 'none' or 'inverse'"),
        ({"in_group_lower": 2, "in_group_upper": 1}, "in_group_lower is 2, in_group_upper is 1"),
        ({"in_group_lower": 0, "in_group_upper": 0}, "in_group_upper: got 0; input should be greater than 0"),
        ({"in_group_upper": float("inf")}, "in_group_upper: got inf"),
        ({"gate": 7}, "gate: got 7; allowed are true and false"),
    ],
)
def test_bad_options(options, says):
    with pytest.raises(RecipeError) as error:
        make_head("bags", instance_counts=COUNTS, **options)
    assert str(error.value).startswith("head bags: ")
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"gate": "yes"}, "head bags: gate: got 'yes'; allowed are true and false"),
        ({"gate": 0}, "head bags: gate: got 0; allowed are true and false"),
        ({"edges": (10, 10)}, "head bags: edges: got 10,10; allowed are positive whole numbers in ascending order"),
        ({"in_group_upper": float("inf")}, "head bags: in_group_upper: got inf; a finite number is needed"),
    ],
)
def test_a_wrong_value_is_refused_and_its_key_is_said_once(options, line):
    with pytest.raises(RecipeError) as error:
        make_head("bags", instance_counts=[1, 2, 30], **options)
    (said,) = error.value.problems
    assert said.startswith(line)
    assert said.count("edges: ") <= 1
