"""Options of :class:`lt_train.heads.softmax.SoftmaxHead`."""

from __future__ import annotations

from typing import Literal

from lt_train.options.section import Section


class SoftmaxOptions(Section):
    """Softmax over C + 1 logits."""

    name: Literal["softmax"] = "softmax"
