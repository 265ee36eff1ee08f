"""The second head of SimCal: its regions, its start, its scores beside the detector's own."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lt_data.errors import RecipeError
from lt_train.classifiers import make_classifier
from lt_train.detectors import set_trainable
from lt_train.detectors.second_head import balanced_regions
from tests.lt_train.detectors.scenes import COUNTS, any_head, batch, small

BELOW = 100
# of COUNTS: 5, 50, 500, 5000, 2, 20
TAIL = [False, True, True, False, False, True, True]


def with_second(kind, *, head="softmax", scores="dual", below=BELOW, **options):
    model = small(head=head, **options)
    generator = torch.Generator().manual_seed(7)
    model.add_second_head(kind=kind, below=below, scores=scores, generator=generator)
    model.start_second_head()
    return model.eval()


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def numpy_head(layers, pooled):
    """Logits in float64 of fully connected layers with ReLUs between them."""
    values = pooled.reshape(len(pooled), -1)
    for number, layer in enumerate(layers):
        weight, bias = (part.detach().double().numpy() for part in (layer.weight, layer.bias))
        values = (np.maximum(values, 0) if number else values) @ weight.T + bias
    return values


@pytest.mark.parametrize("kind", ["2fc-rand", "3fc-rand", "3fc-ft"])
def test_columns_of_rare_classes_are_the_second_heads_and_nothing_is_normalised_again(kind):
    model = with_second(kind)
    heads, second = model.roi_heads, model.second_head
    # as if trained
    torch.nn.init.normal_(second.cls_score.bias, generator=torch.Generator().manual_seed(3))
    pooled = torch.randn(9, model.backbone.out_channels, 7, 7, generator=torch.Generator().manual_seed(1))
    got = heads.scores(heads.embed(pooled), pooled).detach().numpy()
    own = [second.fc6, *([second.fc7] if kind != "2fc-rand" else []), second.cls_score]
    original = [heads.box_head.fc6, heads.box_head.fc7, heads.box_predictor.cls_score]
    wanted = [softmax(numpy_head(layers, pooled.double().numpy())) for layers in (original, own)]
    np.testing.assert_allclose(got, np.where(TAIL, wanted[1], wanted[0]), rtol=1e-4)
    assert abs(got.sum(axis=1) - 1).min() > 1e-3
    for scores, alone in (("original", wanted[0]), ("calibrated", wanted[1])):
        second.use = scores
        np.testing.assert_allclose(heads.scores(heads.embed(pooled), pooled).detach().numpy(), alone, rtol=1e-4)


@pytest.mark.parametrize("below", [1, 100, 10_000])
def test_a_fine_tuned_head_starts_as_the_detectors_own_bit_by_bit(below):
    """Whatever weights the detector got after it was built."""
    model = with_second("3fc-ft", below=below, scores="dual")
    with torch.no_grad():
        for layer in (model.roi_heads.box_head.fc7, model.roi_heads.box_predictor.cls_score):
            layer.weight.mul_(3)
    images, _ = batch([0, 1])
    assert not torch.equal(model.region_scores(images), small().eval().region_scores(images))
    model.start_second_head()
    dual = model.region_scores(images)
    model.second_head.use = "original"
    assert torch.equal(dual, model.region_scores(images))
    assert int(model.second_head.tail.sum()) == sum(count < below for count in COUNTS)


def test_a_cosine_classifier_is_taken_over_as_it_is():
    model = small()
    own = make_classifier("cosine", 256, 7, scale=3.0)
    model.roi_heads.box_predictor.cls_score = own
    model.add_second_head(kind="3fc-ft", below=100, scores="calibrated")
    model.start_second_head()
    second = model.second_head.cls_score
    assert second is not own
    features = torch.randn(5, 256, generator=torch.Generator().manual_seed(0))
    assert torch.equal(second(features), own(features))
    assert set_trainable(model, "calibrated") == [
        f"roi_heads.calibrated.{layer}.{part}" for layer in ("fc6", "fc7", "cls_score") for part in ("weight", "bias")
    ]


def test_random_layers_are_drawn_by_key():
    first, again = (with_second("3fc-rand", seed=seed).second_head.state_dict() for seed in (0, 1))
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    # as PyTorch's linear layers start
    bound = first["fc6.weight"].shape[1] ** -0.5
    assert 0.99 * bound < float(first["fc6.weight"].abs().max()) <= bound


LABELS = [[2, 2, 3, 5, 0, 0, 0, 0, 0], [1, 0, 0, 0], [4, 4, 4, 0], [0, 0], [2, 2]]
ONLY = [2, 1, 2, 2, 2]


def targets(only=ONLY):
    keys = ({"draw_seed": 10 + place} for place in range(len(only)))
    return [{**key, "only": label} if label else key for key, label in zip(keys, only, strict=True)]


def test_regions_are_those_of_the_drawn_class_and_as_many_of_the_background():
    labels = [torch.tensor(part) for part in LABELS]
    kept = balanced_regions(labels, targets())
    got = [part[places].tolist() for part, places in zip(labels, kept, strict=True)]
    # the third image shows its class nowhere among the regions, the last has no background
    assert got == [[2, 2, 0, 0], [1, 0], [], [], [2, 2]]
    # without a drawn class all objects count
    every = balanced_regions(labels, targets([0] * 5))
    assert [part[places].tolist() for part, places in zip(labels, every, strict=True)] == [
        *([2, 2, 3, 5, 0, 0, 0, 0], [1, 0], [4, 4, 4, 0], [], [2, 2])
    ]


def test_the_background_of_an_image_depends_on_its_key_alone():
    labels = [torch.tensor([1] * 3 + [0] * 40), torch.tensor([2] * 9 + [0] * 60)]
    _, second = balanced_regions(labels, targets([1, 2]))
    (alone,) = balanced_regions(labels[1:], targets([1, 2])[1:])
    assert torch.equal(second, alone)
    assert len(second) == 18
    (other,) = balanced_regions(labels[1:], targets([2]))
    assert not torch.equal(other, second)
    # over many keys every place is drawn about as often: 40 places, 3 draws
    keys = [{"draw_seed": key, "only": 1} for key in range(2000)]
    places = torch.cat(balanced_regions(labels[:1] * 2000, keys))
    counts = torch.bincount(places)[3:]
    assert int(counts.sum()) == 6000
    assert float(counts.min()) > 100
    assert float(counts.max()) < 210


def test_the_loss_is_the_mean_over_all_regions_and_reaches_the_second_head_alone():
    model = with_second("3fc-rand")
    set_trainable(model, "calibrated")
    images, wanted = batch([0, 1, 2])
    for target in wanted:
        target["only"] = int(target["labels"][0])
    seen = {}
    model.second_head.register_forward_hook(lambda _, inputs, logits: seen.update(logits=logits))
    labels = {}
    original = F.cross_entropy
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "cross_entropy", lambda z, y, **kw: (labels.update(y=y), original(z, y, **kw))[1])
        losses = model.train()(images, wanted)
    assert set(losses) == {"loss_second_head"}
    y, logits = labels["y"].numpy(), seen["logits"].detach().double().numpy()
    assert set(y.tolist()) == {0, *(target["only"] for target in wanted)}
    assert (y == 0).sum() == (y > 0).sum() >= 3
    wanted_loss = -np.log(softmax(logits)[np.arange(len(y)), y]).mean()
    assert float(losses["loss_second_head"].detach()) == pytest.approx(wanted_loss, rel=1e-5)
    losses["loss_second_head"].backward()
    with_gradient = [name for name, weight in model.named_parameters() if weight.grad is not None]
    assert with_gradient
    assert all(name.startswith("roi_heads.calibrated.") for name in with_gradient)
    # batch norms stay as they are
    assert not any(m.training for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))


def test_images_without_the_drawn_class_give_a_loss_of_0_with_a_gradient():
    model = with_second("3fc-ft")
    set_trainable(model, "calibrated")
    images, wanted = batch([0], objects=0)
    wanted[0]["only"] = 1
    loss = model.train()(images, wanted)["loss_second_head"]
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(not bool(p.grad.any()) for p in model.second_head.parameters())


def test_what_it_cannot_stand_beside_is_refused():
    with pytest.raises(RecipeError, match=r"^second_head.kind: got 3fc-ft, whose scores are a softmax .*GumbelHead"):
        with_second("3fc-ft", head="gumbel")
    model = small()
    model.roi_heads.box_head = torch.nn.Flatten()
    with pytest.raises(RecipeError, match=r"^second_head.kind: got 2fc-rand, .* fc6 and fc7; Flatten has none"):
        model.add_second_head(kind="2fc-rand", below=100, scores="dual")
    assert any_head("balanced-softmax", COUNTS).scores_by == "softmax"
