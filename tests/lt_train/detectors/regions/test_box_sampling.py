"""Drawing boxes for all images at once: torchvision's boxes for its random state, and keyed draws."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

from lt_train.detectors.regions.sampling import BoxSampler, keyed_priorities

CPU = torch.device("cpu")


def split(chosen, row):
    """Positions of the positives and of the negatives of an image."""
    places = chosen.index[row].split([chosen.positives, chosen.index.shape[1] - chosen.positives])
    taken = chosen.taken[row].split([chosen.positives, chosen.index.shape[1] - chosen.positives])
    return [place[is_taken].tolist() for place, is_taken in zip(places, taken, strict=True)]


def labels_of(seed, images, boxes):
    return torch.randint(-1, 3, (images, boxes), generator=torch.Generator().manual_seed(seed))


@given(
    st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 40), st.integers(1, 24), st.sampled_from([0.25, 0.5, 1])
)
def test_without_keys_the_boxes_are_torchvisions(seed, images, boxes, most, fraction):
    labels = labels_of(seed, images, boxes)
    torch.manual_seed(seed)
    chosen = BoxSampler(most, fraction)(labels, [None] * images)
    after = torch.rand(())
    torch.manual_seed(seed)
    wanted = BalancedPositiveNegativeSampler(most, fraction)(list(labels))
    for row in range(images):
        assert split(chosen, row) == [torch.where(masks[row])[0].tolist() for masks in wanted]
    assert torch.equal(after, torch.rand(()))


@given(st.integers(0, 2**63 - 1), st.integers(1, 3), st.integers(1, 60), st.integers(1, 24))
def test_keyed_draws(key, images, boxes, most):
    """As many of each kind as torchvision takes; an image's boxes depend on its own key alone."""
    labels, state = labels_of(key % 2**31, images, boxes), torch.get_rng_state()
    keys = [(key + i) % 2**63 for i in range(images)]
    sampler = BoxSampler(most, 0.5)
    chosen = sampler(labels, keys)
    for row in range(images):
        positive, negative = split(chosen, row)
        assert bool((labels[row][positive] > 0).all())
        assert bool((labels[row][negative] == 0).all())
        quota = min(int((labels[row] > 0).sum()), most // 2)
        assert len(positive) == len(set(positive)) == quota
        assert len(negative) == len(set(negative)) == min(int((labels[row] == 0).sum()), most - quota)
        assert positive == sorted(positive)
        assert negative == sorted(negative)
        assert split(sampler(labels[row : row + 1], [keys[row]]), 0) == [positive, negative]
    assert torch.equal(state, torch.get_rng_state())


def test_keyed_and_other_images_in_one_batch():
    labels = labels_of(0, 2, 50)
    sampler = BoxSampler(8, 0.5)
    mixed = sampler(labels, [None, 7])
    assert split(mixed, 1) == split(sampler(labels[1:], [7]), 0)
    assert [len(part) for part in split(mixed, 0)] == [4, 4]


def test_padding_is_never_taken():
    labels = torch.tensor([[1, 0, 0, -1], [0, 1, -1, -1]])
    chosen = BoxSampler(10, 0.5)(labels, [1, 2])
    assert [split(chosen, row) for row in (0, 1)] == [[[0], [1, 2]], [[1], [0]]]


def test_no_box_at_all():
    chosen = BoxSampler(10, 0.5)(torch.zeros(2, 0), [1, 2])
    assert chosen.index.shape == chosen.taken.shape == (2, 0)


def by_numbers(key, boxes):
    """The hash in Python's own numbers."""

    def mix(x):
        for shift, factor in ((16, 0x21F0AAAD), (15, 0x735A2D97)):
            x = ((x ^ (x >> shift)) * factor) % 2**32
        return x ^ (x >> 15)

    return [mix((mix(box ^ (key % 2**32)) + (key >> 32)) % 2**32) for box in range(boxes)]


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=3))
def test_priorities_are_promised(keys):
    assert keyed_priorities(keys, 20, CPU).tolist() == [by_numbers(key, 20) for key in keys]


def test_no_two_boxes_share_a_priority():
    priority = keyed_priorities([2**62 + 12345], 300_000, CPU)[0]
    assert len(priority.unique()) == 300_000
    assert 0 <= int(priority.min()) < int(priority.max()) < 2**32


def test_every_box_and_every_pair_is_as_likely():
    """4 of 12 boxes for each of 20,000 keys: shares within five standard errors of those of a uniform draw."""
    keys = [977 * i for i in range(20_000)]
    chosen = BoxSampler(4, 1.0)(torch.ones(len(keys), 12), keys).index[:, :4]
    drawn = torch.zeros(len(keys), 12).scatter_(1, chosen, 1.0)
    together = (drawn.T @ drawn) / len(keys)
    single, pair = together.diagonal(), together[~torch.eye(12, dtype=torch.bool)]
    assert float((single - 4 / 12).abs().max()) < 5 * (4 / 12 * 8 / 12 / len(keys)) ** 0.5
    share = 4 / 12 * 3 / 11
    assert float((pair - share).abs().max()) < 5 * (share * (1 - share) / len(keys)) ** 0.5
