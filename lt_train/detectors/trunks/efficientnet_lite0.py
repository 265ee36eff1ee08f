"""The detectors with an EfficientNet-Lite0 and a small pyramid: pretrained features for laptops and few images.

Shapes: N images, H and W their padded size in pixels (multiples of 32).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.misc import Conv2dNormActivation

from lt_train.detectors.trunks.mask_branch import mask_branch
from lt_train.detectors.trunks.norm import StoredStatsBatchNorm2d

# of the weights: pixels in 0..255 less 127, divided by 128
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
STEM_CHANNELS = 32
NORM_EPS = 1e-3
NORM_MOMENTUM = 0.01

# stages that the pyramid takes, at strides 8, 16 and 32
LEVELS = {"stage3": "0", "stage5": "1", "stage7": "2"}
PYRAMID_CHANNELS = 64
# of group normalisation (Wu and He, ECCV 2018), which depends on no other image of the batch
PYRAMID_GROUPS = 8
# sides in pixels of the anchors of each level
ANCHORS = ((32, 45), (64, 90), (128, 181))
# boxes up to this side in pixels are pooled at stride 8, up to twice as large ones at 16, larger ones at 32
LEVEL_SIDE = 112
RATIOS = (0.5, 1.0, 2.0)
BOX_FEATURES = 256
MASK_LAYERS = (64, 64, 64, 64)


class Stage(NamedTuple):
    """Blocks of one width.

    Attributes:
        kernel: Side of the depthwise convolutions.
        stride: Of the first block.
        expansion: Times as many channels inside a block as go in.
        channels: That come out.
        blocks: Number of blocks.
    """

    kernel: int
    stride: int
    expansion: int
    channels: int
    blocks: int


# EfficientNet-B0 (Tan and Le, ICML 2019, table 1); Lite has no squeeze-and-excitation, and ReLU6 for swish
STAGES = (
    Stage(3, 1, 1, 16, 1),
    Stage(3, 2, 6, 24, 2),
    Stage(5, 2, 6, 40, 2),
    Stage(3, 2, 6, 80, 3),
    Stage(5, 1, 6, 112, 3),
    Stage(5, 2, 6, 192, 4),
    Stage(3, 1, 6, 320, 1),
)

Norm = Callable[[int], nn.Module]


def lite0_rcnn(num_classes: int, *, masks: bool, pretrained: bool, **settings: Any) -> Any:
    """Torchvision's Faster or Mask R-CNN on an EfficientNet-Lite0, no weights.

    Args:
        num_classes: C.
        masks: Whether it has a mask branch.
        pretrained: Batch norms on stored statistics.
        **settings: Passed to torchvision.
    """
    make = MaskRCNN if masks else FasterRCNN
    return make(efficientnet_lite0_fpn(pretrained=pretrained), **_parts(num_classes, masks), **settings)


def efficientnet_lite0_fpn(*, pretrained: bool) -> Any:
    """The trunk with its pyramid: [N, 3, H, W] -> maps of ``PYRAMID_CHANNELS`` at strides 8, 16 and 32.

    Args:
        pretrained: Batch norms on stored statistics.
    """
    body = IntermediateLayerGetter(efficientnet_lite0(pretrained=pretrained), LEVELS)
    widths = [STAGES[int(name.removeprefix("stage")) - 1].channels for name in LEVELS]
    # blocks are summed and not normalised after: maps of deviation 9 at stride 8, on which the losses of the RPN jumped
    # to a hundred at the rate that the box head needs
    pyramid = FeaturePyramidNetwork(widths, PYRAMID_CHANNELS, norm_layer=partial(nn.GroupNorm, PYRAMID_GROUPS))
    trunk: Any = nn.Sequential(OrderedDict(body=body, fpn=pyramid))
    # torchvision's detectors ask for it
    trunk.out_channels = PYRAMID_CHANNELS
    return trunk


def efficientnet_lite0(*, pretrained: bool) -> nn.Sequential:
    """The trunk up to its last block: [N, 3, H, W] -> [N, 320, H/32, W/32].

    Args:
        pretrained: Batch norms on stored statistics.
    """
    norm: Norm = partial(StoredStatsBatchNorm2d, eps=NORM_EPS)
    if not pretrained:
        norm = partial(nn.BatchNorm2d, eps=NORM_EPS, momentum=NORM_MOMENTUM)
    stem = OrderedDict(pad=_same_padding(3, 2), conv=_convolution(3, STEM_CHANNELS, norm, kernel=3, stride=2))
    body: OrderedDict[str, nn.Module] = OrderedDict(stem=nn.Sequential(stem))
    channels = STEM_CHANNELS
    for number, stage in enumerate(STAGES, 1):
        widths = [channels, *[stage.channels] * (stage.blocks - 1)]
        blocks = [InvertedBottleneck(width, stage, norm, first=i == 0) for i, width in enumerate(widths)]
        body[f"stage{number}"] = nn.Sequential(*blocks)
        channels = stage.channels
    return nn.Sequential(body)


class InvertedBottleneck(nn.Module):
    """A block: 1x1 to many channels, depthwise, 1x1 back to few; added to its input where both are of one shape.

    Args:
        inputs: Channels that go in.
        stage: Its settings.
        norm: Makes a batch norm of a number of channels.
        first: Whether the block has the stride of its stage.
    """

    def __init__(self, inputs: int, stage: Stage, norm: Norm, *, first: bool) -> None:
        super().__init__()
        stride, inside = stage.stride if first else 1, inputs * stage.expansion
        self.expand = _convolution(inputs, inside, norm) if stage.expansion > 1 else nn.Identity()
        self.pad = _same_padding(stage.kernel, stride)
        self.depthwise = _convolution(inside, inside, norm, kernel=stage.kernel, stride=stride, groups=inside)
        self.project = _convolution(inside, stage.channels, norm, activation=None)
        self.adds = stride == 1 and inputs == stage.channels

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] -> [N, channels, H / stride, W / stride]."""
        found: Tensor = self.project(self.depthwise(self.pad(self.expand(x))))
        return found + x if self.adds else found


def _convolution(
    inputs: int,
    outputs: int,
    norm: Norm,
    *,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    activation: Callable[..., nn.Module] | None = nn.ReLU6,
) -> nn.Sequential:
    """Convolution, batch norm and ReLU6; one with a stride is padded before, see :func:`_same_padding`."""
    padding = (kernel - 1) // 2 if stride == 1 else 0
    return Conv2dNormActivation(
        inputs, outputs, kernel, stride, padding, groups, norm_layer=norm, activation_layer=activation
    )


def _same_padding(kernel: int, stride: int) -> nn.Module:
    """TensorFlow's padding of an even side for stride 2: one less at the top and left, which torchvision's lack."""
    before = (kernel - 2) // 2
    return nn.ZeroPad2d((before, kernel - 2 - before) * 2) if stride == 2 else nn.Identity()


def _parts(num_classes: int, masks: bool) -> dict[str, Any]:
    """Parts and limits besides the trunk."""
    parts: dict[str, Any] = {
        "image_mean": MEAN,
        "image_std": STD,
        "rpn_anchor_generator": AnchorGenerator(ANCHORS, (RATIOS,) * len(ANCHORS)),
        "rpn_pre_nms_top_n_train": 300,
        "rpn_post_nms_top_n_train": 150,
        "rpn_pre_nms_top_n_test": 300,
        "rpn_post_nms_top_n_test": 150,
        "rpn_batch_size_per_image": 64,
        "box_batch_size_per_image": 64,
        "box_roi_pool": _pool(7),
        "box_head": _box_head(),
        "box_predictor": FastRCNNPredictor(BOX_FEATURES, num_classes + 1),
    }
    if masks:
        parts |= mask_branch(PYRAMID_CHANNELS, MASK_LAYERS, _pool(14), num_classes)
    return parts


def _box_head() -> Any:
    """Two layers that start with He's weights: with torchvision's, features are six times smaller and learn slower."""
    head = TwoMLPHead(PYRAMID_CHANNELS * 7 * 7, BOX_FEATURES)
    for layer in (head.fc6, head.fc7):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    return head


def _pool(size: int) -> Any:
    return MultiScaleRoIAlign(
        featmap_names=[*LEVELS.values()],
        output_size=size,
        sampling_ratio=1,
        canonical_scale=LEVEL_SIDE,
        canonical_level=4,
    )
