"""Layers in half precision: scores, boxes and losses stay float32. And feature maps as NHWC."""

import pytest
import torch

from lt_train.calibration import make_calibration
from lt_train.data.instance_masks import InstanceMasks
from lt_train.detectors.regions.sampling import batch_generator
from lt_train.heads import HEADS
from tests.lt_train.detectors.scenes import batch, small

HALF = [torch.bfloat16, torch.float16]


def types_of(module):
    """Types of what a module gives from now on."""
    seen = set()
    module.register_forward_hook(lambda _, __, out: seen.add(out.dtype))
    return seen


def outside(function, *args, **options):
    """What the function gives in float32, without autocast."""
    with torch.autocast("cpu", enabled=False):
        return function(*args, **options)


@pytest.mark.parametrize(
    ("half", "head"),
    [
        *((torch.bfloat16, head) for head in sorted(HEADS)),
        (torch.float16, "bags"),
        # processors take long for it
        *(pytest.param(torch.float16, head, marks=pytest.mark.slow) for head in sorted(HEADS) if head != "bags"),
    ],
)
def test_losses_are_those_of_float32_logits(monkeypatch, head, half):
    """The layers give half precision, and the head computes what it does for the same logits in float32."""
    model = small("faster_rcnn_small", head)
    model.precision = half
    layers = [types_of(m) for m in (model.backbone.stages[0], model.roi_heads.box_head, model.roi_heads.box_predictor)]
    original, wanted = model.head.loss, {}
    images, targets = batch([1, 2])

    def loss(logits, labels, **options):
        assert logits.dtype == half
        options["generator"] = batch_generator(targets, "others")
        with model.head.state_kept():
            wanted.update(outside(original, logits.float(), labels, **options))
        options["generator"] = batch_generator(targets, "others")
        return original(logits, labels, **options)

    monkeypatch.setattr(model.head, "loss", loss)
    losses = model(images, targets)
    assert layers[:2] == [{half}] * 2
    assert {value.dtype for value in losses.values()} == {torch.float32}
    assert wanted
    for name, value in wanted.items():
        assert torch.equal(losses[name], value), name
    sum(losses.values()).backward()
    assert {p.grad.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("half", HALF)
def test_detections_are_float32(monkeypatch, half):
    model = small(num_detections=20).eval()
    images, _ = batch([1, 2])
    with torch.inference_mode():
        whole = model(images)
        model.precision = half
        original, scores = model.head.scores, []
        monkeypatch.setattr(
            model.head, "scores", lambda logits: scores.append((logits, original(logits))) or scores[-1][1]
        )
        found = model(images)
        for logits, value in scores:
            assert logits.dtype == half
            assert torch.equal(value, outside(original, logits.float()))
    for got, wanted in zip(found, whole, strict=True):
        kinds = {key: value.dtype for key, value in got.items() if key != "labels"}
        assert kinds == dict.fromkeys(("boxes", "scores", "mask_probs"), torch.float32)
        assert got["scores"].tolist() == pytest.approx(wanted["scores"].tolist(), rel=0.02)


def test_anchors_are_exact():
    """The numbers of bfloat16 are 4 apart beyond 512: anchors would move by pixels on images of the usual size."""
    model = small().eval()
    model.transform.max_size = 1024
    anchors = []
    model.rpn.anchor_generator.register_forward_hook(lambda _, __, out: anchors.append(out[0]))
    image = torch.rand(3, 64, 1024, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        model([image])
        model.precision = torch.bfloat16
        model([image])
    assert anchors[1].dtype == torch.float32
    assert torch.equal(*anchors)


@pytest.mark.parametrize("kind", ["fc", "fc-relu", "conv"])
def test_calibrated_scores_are_exact(monkeypatch, kind):
    """Cosines of the features in float32, though they are products of matrices as those of layers are."""
    model = small().eval()
    model.precision = torch.bfloat16
    roi_heads = model.roi_heads
    options = {"head": model.head, "classifier": roi_heads.box_predictor.cls_score}
    calibration = make_calibration(
        "ncm", **options, feature_sizes=roi_heads.calibration_sizes, features=kind, boxes="ground-truth"
    )
    generator = torch.Generator().manual_seed(0)
    size = roi_heads.calibration_sizes[kind]
    calibration.fit(torch.randn(60, size, generator=generator), torch.arange(60) % model.head.num_classes + 1)
    roi_heads.calibration = calibration
    original, scores = calibration.scores, []

    def spy(logits, features):
        scores.append((original(logits, features), outside(original, logits.float(), features.float())))
        return scores[-1][0]

    monkeypatch.setattr(calibration, "scores", spy)
    with torch.inference_mode():
        model(batch([1])[0])
    for got, wanted in scores:
        assert got.dtype == torch.float32
        assert torch.equal(got, wanted)


def test_images_without_objects():
    """The losses of no region are zeros of float32 too."""
    images, targets = batch([1, 2])
    for target in targets:
        target |= {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
        target["masks"] = InstanceMasks.from_segmentations([], 64, 64)
    model = small()
    model.precision = torch.bfloat16
    losses = model(images, targets)
    assert {value.dtype for value in losses.values()} == {torch.float32}
    assert losses["loss_mask"] == 0
    sum(losses.values()).backward()


# --- NHWC -------------------------------------------------------------------------------------------------------------


def as_nhwc(model):
    model.channels_last = True
    return model.to(memory_format=torch.channels_last)


def is_nhwc(tensor):
    return tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


def test_nhwc_changes_no_loss_and_no_gradient():
    images, targets = batch([1, 2])
    models = [small(), as_nhwc(small())]
    maps = []
    models[1].backbone.register_forward_hook(lambda _, __, out: maps.extend(out.values()))
    losses = [model(images, [dict(target) for target in targets]) for model in models]
    torch.testing.assert_close(losses[1], losses[0], atol=1e-5, rtol=1e-5)
    assert maps
    assert all(is_nhwc(level) for level in maps)
    for values in losses:
        sum(values.values()).backward()
    for (name, one), other in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        assert float((other.grad - one.grad).norm()) <= 1e-3 * float(one.grad.norm()) + 1e-6, name


def test_nhwc_changes_no_detection():
    images, _ = batch([1, 2])
    models = [small(num_detections=20).eval(), as_nhwc(small(num_detections=20)).eval()]
    with torch.inference_mode():
        plain, nhwc = (model(images) for model in models)
    for got, wanted in zip(nhwc, plain, strict=True):
        assert torch.equal(got["labels"], wanted["labels"])
        torch.testing.assert_close(got["scores"], wanted["scores"], atol=1e-5, rtol=0)
        torch.testing.assert_close(got["boxes"], wanted["boxes"], atol=1e-3, rtol=0)
        torch.testing.assert_close(got["mask_probs"], wanted["mask_probs"], atol=1e-5, rtol=0)


def test_nhwc_weights_load_both_ways():
    plain, nhwc = small(seed=1), as_nhwc(small(seed=2))
    assert {n: v.shape for n, v in plain.state_dict().items()} == {n: v.shape for n, v in nhwc.state_dict().items()}
    weight = "backbone.stages.1.0.weight"
    for source, target in ((plain, nhwc), (nhwc, small(seed=3))):
        kept = is_nhwc(target.get_parameter(weight))
        target.load_state_dict(source.state_dict())
        assert all(torch.equal(v, target.state_dict()[n]) for n, v in source.state_dict().items())
        assert is_nhwc(target.get_parameter(weight)) == kept
