"""Heads: what logits mean. One file per method; this dict lists them.

A row is ``name: "module:class"``, so that listing the names imports no torch.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from lt_data.errors import RecipeError

if TYPE_CHECKING:
    from lt_train.heads.base import Head

__all__ = ["HEADS", "head_options", "make_head"]

HEADS: dict[str, str] = {
    "softmax": "lt_train.heads.softmax:SoftmaxHead",
    "reweight": "lt_train.heads.reweight:ReweightHead",
    "focal": "lt_train.heads.focal:FocalHead",
    "bags": "lt_train.heads.bags:BagsHead",
}


def make_head(name: str, *, instance_counts: Sequence[int], **options: Any) -> Head:
    """The head called ``name`` for a training file with these counts.

    Args:
        name: A key of ``HEADS``.
        instance_counts: Non-crowd training instances of classes 1..C, in that order; zeros are allowed.
        **options: Options of the method, see :func:`head_options`.

    Raises:
        RecipeError: The name or an option is unknown, or a value is out of range.
    """
    known = head_options(name)
    unknown = sorted(set(options) - set(known))
    if unknown:
        allowed = ", ".join(known) or "none"
        raise RecipeError(f"head {name}: unknown option {option!r}; allowed are {allowed}" for option in unknown)
    return _head_class(name)(instance_counts, **options)


def head_options(name: str) -> dict[str, Any]:
    """Options of a head and their defaults.

    Raises:
        RecipeError: No head has that name.
    """
    parameters = inspect.signature(_head_class(name)).parameters
    return {key: p.default for key, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


def _head_class(name: str) -> type[Head]:
    if name not in HEADS:
        raise RecipeError(f"head: got {name!r}; allowed are {', '.join(sorted(HEADS))}")
    module, _, attribute = HEADS[name].partition(":")
    head_class: type[Head] = getattr(import_module(module), attribute)
    return head_class
