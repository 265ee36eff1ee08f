"""Loading weights: files, checkpoints, torchvision's own formats, other classes, other groups."""

import copy
import hashlib
import pickle
import re
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.detection import maskrcnn_resnet50_fpn

from lt_data.errors import DataError, RecipeError
from lt_train.calibration import make_calibration
from lt_train.detectors import build_detector, initialise_from, load_weights
from lt_train.detectors import published as published_module
from lt_train.detectors.published import published_file
from lt_train.detectors.table import DETECTORS, RESNET50
from lt_train.detectors.trunks.norm import StoredStatsBatchNorm2d, fold_zero_eps
from lt_train.detectors.weight_files import checkpoint_categories, read_state_dict
from lt_train.heads import make_head
from lt_train.runs.checkpoint import load_checkpoint, save_checkpoint
from tests.lt_train.detectors.scenes import COUNTS, batch, small
from tests.lt_train.runs.checkpoints import content

torch.set_num_threads(1)

CLASSIFIER = "roi_heads.box_predictor.cls_score"
REGRESSOR = "roi_heads.box_predictor.bbox_pred"
MASKS = "roi_heads.mask_predictor.mask_fcn_logits"


def differing(model, state):
    """Layers of the model whose values are not those of the state."""
    own = model.state_dict()
    return {k.rpartition(".")[0] for k in own if k in state and not torch.equal(own[k], state[k])}


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s, "step": 3}])
def test_a_file_gives_the_same_model(tmp_path, wrap):
    source, target = small(seed=0), small(seed=1)
    torch.save(wrap(source.state_dict()), tmp_path / "weights.pt")
    report = load_weights(target, tmp_path / "weights.pt")
    assert report.reinitialised == ()
    assert report.loaded == sum(
        not ("num_batches" in k or k.startswith("roi_heads.head.")) for k in source.state_dict()
    )
    assert not differing(target, source.state_dict())
    images, _ = batch([1])
    torch.testing.assert_close(source.eval()(images), target.eval()(images))


def test_stage_two_starts_from_stage_one():
    """Softmax to BAGS: only the classifier is new, the box regressor and the mask logits are kept."""
    softmax = small(head="softmax", seed=0)
    bags = small(head="bags", seed=1)
    buffers = {k: v.clone() for k, v in bags.state_dict().items() if k.startswith("roi_heads.head.")}
    fresh = bags.state_dict()[f"{CLASSIFIER}.weight"].clone()
    report = initialise_from(bags, softmax.state_dict())
    assert report.reinitialised == (CLASSIFIER,)
    assert differing(bags, softmax.state_dict()) == {CLASSIFIER}
    assert torch.equal(bags.state_dict()[f"{CLASSIFIER}.weight"], fresh)
    assert all(torch.equal(v, bags.state_dict()[k]) for k, v in buffers.items())


def test_other_classes_keep_everything_else():
    report = initialise_from(small(counts=[5] * 9), small().state_dict())
    assert report.reinitialised == (CLASSIFIER, REGRESSOR, MASKS)


def test_equal_width_with_other_classes_starts_anew():
    """Softmax over 10 classes and BAGS over 6 classes in 4 groups are both 11 or 12 logits wide."""
    softmax, bags = small(counts=[5] * 11), small(head="bags", counts=COUNTS)
    assert softmax.head.num_logits == bags.head.num_logits
    assert initialise_from(bags, softmax.state_dict()).reinitialised == (CLASSIFIER, REGRESSOR, MASKS)


def test_equal_width_with_other_groups_starts_anew():
    """The columns of a BAGS classifier mean other classes when the counts move a class to another group."""
    source = small(head="bags", counts=[5, 50, 500, 5000])
    target = small(head="bags", counts=[50, 5, 500, 5000], seed=1)
    assert initialise_from(target, source.state_dict()).reinitialised == (CLASSIFIER,)
    assert target.head.label_to_bin[1].tolist() == [0, 0, 1, 0, 0]
    same = small(head="bags", counts=[6, 60, 600, 6000], seed=1)
    assert initialise_from(same, source.state_dict()).reinitialised == ()
    assert same.head.instance_counts.tolist() == [6, 60, 600, 6000]


def test_missing_unexpected_and_misshapen_weights_are_named():
    state = small().state_dict()
    del state["backbone.lateral.0.bias"]
    state["backbone.extra.weight"] = torch.zeros(1)
    with pytest.raises(DataError) as error:
        initialise_from(small(), state)
    assert [re.sub(";.*", "", p) for p in error.value.problems] == [
        "weights state dict: backbone.lateral.0.bias is missing",
        "weights state dict: backbone.extra.weight has no place in the model",
    ]
    state = small().state_dict()
    state["roi_heads.box_head.fc7.weight"] = torch.zeros(3, 64)
    with pytest.raises(DataError, match=r"fc7.weight is \(3, 64\), the model has \(64, 64\)"):
        initialise_from(small(), state)


def test_mask_weights_do_not_fit_a_box_model():
    """One line for the whole branch, with the file that was read and the recipe's key that mends it."""
    for source, target in (("mask_rcnn_small", "faster_rcnn_small"), ("faster_rcnn_small", "mask_rcnn_small")):
        with pytest.raises(DataError) as error:
            initialise_from(small(target), small(source).state_dict(), where="runs/a/checkpoints/last.pt")
        kind = "Mask R-CNN" if source.startswith("mask") else "Faster R-CNN"
        assert error.value.problems == [
            f"weights runs/a/checkpoints/last.pt: they are of a {kind} ({source}), the recipe's model is {target}; "
            f"set model.name={source}, or give weights of a {target}"
        ]


def test_weights_of_another_backbone_are_one_line(coco_state):
    with pytest.raises(DataError) as error:
        initialise_from(small(), coco_state)
    (line,) = error.value.problems
    assert "set model.name=mask_rcnn_r50_fpn" in line
    assert "mask_rcnn_r50_fpn" in DETECTORS


def test_many_wrong_weights_are_a_few_examples():
    state = small().state_dict()
    parts = [key for key in state if key.startswith("rpn.")]
    cut = {key: value for key, value in state.items() if key not in parts}
    with pytest.raises(DataError) as error:
        initialise_from(small(), cut | {f"extra.{i}": torch.zeros(1) for i in range(9)}, where="a.pt")
    lines = error.value.problems
    assert [line.split()[2] for line in lines] == [*parts[:3], "and", *(f"extra.{i}" for i in range(3)), "and"]
    assert lines[3] == f"weights a.pt: and {len(parts) - 3} more: is missing; needed is every layer of the model"
    with pytest.raises(DataError) as error:
        initialise_from(small(), {key: value[None] for key, value in state.items()}, where="a.pt")
    assert len(error.value.problems) == 4
    assert error.value.problems[3].endswith("more have another shape")


@pytest.mark.parametrize("head", ["softmax", "bags"])
@pytest.mark.parametrize("other", [None, "other name"])
@pytest.mark.parametrize(
    ("weight", "bias"), [((40, 64), (30,)), ((40, 32), (40,)), ((7, 32), (7,)), ((40, 64), None), ((40,), (40,))]
)
def test_a_damaged_classifier_is_not_one_of_another_width(head, other, weight, bias):
    """Whether or not the layer would start anew for another reason."""
    state = small().state_dict()
    state[f"{CLASSIFIER}.weight"] = torch.zeros(weight)
    del state[f"{CLASSIFIER}.bias"]
    if bias is not None:
        state[f"{CLASSIFIER}.bias"] = torch.zeros(bias)
    categories = {"own_categories": NAMED, "source_categories": OTHERS[other]} if other else {}
    with pytest.raises(DataError, match="cls_score"):
        initialise_from(small(head=head), state, **categories)


def test_a_layer_that_starts_anew_says_why():
    def reasons(target, source, **categories):
        report = initialise_from(target, source.state_dict(), **categories)
        return dict(zip(report.reinitialised, report.reasons, strict=True))

    assert reasons(small(head="bags"), small()) == {CLASSIFIER: "it has 7 rows, 12 are needed"}
    named = reasons(small(), small(), own_categories=NAMED, source_categories=OTHERS["other id"])
    why = "the categories are others: label 6 was id 61 'map', is id 60 'map'"
    assert named == dict.fromkeys((CLASSIFIER, REGRESSOR, MASKS), why)
    fewer = reasons(small(), small(counts=[5] * 5), own_categories=NAMED, source_categories=OTHERS["fewer"])
    assert fewer[CLASSIFIER] == "the categories are others: label 6 was missing, is id 60 'map'"
    groups = [small(head="bags", counts=counts) for counts in ([5, 50, 500, 5000], [50, 5, 500, 5000])]
    assert reasons(*groups) == {CLASSIFIER: "its logits stand for other groups"}
    classes = reasons(small(head="bags"), small(counts=[5] * 11))
    assert classes[CLASSIFIER] == "the number of classes is another"
    assert classes[REGRESSOR] == "it has 48 rows, 28 are needed"


NAMED = [(10, "cup"), (20, "dog"), (30, "jar"), (40, "hat"), (50, "fig"), (60, "map")]
OTHERS = {
    "other name": [*NAMED[:5], (60, "cap")],
    "other id": [*NAMED[:5], (61, "map")],
    "other order": NAMED[::-1],
    "fewer": NAMED[:5],
}


def saved_run(path, model, categories):
    """A run's checkpoint of a model and categories."""
    ids, names = ([category[part] for category in categories] for part in (0, 1))
    counts = {"instances": COUNTS, "images": COUNTS, "frequencies": ["f"] * len(COUNTS), "frequency_source": "counted"}
    save_checkpoint(path, content(model=model.state_dict(), categories={"ids": ids, "names": names, **counts}))
    return path


@pytest.mark.parametrize("name", ["mask_rcnn_small", "faster_rcnn_small"])
@pytest.mark.parametrize("other", OTHERS)
def test_other_categories_of_equal_number_start_anew(name, other):
    source, target = small(name, seed=0), small(name, seed=1)
    fresh = copy.deepcopy(target.state_dict())
    global_rng = torch.get_rng_state()
    report = initialise_from(target, source.state_dict(), own_categories=NAMED, source_categories=OTHERS[other])
    layers = (CLASSIFIER, REGRESSOR, MASKS) if name.startswith("mask") else (CLASSIFIER, REGRESSOR)
    assert report.reinitialised == layers
    assert differing(target, source.state_dict()) == set(layers)
    assert all(torch.equal(v, fresh[k]) for k, v in target.state_dict().items() if k.startswith(layers))
    assert torch.equal(torch.get_rng_state(), global_rng)


@pytest.mark.parametrize(("own", "other"), [(NAMED, list(NAMED)), (None, NAMED), (NAMED, None), (None, None)])
def test_equal_or_unknown_categories_are_kept(own, other):
    source, target = small(seed=0), small(seed=1)
    report = initialise_from(target, source.state_dict(), own_categories=own, source_categories=other)
    assert report.reinitialised == ()
    assert not differing(target, source.state_dict())


def test_a_checkpoint_brings_its_categories(tmp_path):
    source = small(seed=0)
    path = saved_run(tmp_path / "last.pt", source, NAMED)
    assert checkpoint_categories(load_checkpoint(path)) == NAMED
    assert load_weights(small(seed=1), path, own_categories=NAMED).reinitialised == ()
    assert load_weights(small(seed=1), path).reinitialised == ()
    other = load_weights(small(seed=1), path, own_categories=OTHERS["other name"])
    assert other.reinitialised == (CLASSIFIER, REGRESSOR, MASKS)
    assert other.loaded == load_weights(small(seed=1), path).loaded - 6
    built = small(seed=1, weights=path, own_categories=OTHERS["other id"])
    assert (built.load_report.loaded, built.load_report.reinitialised) == (other.loaded, other.reinitialised)
    torch.save(source.state_dict(), tmp_path / "plain.pt")
    assert load_weights(small(seed=1), tmp_path / "plain.pt", own_categories=NAMED).reinitialised == ()


@pytest.mark.parametrize(
    "entry",
    [["cup"], {"ids": [1]}, {"ids": [1, 2], "names": ["cup"]}, {"ids": ["1"], "names": ["a"]}, {"ids": 1, "names": 2}],
)
def test_categories_that_are_none(tmp_path, entry):
    torch.save({"model": small().state_dict(), "categories": entry}, tmp_path / "odd.pt")
    with pytest.raises(DataError, match=r"odd.pt has categories without one id and one name each"):
        load_weights(small(), tmp_path / "odd.pt", own_categories=NAMED)


class Harmful:
    """Pickles into a call."""

    def __reduce__(self):
        return (print, ("executed",))


def refusal(read, path):
    """The one line that refuses a file; it never advises to load without care."""
    with pytest.raises(DataError) as error:
        read(path)
    (line,) = error.value.problems
    assert "\n" not in line
    assert not re.search("weights_only|arbitrary|trust|allowlist|safe_globals|pickle", line, re.IGNORECASE)
    return line


def test_files_that_are_no_weights(tmp_path, capsys):
    (tmp_path / "text.pt").write_text("no weights")
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps({"model": Harmful()}))
    torch.save({"model": Harmful()}, tmp_path / "harmful.pt")
    torch.save({"model": torch.zeros(1000)}, tmp_path / "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:2000])
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"model": {"a": 1}}, tmp_path / "numbers.pt")
    torch.save({"model": {3: torch.zeros(1)}}, tmp_path / "unnamed.pt")
    torch.save({"state_dict": {"a": torch.zeros(2, 2).to_sparse()}}, tmp_path / "sparse.pt")
    torch.save({"a": torch.zeros(2, dtype=torch.complex64)}, tmp_path / "complex.pt")
    torch.save({"a": torch.zeros(2).to(torch.float8_e4m3fn)}, tmp_path / "eighth.pt")
    torch.save({"a": torch.zeros(2, device="meta")}, tmp_path / "meta.pt")
    torch.save({"a": torch.zeros(1).expand(10**13)}, tmp_path / "endless.pt")
    for name, message in [
        ("text.pt", "is no file of tensors"),
        ("empty.pt", "is no file of tensors"),
        ("bare.pt", "is no file of tensors .*save a state dict"),
        ("harmful.pt", "is no file of tensors .*save a state dict"),
        ("cut.pt", "is damaged or cut short"),
        ("list.pt", "holds no state dict"),
        ("numbers.pt", "holds no state dict"),
        ("unnamed.pt", "holds no state dict"),
        ("sparse.pt", "holds no state dict of dense, real tensors"),
        ("complex.pt", "holds no state dict of dense, real tensors"),
        *((f"{name}.pt", "holds no state dict of dense, real tensors") for name in ("eighth", "meta", "endless")),
        ("absent.pt", "cannot read .*allowed are none, imagenet, coco"),
    ]:
        assert re.search(message, refusal(read_state_dict, tmp_path / name))
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("kind", [torch.int8, torch.uint8, torch.bool, torch.int64])
def test_whole_numbers_are_no_weights(tmp_path, kind):
    """A quantised file has the names and shapes of a model, and would load as noise."""
    torch.save({key: value.to(kind) for key, value in small().state_dict().items()}, tmp_path / "whole.pt")
    model = small(seed=1)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(DataError) as error:
        load_weights(model, tmp_path / "whole.pt")
    assert len(error.value.problems) == 4
    assert error.value.problems[0].endswith(
        "holds whole numbers, the model has fractions; give weights that are not quantised"
    )
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_fractions_of_any_kind_are_weights(tmp_path, kind):
    state = {key: value.to(kind) if value.is_floating_point() else value for key, value in small().state_dict().items()}
    torch.save(state, tmp_path / "a.pt")
    model = small(seed=1)
    assert load_weights(model, tmp_path / "a.pt").reinitialised == ()
    assert torch.equal(model.state_dict()[f"{CLASSIFIER}.weight"], state[f"{CLASSIFIER}.weight"].float())


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), 1e300])
def test_weights_that_are_not_finite_are_named(tmp_path, value):
    """Also what only 64 bits can hold: the model would have infinity."""
    state = {key: value.double() for key, value in small().state_dict().items()}
    state[f"{CLASSIFIER}.bias"][1] = value
    torch.save({"model": state}, tmp_path / "odd.pt")
    line = refusal(lambda path: load_weights(small(), path), tmp_path / "odd.pt")
    assert line.startswith(f"weights {tmp_path / 'odd.pt'}: {CLASSIFIER}.bias (its name here) has numbers that are not")


def test_checkpoints_are_refused_in_our_words(tmp_path, capsys):
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Harmful()))
    torch.save({"format": 1, "model": Harmful()}, tmp_path / "harmful.pt")
    (tmp_path / "text.pt").write_text("no checkpoint")
    for name in ("bare.pt", "harmful.pt", "text.pt"):
        assert re.search(
            "read safely .*a checkpoint that this project wrote", refusal(load_checkpoint, tmp_path / name)
        )
    assert "cannot be read (Is a directory)" in refusal(load_checkpoint, tmp_path)
    assert "executed" not in capsys.readouterr().out


# --- published files --------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """PyTorch's folder of downloaded files, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    folder = tmp_path / "home" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def no_network(monkeypatch):
    """Fails like a machine without network."""

    def refuse(*args, **options):
        raise URLError(OSError(-3, "Temporary failure in name resolution"))

    monkeypatch.setattr(torch.hub, "urlopen", refuse)


def named_by_hash(folder, content, digits=8):
    """Writes a file the way torchvision names its own."""
    path = folder / f"made-{hashlib.sha256(content).hexdigest()[:digits]}.pth"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("weights", "file"),
    [("imagenet", "resnet50-0676ba61.pth"), ("coco", "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth")],
)
@pytest.mark.parametrize("planted", ["harmful", "corrupt", "empty"])
def test_planted_files_do_not_run(cache, no_network, capsys, weights, file, planted):
    content = {"harmful": pickle.dumps({"model": Harmful()}), "corrupt": b"PK\x03\x04 and more", "empty": b""}[planted]
    (cache / file).write_bytes(content)
    line = refusal(lambda name: meta_r50(weights=name), weights)
    assert re.search(rf"{file} is damaged or was replaced \(its SHA-256 starts with \w{{8}}, .*; delete it", line)
    assert "executed" not in capsys.readouterr().out
    assert (cache / file).exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_code_does_not_run_even_if_the_hash_fits(cache, no_network, capsys, monkeypatch, tmp_path, zipped):
    torch.save({"conv1.weight": Harmful()}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    path = named_by_hash(cache, (tmp_path / "a.pth").read_bytes())
    planted = SimpleNamespace(IMAGENET1K_V1=SimpleNamespace(url=f"https://example.org/{path.name}"))
    monkeypatch.setattr(published_module, "get_model_weights", {"resnet50": planted}.get)
    assert "is no file of tensors" in refusal(lambda name: meta_r50(weights=name), "imagenet")
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("weights", ["imagenet", "coco"])
def test_no_network_is_one_line(cache, no_network, weights):
    line = refusal(lambda name: meta_r50(weights=name), weights)
    assert re.search("cannot download https.*name resolution.*fetch it on another machine and give its path", line)
    assert list(cache.iterdir()) == []


def test_downloads_are_checked_and_kept(cache, tmp_path):
    """Through a file URL: the real download, then the cached file without any."""
    for zipped in (True, False):
        torch.save({"a": torch.arange(3)}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
        source = named_by_hash(tmp_path, (tmp_path / "a.pth").read_bytes(), digits=12)
        path = published_file(source.as_uri())
        assert path == cache / source.name
        source.unlink()
        assert published_file(source.as_uri()) == path
        assert read_state_dict(path)["a"].tolist() == [0, 1, 2]


def test_a_wrong_download_is_not_kept(cache, tmp_path):
    (tmp_path / "made-00000000.pth").write_bytes(b"cut short")
    line = refusal(published_file, (tmp_path / "made-00000000.pth").as_uri())
    assert re.search("cannot download file.*invalid hash value", line)
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "home").write_text("a file")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    assert "Not a directory" in refusal(published_file, "https://example.org/made-00000000.pth")


# --- ResNet-50 --------------------------------------------------------------------------------------------------------


def r50(head="softmax", **options):
    return build_detector("mask_rcnn_r50_fpn", make_head(head, instance_counts=COUNTS), **options)


def meta_r50(**options):
    """Without memory; what fails before the weights are copied fails here too."""
    with torch.device("meta"):
        return r50(**options)


@pytest.fixture(scope="module")
def coco_state():
    """What torchvision's COCO file looks like: 91 classes, names of the first release, statistics that vary."""
    torch.manual_seed(0)
    stock = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91)
    state = {k: v for k, v in stock.state_dict().items() if "num_batches_tracked" not in k}
    for key in [k for k in state if k.endswith("running_var")]:
        state[key] = torch.logspace(-7, 0, len(state[key]))
        # as trained: channels of little variance have little weight
        state[key.replace("running_var", "weight")] = state[key].sqrt()
    return {first_release_name(k): v for k, v in state.items()}


def first_release_name(key):
    key = re.sub(r"rpn\.head\.conv\.0\.0\.", "rpn.head.conv.", key)
    key = re.sub(r"(fpn\.(?:inner|layer)_blocks\.\d)\.0\.", r"\1.", key)
    return re.sub(r"mask_head\.(\d)\.0\.", lambda m: f"mask_head.mask_fcn{int(m[1]) + 1}.", key)


@pytest.fixture(scope="module")
def files(coco_state, tmp_path_factory):
    """Made-up files under torchvision's names."""
    folder = tmp_path_factory.mktemp("published")
    trunk = {k.removeprefix("backbone.body."): v for k, v in coco_state.items() if k.startswith("backbone.body.")}
    trunk |= {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    torch.save(trunk, folder / "resnet50-0676ba61.pth")
    torch.save(coco_state, folder / "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth")
    return folder


@pytest.fixture
def published(monkeypatch, files):
    """Serves the made-up files where a download would be checked, and records what was asked for."""
    asked = []

    def serve(url):
        asked.append(url)
        return files / url.rpartition("/")[2]

    monkeypatch.setattr(published_module, "published_file", serve)
    return asked


def test_coco_weights(published, coco_state):
    model = r50("bags", weights="coco")
    assert published == ["https://download.pytorch.org/models/maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth"]
    assert model.load_report.reinitialised == (CLASSIFIER, REGRESSOR, MASKS)
    own = model.state_dict()
    assert torch.equal(own["rpn.head.conv.0.0.weight"], coco_state["rpn.head.conv.weight"])
    assert torch.equal(own["roi_heads.mask_head.3.0.bias"], coco_state["roi_heads.mask_head.mask_fcn4.bias"])
    assert torch.equal(own["roi_heads.box_head.fc6.weight"], coco_state["roi_heads.box_head.fc6.weight"])
    assert model.frozen == RESNET50.frozen


def test_ninety_other_classes_are_not_cocos(published):
    """torchvision's COCO models have 91 outputs; a data set of 90 classes of its own fits by width alone."""
    names = torchvision.models.detection.MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    cocos, own = list(enumerate(names))[1:], [(i, f"class {i}") for i in range(1, 91)]
    assert cocos[0] == (1, "person")
    assert len(cocos) == 90
    head = make_head("softmax", instance_counts=[5] * 90)
    model = build_detector("mask_rcnn_r50_fpn", head, weights="coco", own_categories=own)
    assert model.load_report.reinitialised == (CLASSIFIER, REGRESSOR, MASKS)
    assert load_weights(model, "coco", own_categories=cocos).reinitialised == ()
    assert len(published) == 2


def test_coco_trunk_equals_torchvisions_with_eps_zero(published, coco_state, monkeypatch):
    """torchvision runs these weights with eps 0; ours has 1e-5 and folded weights."""
    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", lambda *a, **k: dict(coco_state))
    stock = maskrcnn_resnet50_fpn(weights="COCO_V1")
    ours = r50(weights="coco")
    assert {m.eps for m in ours.modules() if isinstance(m, StoredStatsBatchNorm2d)} == {1e-5}
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours.backbone.body(image), stock.eval().backbone.body(image), atol=1e-4, rtol=1e-3)


def test_a_local_copy_of_torchvisions_file_is_the_same(published, files):
    path = files / "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth"
    local, served = r50(weights=path), r50(weights="coco")
    assert local.load_report == served.load_report
    assert differing(local, served.state_dict()) <= {CLASSIFIER, REGRESSOR, MASKS}


def test_imagenet_weights_fill_the_trunk(published, coco_state):
    model = r50(weights="imagenet")
    assert published == ["https://download.pytorch.org/models/resnet50-0676ba61.pth"]
    state = model.state_dict()
    assert torch.equal(state["backbone.body.layer4.2.conv3.weight"], coco_state["backbone.body.layer4.2.conv3.weight"])
    assert torch.equal(state["backbone.body.bn1.running_var"], coco_state["backbone.body.bn1.running_var"])
    assert {CLASSIFIER, "rpn.head.cls_logits", "backbone.fpn.inner_blocks.0.0"} < set(model.load_report.reinitialised)
    assert not any(layer.startswith("backbone.body") for layer in model.load_report.reinitialised)


def test_names_without_loading_download_nothing(published):
    model = r50(weights="coco", load_pretrained=False)
    assert published == []
    assert model.frozen == RESNET50.frozen
    assert model.load_report.loaded == 0


def test_small_models_have_no_published_weights():
    having = "faster_rcnn_r50_fpn, mask_rcnn_r50_fpn, faster_rcnn_mobilenet_v3_large_fpn"
    with pytest.raises(RecipeError, match=f"'coco' exists for {having}; allowed are none or"):
        small(weights="coco")


def test_folding_leaves_the_input_and_zero_variance_alone():
    state = {"bn.weight": torch.tensor([2.0, 3.0]), "bn.running_var": torch.tensor([0.0, 1e-5])}
    before = copy.deepcopy(state)
    folded = fold_zero_eps(state)
    assert state["bn.weight"].equal(before["bn.weight"])
    torch.testing.assert_close(folded["bn.weight"], torch.tensor([2.0, 3.0 * 2**0.5]))


def test_checkpoint_of_ordinary_batch_norm_fits_stored_statistics():
    """A run without pretrained weights can start one with them, and the other way round."""
    source = nn.BatchNorm2d(4)
    source.running_mean += 1
    target = StoredStatsBatchNorm2d(4)
    target.load_state_dict(source.state_dict())
    assert torch.equal(target.running_mean, source.running_mean)
    back = nn.BatchNorm2d(4)
    back.load_state_dict(target.state_dict())
    assert torch.equal(back.running_mean, source.running_mean)


def test_a_gate_makes_another_layout():
    """With and without group 0 the same columns mean other things, even where the widths agree."""
    with_gate = make_head("bags", instance_counts=COUNTS, edges=(10,))
    without = make_head("bags", instance_counts=COUNTS, edges=(10, 100, 1000), gate=False)
    assert with_gate.num_logits == without.num_logits
    source, target = build_detector("faster_rcnn_small", with_gate), build_detector("faster_rcnn_small", without)
    assert initialise_from(target, source.state_dict()).reinitialised == (CLASSIFIER,)


def test_state_of_a_calibration_is_never_taken_over():
    head = make_head("softmax", instance_counts=COUNTS)
    source, target = build_detector("faster_rcnn_small", head), build_detector("faster_rcnn_small", head)
    layer = source.roi_heads.box_predictor.cls_score
    source.roi_heads.calibration = make_calibration(
        "tau-norm", head=head, classifier=layer, feature_sizes=source.roi_heads.calibration_sizes
    )
    assert initialise_from(target, source.state_dict()).reinitialised == ()
    target.roi_heads.calibration = make_calibration(
        "ncm", head=head, classifier=layer, feature_sizes=source.roi_heads.calibration_sizes
    )
    assert initialise_from(target, source.state_dict()).reinitialised == ()
    assert not target.roi_heads.calibration.seen.any()
