"""A second head beside the one of each stage (SimCal): what each is trained on, and what all of them say."""

import numpy as np
import pytest
import torch
from torchvision.ops import clip_boxes_to_image

from lt_train.detectors import initialise_from, set_trainable
from lt_train.detectors.second_head import balanced_regions
from tests.lt_train.detectors.scenes import batch, small
from tests.lt_train.detectors.test_second_head import BELOW, TAIL, numpy_head, softmax

torch.set_num_threads(1)

LAYERS = ("fc6", "fc7", "cls_score")
HTC = {"name": "htc_small", "semantic": "stuff"}


def with_second(kind="3fc-ft", *, scores="dual", **options):
    """A cascade whose stages classify unlike each other, with second heads that are not trained yet."""
    model = small(**options)
    draws = torch.Generator().manual_seed(3)
    for stage in model.roi_heads.of_stages:
        torch.nn.init.normal_(stage.box_predictor.cls_score.weight, std=0.1, generator=draws)
        # refined boxes are elsewhere
        torch.nn.init.normal_(stage.box_predictor.bbox_pred.bias, std=0.2, generator=draws)
    model.add_second_head(kind=kind, below=BELOW, scores=scores, generator=torch.Generator().manual_seed(7))
    model.start_second_head()
    return model


def drawn(seeds):
    """Images and targets as bi-level sampling gives them: each for the class of its first object."""
    images, targets = batch(seeds)
    for target in targets:
        target["only"] = int(target["labels"][0])
    return images, targets


def regions_by_hand(model, images, targets):
    """Pooled maps and labels that the second head of each stage is trained on, one stage after the other."""
    batched, resized = model.transform(images, targets)
    sizes, features = batched.image_sizes, model.features(batched.tensors)
    boxes, _ = model.rpn(batched, features, resized, with_losses=False)
    maps, found = model.roi_heads.maps_for_pools(features, sizes), []
    for index, stage in enumerate(model.roi_heads.of_stages):
        regions = stage.propose(boxes, resized)
        chosen, labels = regions.at(balanced_regions(regions.labels, resized, [index]))
        found.append((stage.box_roi_pool(maps, chosen, sizes), torch.cat(labels)))
        deltas = stage.box_predictor.bbox_pred(stage.box_head(stage.box_roi_pool(maps, regions.boxes, sizes)))
        boxes = []
        rows = zip(deltas.split([*map(len, regions.boxes)]), regions.boxes, sizes, resized, strict=True)
        for codes, own, size, target in rows:
            moved = clip_boxes_to_image(stage.box_coder.decode_single(codes, own), size)
            truth = {tuple(box) for box in target["boxes"].tolist()}
            boxes.append(moved[[tuple(box) not in truth for box in own.tolist()]])
    return found


def stepped_by_hand(second, pooled, labels, rate):
    """Loss of a head of three layers and its weights after a step of plain gradient descent, in float64."""
    weights = [[part.detach().double().numpy() for part in (layer.weight, layer.bias)] for layer in second.children()]
    inputs = [pooled.flatten(1).double().numpy()]
    for weight, bias in weights[:-1]:
        inputs.append(np.maximum(inputs[-1] @ weight.T + bias, 0))
    share = softmax(inputs[-1] @ weights[-1][0].T + weights[-1][1])
    rows = np.arange(len(labels))
    loss = -np.log(share[rows, labels]).mean()
    share[rows, labels] -= 1
    gradient, after = share / len(labels), []
    for (weight, bias), values in zip(reversed(weights), reversed(inputs), strict=True):
        after[:0] = [weight - rate * gradient.T @ values, bias - rate * gradient.sum(axis=0)]
        gradient = gradient @ weight * (values > 0)
    return loss, after


@pytest.mark.parametrize("options", [{"name": "cascade_rcnn_small"}, HTC], ids=lambda options: options["name"])
def test_a_step_of_each_stage_is_one_by_hand_whatever_the_stage_weighs(options):
    model, (images, targets) = with_second(**options), drawn([0, 1, 2])
    names = set_trainable(model, "calibrated")
    assert names == [
        f"roi_heads.stages.{i}.calibrated.{layer}.{part}"
        for i in range(3)
        for layer in LAYERS
        for part in ("weight", "bias")
    ]
    assert model.roi_heads.loss_weights == (1.0, 0.5, 0.25)
    before = {name: value.clone() for name, value in model.state_dict().items() if name not in names}
    with torch.no_grad():
        seen = regions_by_hand(model, images, targets)
    wanted = [
        stepped_by_hand(second, pooled, labels.numpy(), rate=0.5)
        for second, (pooled, labels) in zip(model.second_heads(), seen, strict=True)
    ]
    losses = model(images, targets)
    assert [*losses] == [f"s{i}.loss_second_head" for i in range(3)]
    sum(losses.values()).backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5).step()
    for loss, second, (by_hand, after) in zip(losses.values(), model.second_heads(), wanted, strict=True):
        assert float(loss.detach()) == pytest.approx(by_hand, rel=1e-5)
        for parameter, value in zip(second.parameters(), after, strict=True):
            np.testing.assert_allclose(parameter.detach().numpy(), value, rtol=1e-4, atol=1e-6)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items() if name in before)
    # each stage looks at regions of its own, as many of the background as of the drawn class
    assert all(int((labels == 0).sum()) == int((labels > 0).sum()) >= 3 for _, labels in seen)
    assert len({float(pooled.sum()) for pooled, _ in seen}) == 3


@pytest.mark.parametrize("averaged", ["logits", "probabilities"])
def test_heads_are_averaged_over_the_stages_and_then_merged_by_count(averaged):
    model = with_second("3fc-rand", stage_scores=averaged, **HTC).eval()
    stages, pooled = model.roi_heads.of_stages, []
    for stage in stages:
        stage.box_head.register_forward_pre_hook(lambda _, inputs: pooled.append(inputs[0].double().numpy()))
    images, _ = batch([1])
    with torch.inference_mode():
        dual = model.region_scores(images).numpy()
    own = [[stage.box_head.fc6, stage.box_head.fc7, stage.box_predictor.cls_score] for stage in stages]
    second = [[*stage.calibrated.children()] for stage in stages]

    def by_hand(heads):
        logits = np.stack([numpy_head(layers, maps) for layers, maps in zip(heads, pooled, strict=True)])
        return softmax(logits.mean(axis=0)) if averaged == "logits" else np.mean([softmax(z) for z in logits], axis=0)

    wanted = {"original": by_hand(own), "calibrated": by_hand(second)}
    wanted["dual"] = np.where(TAIL, wanted["calibrated"], wanted["original"])
    np.testing.assert_allclose(dual, wanted["dual"], rtol=1e-4)
    assert abs(dual.sum(axis=1) - 1).max() > 1e-3
    for scores in ("original", "calibrated"):
        model.score_by(scores)
        with torch.inference_mode():
            np.testing.assert_allclose(model.region_scores(images).numpy(), wanted[scores], rtol=1e-4)


def test_each_starts_from_its_own_stage_or_from_draws_of_its_own():
    model, plain = with_second("3fc-ft", **HTC), small(**HTC)
    initialise_from(plain, model.state_dict(), where="a.pt")
    images, _ = batch([0, 1])
    with torch.inference_mode():
        assert torch.equal(model.eval().region_scores(images), plain.eval().region_scores(images))
    assert plain.second_head is None
    assert not any("calibrated" in name for name in plain.state_dict())
    first, last = (with_second("2fc-rand", **HTC).second_heads()[i].fc6.weight for i in (0, 2))
    assert not torch.equal(first, last)


def test_stages_without_the_drawn_class_give_a_loss_of_0_with_a_gradient():
    model = with_second(**HTC)
    set_trainable(model, "calibrated")
    images, targets = batch([0], objects=0)
    targets[0]["only"] = 1
    losses = model.train()(images, targets)
    sum(losses.values()).backward()
    assert [float(loss.detach()) for loss in losses.values()] == [0, 0, 0]
    assert all(p.grad is not None and not bool(p.grad.any()) for s in model.second_heads() for p in s.parameters())
