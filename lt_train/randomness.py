"""Random draws keyed by what they are for, never by what was drawn before.

A key names the draw: the run's seed, a purpose ("flip", "rpn", "others", ...) and integers such as epoch, position and
image id. Equal keys give equal draws in any process, worker or order, which makes resuming exact.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def draw_seed(seed: int, purpose: str, *key: int) -> int:
    """A seed of 63 bits for the one draw that the arguments name.

    Args:
        seed: Seed of the run, or a seed made by this function.
        purpose: What is drawn, for example ``"rpn"``.
        *key: Integers that tell the draws of one purpose apart, for example epoch, position and image id.

    Returns:
        The first 8 bytes of the sha256 of the arguments as compact JSON, big-endian, without the top bit.
    """
    # JSON quotes the purpose, so that no two keys share a text
    text = json.dumps([int(seed), purpose, *(int(part) for part in key)], separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "big") & (2**63 - 1)


def keyed_generator(seed: int, purpose: str, *key: int) -> torch.Generator:
    """A CPU generator seeded with :func:`draw_seed` of the same arguments.

    PyTorch's CPU generator starts from the low 32 bits of a seed; two keys may therefore share a stream by chance
    (one in 4 billion), which is harmless.
    """
    import torch

    return torch.Generator().manual_seed(draw_seed(seed, purpose, *key))
