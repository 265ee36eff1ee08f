"""Keyed draws: the same everywhere, different for different keys."""

import hashlib

import torch
from hypothesis import given
from hypothesis import strategies as st

from lt_train.randomness import draw_seed, keyed_generator


def test_value_is_promised():
    text = b'[7,"rpn",3,12]'
    assert draw_seed(7, "rpn", 3, 12) == int.from_bytes(hashlib.sha256(text).digest()[:8], "big") % 2**63
    assert draw_seed(0, "flip") == 4796030408959286322


@given(st.integers(-(2**70), 2**70), st.text(max_size=8), st.lists(st.integers(), max_size=4))
def test_fits_a_generator(seed, purpose, key):
    value = draw_seed(seed, purpose, *key)
    assert 0 <= value < 2**63
    keyed_generator(seed, purpose, *key)


def test_each_part_of_the_key_matters():
    keys = [(0, "a"), (1, "a"), (0, "b"), (0, "a", 0), (0, "a", 1), (0, "a", 0, 0), (0, "a,0"), (0, 'a",0')]
    assert len({draw_seed(*key) for key in keys}) == len(keys)


def test_generator_repeats_and_leaves_the_global_one_alone():
    state = torch.get_rng_state()
    first = torch.rand(5, generator=keyed_generator(3, "others", 1))
    second = torch.rand(5, generator=keyed_generator(3, "others", 1))
    other = torch.rand(5, generator=keyed_generator(3, "others", 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())
