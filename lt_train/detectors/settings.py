"""What RoI heads are told beside the settings of torchvision's; the same in all stages of a cascade."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PRE_NMS_TOPK: Final = 10_000


@dataclass(frozen=True)
class RoISettings:
    """How RoI heads train and detect.

    Attributes:
        pre_nms_topk: (region, class) pairs of an image that reach NMS, best scores first; ``None`` is all. As long
            as ``detections_per_img`` of them survive, the detections are those of all pairs, up to the order of equal
            scores.
        micro_batch_images: Images per micro-batch of the head's loss, to equal a run on several devices; ``None`` is
            the whole batch.
        mask_target: ``exact`` or ``polygon``, see :mod:`lt_train.data.mask_targets`.
    """

    pre_nms_topk: int | None = PRE_NMS_TOPK
    micro_batch_images: int | None = None
    mask_target: str = "exact"


USUAL: Final = RoISettings()
