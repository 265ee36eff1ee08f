"""Mask heads that take what the mask head of the stage before makes of the same regions: mask information flow.

Shapes: R regions, D channels of the pyramid, H channels of a mask head, P x P cells.
"""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn


class FlowMaskHead(nn.Module):
    """``f_i = convs_i(x + flow_i(f_{i-1}))``, where the first stage has no flow.

    Gradients go all the way: the loss of a stage trains the mask heads of the stages before it, too.

    Args:
        convs: The convolutions of this stage, which keep the size.
        channels: D of ``pooled``.
        hidden: Channels that the convolutions give.
        previous: The head of the stage before, which belongs to that stage; ``None`` for the first one.

    Attributes:
        flow: 1x1 convolution and ReLU of what the stage before gives, or ``None``.

    Source: Chen et al., "Hybrid Task Cascade for Instance Segmentation", CVPR 2019, section 3.2.
    """

    flow: nn.Sequential | None

    def __init__(self, convs: Any, channels: int, hidden: int, previous: FlowMaskHead | None = None) -> None:
        super().__init__()
        self.convs = convs
        # in a tuple, because it is a part of another stage and its weights are saved there
        self._previous = (previous,)
        # a layer that nothing uses would make several processes wait for its gradient
        self.flow = None if previous is None else _flow(hidden, channels)

    def forward(self, pooled: Tensor) -> Tensor:
        """Pooled maps [R, D, P, P] of this stage's regions -> [R, H, P, P]."""
        previous = self._previous[0]
        return self.step(pooled, None if previous is None or self.flow is None else previous(pooled))

    def step(self, pooled: Tensor, before: Tensor | None) -> Tensor:
        """The same, given what the stage before makes of ``pooled``."""
        if before is not None and self.flow is not None:
            pooled = pooled + self.flow(before)
        return cast(Tensor, self.convs(pooled))


def _flow(hidden: int, channels: int) -> nn.Sequential:
    layer: Any = nn.Conv2d(hidden, channels, 1)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return nn.Sequential(layer, nn.ReLU(inplace=True))
