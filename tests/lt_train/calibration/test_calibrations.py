"""Calibrations: what each promises, and the methods against oracles written from their formulas."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lt_data.errors import DataError, RecipeError
from lt_train.calibration import CALIBRATIONS, calibration_options, make_calibration, searchable_options
from lt_train.classifiers import make_classifier
from lt_train.heads import make_head
from tests.lt_train.heads.test_contract import HostSyncs

torch.set_num_threads(1)

COUNTS = [5, 50, 500, 5000, 0, 99, 100]
SIZES = {"fc": 16, "fc-relu": 16, "conv": 24}
CASES = {
    **{f"tau-norm, {b}": ("tau-norm", {"background": b, "tau": 0.7}) for b in ("normalise", "keep", "select")},
    "tau-norm, select-normalised": ("tau-norm", {"background": "select-normalised", "tau": 0.7}),
    "tau-norm, select-tail": ("tau-norm", {"background": "select-tail"}),
    "ncm, fc": ("ncm", {}),
    "ncm, fc-relu": ("ncm", {"features": "fc-relu"}),
    **{
        f"{name}, {b}": (name, {"background": b})
        for name in ("norcal", "logit-adjustment", "fracal", "logn")
        for b in ("normalise", "keep-probability")
    },
    "norcal, logits": ("norcal", {"mode": "logits"}),
    "ncm, conv, sharp": ("ncm", {"features": "conv", "boxes": "proposals", "temperature": 0.1}),
}


def classifier_of(head, seed=0):
    layer = torch.nn.Linear(SIZES["fc"], head.num_logits)
    generator = torch.Generator().manual_seed(seed)
    torch.nn.init.normal_(layer.weight, generator=generator)
    torch.nn.init.normal_(layer.bias, generator=generator)
    return layer


def made(name, counts=COUNTS, head="softmax", **options):
    """A calibration with its classifier, fitted on three regions of every class that has any."""
    head = make_head(head, instance_counts=counts, image_counts=[(n + 1) // 2 for n in counts], num_images=10_000)
    layer = classifier_of(head)
    calibration = make_calibration(name, head=head, classifier=layer, feature_sizes=SIZES, **options)
    if calibration.regions != "none":
        labels = torch.tensor([c for c, n in enumerate(counts, start=1) if n] * 3 + [0])
        calibration.fit(features_of(calibration, len(labels), seed=5), labels)
    if calibration.wants_boxes:
        labels = torch.arange(1, len(counts) + 1).repeat_interleave(torch.tensor(counts).clamp(max=60))
        spread = torch.rand(len(labels), 2, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
        calibration.fit_boxes(spread, labels)
    return calibration, layer


def features_of(calibration, regions, seed=1):
    size = {**SIZES, "logits": calibration.head.num_logits}.get(calibration.features, SIZES["fc"])
    return torch.randn(regions, size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=CASES)
def case(request):
    name, options = CASES[request.param]
    return lambda counts=COUNTS: made(name, counts, **options)


def test_every_calibration_has_a_case():
    assert {name for name, _ in CASES.values()} == set(CALIBRATIONS)


@pytest.mark.parametrize("regions", [0, 1, 30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_scores_are_probabilities(case, regions, dtype):
    calibration, layer = case()
    features = torch.randn(regions, SIZES["fc"], generator=torch.Generator().manual_seed(2))
    logits = layer(features).detach().to(dtype)
    scores = calibration.scores(logits, features_of(calibration, regions).to(dtype))
    assert scores.shape == (regions, len(COUNTS) + 1)
    assert scores.dtype == torch.float32
    assert bool(((scores >= 0) & (scores <= 1)).all())
    assert not scores.requires_grad


def test_order_of_regions_is_irrelevant(case):
    calibration, _ = case()
    logits, features = torch.randn(20, 8, generator=torch.Generator().manual_seed(6)), features_of(calibration, 20)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(
        calibration.scores(logits, features)[order], calibration.scores(logits[order], features[order])
    )


def test_one_class(case):
    calibration, _ = case([3])
    scores = calibration.scores(torch.randn(4, 2), features_of(calibration, 4))
    assert scores.shape == (4, 2)
    assert torch.isfinite(scores).all()


def test_state_goes_into_a_fresh_one(case):
    """Also into one that was used before."""
    calibration, _ = case()
    twin, _ = case([1] * len(COUNTS))
    twin.attach(torch.nn.Linear(SIZES["fc"], len(COUNTS) + 1))
    logits, features = torch.randn(9, 8, generator=torch.Generator().manual_seed(4)), features_of(calibration, 9)
    before = twin.scores(logits, features)
    twin.load_state_dict(calibration.state_dict())
    assert torch.equal(twin.scores(logits, features), calibration.scores(logits, features))
    assert not torch.equal(twin.scores(logits, features), before)
    # the head belongs to the model; its buffers are saved there
    assert not any("instance_counts" in key for key in calibration.state_dict())
    assert not list(calibration.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(case, dtype):
    """A calibration is called where layers compute in half precision; what it computes is float32 there too."""
    logits, features = torch.randn(30, 8, generator=torch.Generator().manual_seed(7)), None
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=dtype, enabled=enabled):
            calibration, layer = case()
            calibration.attach(layer)
            features = features_of(calibration, 30, seed=8)
            calibration.fit(features, torch.arange(30) % 8)
            found.append([*calibration.state_dict().values(), calibration.scores(logits, features)])
    assert found[1][-1].dtype == torch.float32
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


SEARCHES = {
    ("tau-norm", "tau"): ({"background": "select"}, (0.0, 0.3, 1.0)),
    ("tau-norm", "tail_below"): ({"background": "select-tail"}, (1, 60, 101, 10_000)),
    ("ncm", "temperature"): ({}, (0.05, 1.0, 3.0)),
    ("norcal", "gamma"): ({}, (0.0, 0.5, 1.0)),
    ("logit-adjustment", "tau"): ({}, (0.0, 0.5, 1.0)),
    ("fracal", "power"): ({}, (0.0, 1.0, 2.0)),
}


@pytest.mark.parametrize(("name", "option"), SEARCHES)
def test_a_chosen_value_is_as_if_it_had_been_made_with_it(name, option):
    """The scores, what is saved and what is shown; one value after the other, up and down."""
    others, values = SEARCHES[name, option]
    assert option in searchable_options(name)
    searched, layer = made(name, **others)
    features = features_of(searched, 60)
    logits = layer(torch.randn(60, SIZES["fc"], generator=torch.Generator().manual_seed(2))).detach()
    seen = []
    for value in (*values, *values[-2::-1]):
        searched.choose(option, value)
        alone, _ = made(name, **others, **{option: value})
        assert torch.equal(searched.scores(logits, features), alone.scores(logits, features))
        assert searched.extra_repr() == alone.extra_repr()
        state, wanted = searched.state_dict(), alone.state_dict()
        assert state.keys() == wanted.keys()
        assert all(torch.equal(state[key], wanted[key]) for key in wanted)
        seen.append(searched.scores(logits, features))
    assert all(not torch.equal(a, b) for a, b in pairwise(seen))


def test_every_number_can_be_searched_and_nothing_else():
    for name in CALIBRATIONS:
        numbers = {k for k, v in calibration_options(name).items() if isinstance(v, int | float) and v is not True}
        assert set(searchable_options(name)) == numbers
    assert set(SEARCHES) == {(name, option) for name in CALIBRATIONS for option in searchable_options(name)}


@pytest.mark.parametrize(("option", "value"), [("tau", -1.0), ("tail_below", 0), ("tail_below", 1.5)])
def test_a_chosen_value_is_checked(option, value):
    calibration, _ = made("tau-norm")
    with pytest.raises(RecipeError, match=f"calibration tau-norm: {option}: got {value}; "):
        calibration.choose(option, value)


def test_scores_never_wait_for_the_device(case):
    calibration, _ = case()
    logits, features = torch.randn(9, 8), features_of(calibration, 9)
    with HostSyncs() as syncs:
        calibration.scores(logits, features)
    assert syncs.seen == []


def tau_norm_by_definition(weight, bias, features, *, tau, background, tail):
    """[R, C+1] by running the scaled classifier, one region at a time, in float64."""

    def softmax(z):
        e = np.exp(z - z.max())
        return e / e.sum()

    lengths = np.linalg.norm(weight, axis=1)
    scaled = weight / lengths[:, None] ** tau
    if background not in ("normalise", "select-normalised"):
        scaled[0] = weight[0]
    rows = []
    for x in features:
        original, new = softmax(weight @ x + bias), softmax(scaled @ x + bias)
        if background in ("normalise", "keep"):
            rows.append(new)
        elif background in ("select", "select-normalised"):
            rows.append(original if original.argmax() == 0 else new)
        else:
            rows.append(new if original.argmax() != 0 and new.argmax() in tail else original)
    return np.array(rows)


@pytest.mark.parametrize("background", ["normalise", "keep", "select", "select-normalised", "select-tail"])
@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0])
def test_tau_norm(background, tau):
    calibration, layer = made("tau-norm", tau=tau, background=background)
    # the background's row wins often, so that both ways of a selection occur
    with torch.no_grad():
        layer.bias[0] += 3
    calibration.attach(layer)
    x = torch.randn(200, SIZES["fc"], generator=torch.Generator().manual_seed(0))
    tail = {label for label, count in enumerate(COUNTS, start=1) if count < 100}
    weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
    want = tau_norm_by_definition(weight, bias, x.double().numpy(), tau=tau, background=background, tail=tail)
    np.testing.assert_allclose(calibration.scores(layer(x).detach(), None).numpy(), want, atol=2e-6)
    if tau == 0:
        torch.testing.assert_close(calibration.scores(layer(x).detach(), None), layer(x).detach().softmax(1))


def test_the_selections_take_both_ways():
    """On regions whose original and new best class are known: background, head class, tail class."""
    head = make_head("softmax", instance_counts=[5, 5000])
    layer = torch.nn.Linear(2, 3)
    with torch.no_grad():
        # rows: background and tail (short), frequent (long)
        layer.weight.copy_(torch.tensor([[0.05, 0.05], [0.5, 0.0], [3.0, 3.0]]))
        layer.bias.zero_()
    x = torch.tensor([[-1.0, -1.0], [1.0, -0.9], [1.0, 1.0]])
    original = layer(x).detach().softmax(1)
    assert original.argmax(1).tolist() == [0, 1, 2]
    made_of = {
        name: make_calibration("tau-norm", head=head, classifier=layer, feature_sizes=SIZES, background=name)
        for name in ("keep", "normalise", "select", "select-normalised", "select-tail")
    }
    scores = {name: calibration.scores(layer(x).detach(), None) for name, calibration in made_of.items()}
    keep, normalised = scores["keep"], scores["normalise"]
    assert keep.argmax(1).tolist() == [0, 1, 2]
    assert torch.equal(scores["select"], torch.stack([original[0], keep[1], keep[2]]))
    assert torch.equal(scores["select-normalised"], torch.stack([original[0], normalised[1], normalised[2]]))
    assert not torch.equal(keep, normalised)
    assert torch.equal(scores["select-tail"], torch.stack([original[0], keep[1], original[2]]))


def test_a_row_of_zeros_stays():
    head = make_head("softmax", instance_counts=[1, 1])
    layer = classifier_of(head)
    with torch.no_grad():
        layer.weight[2] = 0
    calibration = make_calibration("tau-norm", head=head, classifier=layer, feature_sizes=SIZES)
    assert torch.isfinite(calibration.scores(layer(torch.randn(5, 16)).detach(), None)).all()


@pytest.mark.parametrize("head", ["reweight", "focal"])
def test_tau_norm_fits_every_head_with_one_logit_a_class(head):
    calibration, layer = made("tau-norm", head=head, tau=0.0)
    logits = layer(torch.randn(5, 16)).detach()
    torch.testing.assert_close(calibration.scores(logits, None), calibration.head.scores(logits))


def test_tau_norm_refuses_groups():
    with pytest.raises(RecipeError, match="tau-norm: needs a head with one logit.*BagsHead; ncm works with every head"):
        made("tau-norm", head="bags")


def test_tau_norm_refuses_rows_of_one_length():
    """Divided by it they would be a softmax of bare cosines: other scores, and no classes better balanced."""
    head = make_head("softmax", instance_counts=COUNTS)
    layer = make_classifier("cosine", 16, head.num_logits)
    with pytest.raises(RecipeError, match="tau-norm: the classifier is a cosine one.*head.classifier=linear or scaled"):
        make_calibration("tau-norm", head=head, classifier=layer, feature_sizes=SIZES)


@pytest.mark.parametrize("head", ["softmax", "bags", "focal"])
@pytest.mark.parametrize(("kind", "temperature"), [("fc", 1.0), ("conv", 0.05)])
def test_nearest_class_mean(head, kind, temperature):
    """By definition: mean of each class, cosine, softmax over the classes that have one, times the foreground."""
    head = make_head(head, instance_counts=COUNTS)
    layer = classifier_of(head)
    calibration = make_calibration(
        "ncm", head=head, classifier=layer, feature_sizes=SIZES, features=kind, temperature=temperature
    )
    random = np.random.default_rng(0)
    labels = random.choice([0, 1, 2, 3, 4, 6, 7], size=60)
    train = random.normal(size=(60, SIZES[kind])) + labels[:, None]
    for part in np.array_split(np.arange(60), 4):
        calibration.fit(torch.from_numpy(train[part]).float(), torch.from_numpy(labels[part]))
    notes = calibration.finish()
    assert "1 classes have no region" in notes[1]
    x = random.normal(size=(20, SIZES[kind]))
    logits = torch.randn(20, head.num_logits, generator=torch.Generator().manual_seed(0))
    background = head.scores(logits)[:, 0].numpy()
    train = train.astype(np.float32).astype(float)
    want = np.zeros((20, 8))
    for r in range(20):
        cosine = {}
        for label in (1, 2, 3, 4, 6, 7):
            mean = train[labels == label].mean(axis=0)
            cosine[label] = mean @ x[r] / np.linalg.norm(mean) / np.linalg.norm(x[r]) / temperature
        top = max(cosine.values())
        total = sum(np.exp(c - top) for c in cosine.values())
        want[r, 0] = background[r]
        for label, c in cosine.items():
            want[r, label] = (1 - background[r]) * np.exp(c - top) / total
    np.testing.assert_allclose(calibration.scores(logits, torch.from_numpy(x)).numpy(), want, atol=3e-5)


def test_sums_of_two_processes_are_those_of_one():
    whole, _ = made("ncm")
    layer = classifier_of(whole.head)
    parts = [make_calibration("ncm", head=whole.head, classifier=layer, feature_sizes=SIZES) for _ in range(2)]
    labels = torch.tensor([c for c, n in enumerate(COUNTS, start=1) if n] * 3 + [0])
    features = features_of(whole, len(labels), seed=5)
    for rank, part in enumerate(parts):
        part.fit(features[rank::2], labels[rank::2])
    torch.testing.assert_close(parts[0].sums + parts[1].sums, whole.sums)
    assert torch.equal(parts[0].seen + parts[1].seen, whole.seen)


def test_sums_are_exact_where_single_precision_is_not():
    calibration, _ = made("ncm", [1, 1])
    calibration.attach(None)
    calibration.fit(torch.full((1, 16), 1e8), torch.tensor([1]))
    for _ in range(10):
        calibration.fit(torch.ones(1, 16), torch.tensor([1]))
    assert calibration.sums[0].tolist() == [1e8 + 10] * 16


class WideOperations(TorchDispatchMode):
    """Counts the operations on float64 numbers."""

    def __init__(self):
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.number += any(isinstance(part, torch.Tensor) and part.dtype == torch.float64 for part in args)
        return func(*args, **(kwargs or {}))


def test_class_means_are_normalised_once_and_not_saved():
    """Until other regions are added or another state is loaded; moving the model keeps them."""
    calibration, _ = made("ncm")
    logits, features = torch.zeros(9, 8), features_of(calibration, 9)
    with torch.inference_mode(), WideOperations() as first:
        calibration.scores(logits, features)
    with WideOperations() as again:
        scores = calibration.to(torch.device("cpu")).scores(logits, features.clone().requires_grad_())
    assert (first.number > 0, again.number) == (True, 0)
    assert set(calibration.state_dict()) == {"sums", "seen"}
    calibration.fit(features_of(calibration, 30, seed=9), torch.arange(30) % 8)
    fresh, _ = made("ncm")
    fresh.load_state_dict(calibration.state_dict())
    assert torch.equal(calibration.scores(logits, features), fresh.scores(logits, features))
    assert not torch.equal(calibration.scores(logits, features), scores)
    calibration.attach(None)
    assert not calibration.centres().any()


def test_nothing_to_average_is_an_error():
    head = make_head("softmax", instance_counts=[1])
    calibration = make_calibration("ncm", head=head, classifier=classifier_of(head), feature_sizes=SIZES)
    calibration.fit(torch.ones(3, 16), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(DataError, match="no region of any class was seen"):
        calibration.finish()


def test_features_of_equal_direction_are_equally_near():
    calibration, _ = made("ncm", [1, 1])
    features = torch.rand(4, 16, generator=torch.Generator().manual_seed(0))
    logits = torch.zeros(4, 3)
    torch.testing.assert_close(calibration.scores(logits, features), calibration.scores(logits, 7 * features))


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("tau-norm", {"tau": -1}, "tau: got -1; input should be greater than or equal to 0"),
        ("tau-norm", {"tau": float("nan")}, "tau: got nan"),
        (
            "tau-norm",
            {"background": "drop"},
            "background: got 'drop'; allowed are 'normalise', 'keep', 'select', 'select-normalised' or",
        ),
        ("tau-norm", {"tail_below": 0}, "tail_below: got 0"),
        ("tau-norm", {"tail_below": 99.5}, "tail_below: got 99.5; a valid integer is needed"),
        ("ncm", {"features": "rgb"}, "features: got 'rgb'; allowed are 'fc', 'fc-relu' or 'conv'"),
        ("ncm", {"boxes": "all"}, "boxes: got 'all'; allowed are 'ground-truth' or 'proposals'"),
        ("ncm", {"temperature": 0}, "temperature: got 0"),
        ("ncm", {"tau": 1}, "unknown option 'tau'; allowed are features, boxes, temperature"),
        ("norm", {}, "calibration: got 'norm'; allowed are fracal, logit-adjustment, logn, ncm, norcal, tau-norm"),
    ],
)
def test_bad_options(name, options, says):
    with pytest.raises(RecipeError) as error:
        made(name, **options)
    assert says in str(error.value)


def test_options_are_listed():
    assert calibration_options("tau-norm") == {"tau": 1.0, "background": "normalise", "tail_below": 100}
