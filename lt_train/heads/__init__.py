"""Heads: what logits mean. One file per method and one for its options; the table and the union here list them.

A row is ``name: "module:class"``, so that listing the names imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from lt_data.errors import RecipeError
from lt_train.heads.options.bags import BagsOptions
from lt_train.heads.options.focal import FocalOptions
from lt_train.heads.options.reweight import ReweightOptions
from lt_train.heads.options.softmax import SoftmaxOptions
from lt_train.options.section import Section, make_section, option_defaults, sections_of

if TYPE_CHECKING:
    from lt_train.heads.base import Head

__all__ = ["HEADS", "HeadOptions", "head_options", "make_head"]

HEADS: dict[str, str] = {
    "softmax": "lt_train.heads.softmax:SoftmaxHead",
    "reweight": "lt_train.heads.reweight:ReweightHead",
    "focal": "lt_train.heads.focal:FocalHead",
    "bags": "lt_train.heads.bags:BagsHead",
}
# the options of each of them
HeadOptions = Annotated[SoftmaxOptions | ReweightOptions | FocalOptions | BagsOptions, Field(discriminator="name")]


def make_head(name: str, *, instance_counts: Sequence[int], **options: Any) -> Head:
    """The head called ``name`` for a training file with these counts.

    Args:
        name: A key of ``HEADS``.
        instance_counts: Non-crowd training instances of classes 1..C, in that order; zeros are allowed.
        **options: Options of the method, see :func:`head_options`.

    Raises:
        RecipeError: The name or an option is unknown, or a value is out of range.
    """
    chosen = make_section(_section(name), options, where=f"head {name}")
    module, _, attribute = HEADS[name].partition(":")
    head_class: Any = getattr(import_module(module), attribute)
    head: Head = head_class(instance_counts, chosen)
    return head


def head_options(name: str) -> dict[str, Any]:
    """Options of a head and their defaults.

    Raises:
        RecipeError: No head has that name.
    """
    return option_defaults(_section(name))


def _section(name: str) -> type[Section]:
    if name not in HEADS:
        raise RecipeError(f"head: got {name!r}; allowed are {', '.join(sorted(HEADS))}")
    return sections_of(HeadOptions)[name]
