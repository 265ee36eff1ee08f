"""Classifiers by name."""

import pytest
import torch

from lt_data.errors import DataError, RecipeError
from lt_train.classifiers import CLASSIFIERS, make_classifier, rows_of
from lt_train.detectors import build_detector, initialise_from, set_trainable
from lt_train.heads import make_head

torch.set_num_threads(1)


def test_an_unknown_classifier_lists_the_known():
    with pytest.raises(RecipeError) as error:
        make_classifier("cosin", 8, 3)
    assert error.value.problems == ["argument classifier: got 'cosin'; allowed are cosine, linear, scaled"]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_initial_values_come_from_the_generator_alone(name):
    before = torch.get_rng_state()
    made = [make_classifier(name, 8, 3, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(made[0].weight, made[1].weight)
    assert not torch.equal(made[0].weight, made[2].weight)
    assert made[0].weight.shape == (3, 8)
    assert made[0].bias.tolist() == [0, 0, 0]


def features():
    return torch.randn(5, 8, generator=torch.Generator().manual_seed(3)) * 4


def filled(name, **options):
    """A classifier whose bias is not zero."""
    layer = make_classifier(name, 8, 3, generator=torch.Generator().manual_seed(1), **options)
    torch.nn.init.normal_(layer.bias, generator=torch.Generator().manual_seed(2))
    return layer


def test_a_cosine_classifier_scores_by_the_angle_alone():
    layer, x = filled("cosine", scale=7.0), features()
    wanted = 7 * torch.nn.functional.cosine_similarity(x[:, None], layer.weight[None], dim=2) + layer.bias
    torch.testing.assert_close(layer(x), wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(layer(x * 9), layer(x))
    torch.testing.assert_close(rows_of(layer).norm(dim=1), torch.full((3,), 7.0), rtol=1e-3, atol=0)
    # a feature of zeros has no angle, and no gradient that is not a number
    layer(torch.zeros(1, 8)).sum().backward()
    assert torch.isfinite(layer.weight.grad).all()


@pytest.mark.parametrize(("learn", "trained"), [(False, 2), (True, 3)])
def test_the_factor_of_cosines_is_trained_if_asked_for(learn, trained):
    layer = filled("cosine", learn_scale=learn)
    assert len(list(layer.parameters())) == trained
    assert layer.state_dict()["scale"].tolist() == [20.0]


def test_a_scaled_classifier_starts_as_its_rows_and_leaves_the_bias():
    layer, x = filled("scaled"), features()
    torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias))
    with torch.no_grad():
        layer.scale.copy_(torch.tensor([2.0, 0.0, -1.0]))
    unscaled = x @ layer.weight.T
    torch.testing.assert_close(layer(x), unscaled * torch.tensor([2.0, 0.0, -1.0]) + layer.bias)
    torch.testing.assert_close(x @ rows_of(layer).T + layer.bias, layer(x))


def small(**options):
    return build_detector(
        "mask_rcnn_small",
        make_head("softmax", instance_counts=[5, 50], **options),
        generator=torch.Generator().manual_seed(0),
    )


def test_a_scaled_classifier_takes_over_a_linear_one_and_trains_its_factors_alone():
    source, target = small(), small(classifier="scaled")
    with torch.no_grad():
        source.roi_heads.box_predictor.cls_score.weight.fill_(0.5)
    assert initialise_from(target, source.state_dict()).reinitialised == ()
    assert target.roi_heads.box_predictor.cls_score.weight.eq(0.5).all()
    assert set_trainable(target, "scale") == ["roi_heads.box_predictor.cls_score.scale"]


@pytest.mark.parametrize(
    ("theirs", "ours", "why"),
    [
        ("linear", "cosine", "it is linear, cosine is needed"),
        ("cosine", "linear", "it is cosine, linear is needed"),
        ("scaled", "cosine", "it is scaled, cosine is needed"),
        ("scaled", "linear", "it is scaled, linear is needed"),
    ],
)
def test_rows_that_mean_another_thing_start_anew(theirs, ours, why):
    report = initialise_from(small(classifier=ours), small(classifier=theirs).state_dict())
    assert report.reinitialised == ("roi_heads.box_predictor.cls_score",)
    assert report.reasons == (why,)


def test_another_factor_of_cosines_is_taken_or_refused_but_not_passed_over():
    """A factor that is not trained is the option; one that is goes on from where it was."""
    source = small(classifier="cosine", scale=23.5, learn_scale=True).state_dict()
    with pytest.raises(DataError) as error:
        initialise_from(small(classifier="cosine"), source, where="run A")
    assert error.value.problems == [
        "weights run A: the cosines of roi_heads.box_predictor.cls_score have the factor 23.5, the recipe's is 20.0; "
        "set head.scale=23.5 or head.learn_scale=true to go on from it, or head.fresh_classifier=true"
    ]
    for options in ({"scale": 23.5}, {"learn_scale": True}):
        target = small(classifier="cosine", **options)
        assert initialise_from(target, source).reinitialised == ()
        assert float(target.roi_heads.box_predictor.cls_score.scale.detach()) == 23.5
    fresh = small(classifier="cosine", fresh_classifier=True)
    initialise_from(fresh, source, fresh_classifier=True)
    assert float(fresh.roi_heads.box_predictor.cls_score.scale) == 20


def test_a_fresh_classifier_is_asked_for():
    source, target = small(), small(fresh_classifier=True)
    report = initialise_from(target, source.state_dict(), fresh_classifier=True)
    assert report.reinitialised == ("roi_heads.box_predictor.cls_score",)
    assert report.reasons == ("asked for",)


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"scale": 30}, "scale: .* this one is linear; set that, or scale=20"),
        (
            {"classifier": "scaled", "scale": 30, "learn_scale": True},
            "this one is scaled.* scale=20 learn_scale=false",
        ),
    ],
)
def test_a_factor_without_cosines_is_refused(options, wrong):
    """It would have no effect."""
    with pytest.raises(RecipeError, match=wrong):
        make_head("softmax", instance_counts=[5], **options)
