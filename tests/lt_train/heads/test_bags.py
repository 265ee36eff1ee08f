"""Balanced Group Softmax: layout, published tables, the worked example, an independent oracle, the draw of others."""

import csv
import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lt_data.errors import RecipeError
from lt_train.heads import make_head
from lt_train.heads.groups.region_weights import others_weights
from lt_train.heads.shared.base import dense_rank
from lt_train.heads.shared.draws import uniform
from lt_train.randomness import keyed_generator

torch.set_num_threads(1)

# the worked example: groups {2, 5}, {1, 4}, {3}, {6}
TOY_COUNTS = [50, 5, 500, 60, 6, 5000]
TOY_LABELS = torch.tensor([2, 1, 0, 3, 0, 0, 5, 0])
INF = float("inf")


def toy_logits():
    n, k = np.mgrid[0:8, 0:12]
    return torch.from_numpy((((7 * n + 3 * k) % 11) - 5) / 4).float()


def toy(**options):
    return make_head("bags", instance_counts=TOY_COUNTS, **options)


def test_toy_layout():
    head = toy()
    assert head.num_logits == 12
    assert head.slices == ((0, 2), (2, 3), (5, 3), (8, 2), (10, 2))
    assert head.label_to_bin[:, TOY_LABELS].tolist() == [
        [1, 1, 0, 1, 0, 0, 1, 0],
        [1, 0, 0, 0, 0, 0, 2, 0],
        [0, 1, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
    ]


def test_toy_losses():
    losses = toy().loss(toy_logits(), TOY_LABELS)
    want = {f"loss_group_{i}": v for i, v in enumerate([1.196885, 1.126927, 1.314427, 0.790635, 0.0])}
    assert {key: pytest.approx(float(value), abs=1e-6) for key, value in losses.items()} == want


@pytest.mark.parametrize(
    ("ratio", "kept"),
    [(8.0, [8, 8, 8, 0]), (1.0, [4, 2, 2, 0]), (0.5, [3, 1, 1, 0]), (0.0, [2, 1, 1, 0]), (INF, [8, 8, 8, 0])],
)
def test_toy_kept_regions(ratio, kept):
    weights = others_weights(toy().label_to_bin[1:, TOY_LABELS], ratio, generator=keyed_generator(0, "others"))
    assert weights.sum(dim=1).tolist() == kept


def test_toy_scores():
    scores = toy().scores(toy_logits())
    want = [
        [0.320821, 0.189220, 0.422453, 0.461284, 0.400578, 0.057173, 0.080960],
        [0.320821, 0.189220, 0.189220, 0.080960, 0.400578, 0.400578, 0.461284],
        [0.320821, 0.422453, 0.064646, 0.461284, 0.057173, 0.136856, 0.461284],
    ]
    torch.testing.assert_close(scores[:3], torch.tensor(want), atol=1e-6, rtol=0)
    # nothing is normalised again
    assert float(scores[0].sum()) == pytest.approx(1.932489, abs=1e-6)


@pytest.fixture(scope="module")
def lvis_counts(shared_data):
    with open(shared_data / "lvis_v0.5_counts" / "lvis_v0.5_train_counts.csv", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["cat_id"]))
    return [int(row["instance_count"]) for row in rows]


def test_lvis_tables(lvis_counts):
    """Sizes and checksums of the released code's intermediate files for LVIS v0.5."""
    head = make_head("bags", instance_counts=lvis_counts)
    assert head.num_logits == 1236
    assert head.slices == ((0, 2), (2, 295), (297, 454), (751, 303), (1054, 182))
    table = head.label_to_bin.numpy()
    assert table.shape == (5, 1231)
    assert table.sum(axis=1).tolist() == [1230, 43365, 102831, 45753, 16471]
    assert hashlib.sha256(table.astype("<i8").tobytes()).hexdigest().startswith("0aea68ebd71ba415")


@pytest.mark.parametrize(("edges", "width"), [((100,), 1234), ((5, 10, 50, 100, 500, 1000, 5000), 1240)])
def test_lvis_other_groupings(lvis_counts, edges, width):
    assert make_head("bags", instance_counts=lvis_counts, edges=edges).num_logits == width


def test_class_on_an_edge_and_class_without_instances():
    head = make_head("bags", instance_counts=[10, 0, 9, 100], edges=(10, 100))
    assert head.slices == ((0, 2), (2, 3), (5, 2), (7, 2))
    assert head.label_to_bin.tolist() == [[0, 1, 1, 1, 1], [0, 0, 1, 2, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 1]]
    assert head.class_logit.tolist() == [6, 3, 4, 8]


def test_empty_group_keeps_its_others_logit_and_costs_nothing():
    head = make_head("bags", instance_counts=[5, 5000])
    assert head.slices == ((0, 2), (2, 2), (4, 1), (5, 1), (6, 2))
    logits = torch.randn(6, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    losses = head.loss(logits, torch.tensor([0, 1, 2, 0, 0, 1]))
    assert [float(losses[f"loss_group_{i}"].detach()) for i in (2, 3)] == [0, 0]
    torch.stack(list(losses.values())).sum().backward()
    assert logits.grad[:, 4:6].abs().sum() == 0


def numpy_loss(logits, labels, groups, keep):
    """Float64 oracle by definition, one region at a time: losses and the gradient of their sum.

    ``groups`` are lists of labels; ``keep`` [G, R] says which regions count.
    """
    slices = [[0, 1]]
    for group in groups:
        first = slices[-1][-1] + 1
        slices.append(list(range(first, first + 1 + len(group))))
    losses, gradient = [], np.zeros_like(logits)
    for g, columns in enumerate(slices):
        counted = [r for r in range(len(labels)) if g == 0 or keep[g - 1][r]]
        loss = 0.0
        for r in counted:
            inside = labels[r] > 0 if g == 0 else labels[r] in groups[g - 1]
            target = int(inside) if g == 0 or not inside else groups[g - 1].index(labels[r]) + 1
            z = logits[r, columns] - logits[r, columns].max()
            p = np.exp(z) / np.exp(z).sum()
            loss += np.log(np.exp(z).sum()) - z[target]
            gradient[r, columns] += (p - np.eye(len(columns))[target]) / len(counted)
        losses.append(loss / max(len(counted), 1))
    return losses, gradient


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("std", [1.0, 200.0])
def test_loss_and_gradient_against_a_numpy_oracle(seed, std):
    rng = np.random.default_rng(seed)
    counts = rng.choice([0, 3, 9, 10, 60, 99, 100, 700, 999, 1000, 20000], size=rng.integers(1, 15))
    head = make_head("bags", instance_counts=counts.tolist(), others_ratio=2.0)
    bounds = [(0, 10), (10, 100), (100, 1000), (1000, 10**9)]
    groups = [[c + 1 for c in range(len(counts)) if low <= counts[c] < high] for low, high in bounds]
    labels = rng.integers(0, len(counts) + 1, size=50) * (rng.random(50) < 0.5)
    logits = torch.from_numpy(rng.normal(size=(50, head.num_logits)) * std).float().requires_grad_()
    tensor_labels = torch.from_numpy(labels)
    losses = head.loss(logits, tensor_labels, generator=keyed_generator(seed, "others"))
    kept = others_weights(head.label_to_bin[1:, tensor_labels], 2.0, generator=keyed_generator(seed, "others"))
    torch.stack(list(losses.values())).sum().backward()
    want, gradient = numpy_loss(logits.detach().double().numpy(), labels.tolist(), groups, kept.numpy())
    np.testing.assert_allclose([float(v.detach()) for v in losses.values()], want, rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(logits.grad.numpy(), gradient, atol=1e-6)


regions = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4)), min_size=1, max_size=60)


@settings(max_examples=150)
@given(regions, st.sampled_from([0.0, 0.5, 1.0, 1.7, 3.0, 8.0, 1000.0, INF]), st.integers(0, 2**40))
def test_number_of_kept_regions(pairs, ratio, seed):
    labels = torch.tensor([label for label, _ in pairs])
    micro_batch = dense_rank(torch.tensor([part for _, part in pairs]))
    bins = toy().label_to_bin[1:, labels]
    weights = others_weights(bins, ratio, micro_batch=micro_batch, generator=keyed_generator(seed, "others"))
    assert set(weights.unique().tolist()) <= {0.0, 1.0}
    for part in micro_batch.unique():
        here = micro_batch == part
        for group in range(4):
            own = int((bins[group, here] > 0).sum())
            others = int(here.sum()) - own
            kept = own + min(others, others if ratio == INF else int(own * ratio)) if own else 0
            assert int(weights[group, here].sum()) == kept
            if own:
                assert bool((weights[group, here & (bins[group] > 0)] == 1).all())


def test_others_are_drawn_uniformly_and_by_group():
    """Frequency of every other region over many draws, within 5 standard deviations."""
    labels = torch.tensor([2, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    bins = toy().label_to_bin[1:3, labels]
    generator = keyed_generator(0, "others")
    draws = torch.stack([others_weights(bins, 3.0, generator=generator) for _ in range(3000)])
    share = draws.mean(dim=0)
    expected = 3 / 9
    tolerance = 5 * (expected * (1 - expected) / 3000) ** 0.5
    assert bool((share[0, 1:] - expected).abs().max() < tolerance)
    assert bool((share[1, [0, 2, 3, 4, 5, 6, 7, 8, 9]] - expected).abs().max() < tolerance)
    # positives of another group are eligible, and groups draw by themselves
    both = (draws[:, 0, 5] * draws[:, 1, 5]).mean()
    assert abs(float(both) - expected**2) < tolerance


def test_dense_rank():
    assert dense_rank(torch.tensor([5, -2, 5, 9, -2])).tolist() == [1, 0, 1, 2, 0]
    assert dense_rank(torch.zeros(0, dtype=torch.int64)).tolist() == []


@pytest.mark.parametrize("options", [{"others_ratio": -1}, {"others_ratio": float("nan")}, {"edges": (10, 10)}])
def test_bad_options(options):
    with pytest.raises(RecipeError, match="head bags"):
        toy(**options)


def test_yaml_values_are_taken():
    """A recipe gives lists and may write .inf."""
    head = make_head("bags", instance_counts=TOY_COUNTS, edges=[10, 100, 1000], others_ratio=INF)
    assert head.slices == toy().slices


@pytest.mark.parametrize("edges", [(10.5, 20), ("a",), (10, None), (float("nan"),), (INF,), 10, "ten"])
def test_edges_are_whole_numbers(edges):
    """Neither cut off nor a traceback."""
    with pytest.raises(RecipeError, match=r"^head bags: edges(\.[01])?: got [^;]*; "):
        toy(edges=edges)
    assert toy(edges=np.array([10.0, 100.0])).edges == (10, 100)


def test_a_draw_for_a_gpu_is_copied_from_pinned_memory(monkeypatch):
    """The device has to be waited for while it copies from any other memory of the host."""
    done = []

    class Draw:
        def __init__(self, device):
            self.device = torch.device(device)

        def pin_memory(self):
            done.append("pinned")
            return self

        def to(self, device, *, non_blocking):
            done.append(f"copied to {device}" * non_blocking)
            return self

    monkeypatch.setattr(torch, "rand", lambda *_, device, **__: Draw(device))
    for device, generator in (("cuda", keyed_generator(0, "others")), ("cpu", None), ("cuda", None)):
        uniform(2, 3, torch.device(device), generator)
    assert done == ["pinned", "copied to cuda", "copied to cpu", "copied to cuda"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_others_on_a_gpu_are_those_of_the_cpu_and_nothing_waits():
    bins = toy().label_to_bin[1:, TOY_LABELS.repeat(20)]
    wanted = others_weights(bins, 1.0, generator=keyed_generator(0, "others"))
    bins = bins.cuda()
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        got = others_weights(bins, 1.0, generator=keyed_generator(0, "others"))
    finally:
        torch.cuda.set_sync_debug_mode(before)
    assert torch.equal(got.cpu(), wanted)


def test_groups_of_any_partition():
    """The layout is that of the lists: a class of each count may be anywhere."""
    head = make_head("bags", instance_counts=[5, 5000, 7, 1], groups=[[4, 2], [], [1, 3]])
    assert head.slices == ((0, 2), (2, 3), (5, 1), (6, 3))
    assert head.class_logit.tolist() == [7, 3, 8, 4]
    assert head.label_to_bin.tolist() == [[0, 1, 1, 1, 1], [0, 0, 1, 0, 2], [0, 0, 0, 0, 0], [0, 1, 0, 2, 0]]
    assert "groups" not in head.extra_repr()


def test_groups_that_bounds_make_are_those_of_the_bounds():
    labels = [
        [i + 1 for i, n in enumerate(TOY_COUNTS) if low <= n < high]
        for low, high in ((0, 10), (10, 100), (100, 1000), (1000, 10**9))
    ]
    by_list, by_edges = make_head("bags", instance_counts=TOY_COUNTS, groups=labels), toy()
    assert by_list.state_dict().keys() == by_edges.state_dict().keys()
    assert all(torch.equal(value, by_edges.state_dict()[key]) for key, value in by_list.state_dict().items())


@pytest.mark.parametrize(
    ("groups", "says"),
    [
        ([[1, 2], [3]], "labels 4 are in no group; needed is every label from 1 to 4 in exactly one list"),
        ([[1, 2], [2, 3, 4]], "labels 2 are listed more than once"),
        ([[1, 2, 3, 4, 5]], "labels 5 are no classes"),
        ([[1, 1], [7]], "labels 7 are no classes; labels 1 are listed more than once; labels 2, 3, 4 are in no group"),
        ([[0, 1, 2, 3, 4]], "groups.0.0: got 0; input should be greater than or equal to 1"),
        ([1, 2, 3, 4], "groups.0: got 1; a list is needed"),
        ([["1", 2, 3, 4]], "groups.0.0: got '1'; a valid integer is needed"),
    ],
)
def test_lists_that_are_no_partition_are_refused(groups, says):
    with pytest.raises(RecipeError) as error:
        make_head("bags", instance_counts=[1, 2, 3, 4], groups=groups)
    assert str(error.value).startswith("head bags: groups")
    assert says in str(error.value)
