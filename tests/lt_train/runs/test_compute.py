"""Runs in half precision, with NHWC feature maps and with compiled layers."""

import json
import shutil

import pytest
import torch

from lt_data.errors import RecipeError
from lt_train.engine.calibrate import calibrate_run
from lt_train.engine.fit import fit
from lt_train.engine.restore import restore_state
from lt_train.engine.resume import read_begun
from lt_train.inference.detect import load_trained
from lt_train.inference.evaluate_run import evaluate_run
from lt_train.inference.predict_images import predict_images
from lt_train.recipe.sections import ComputeSection
from lt_train.runs import compute
from lt_train.runs.checkpoint import load_checkpoint, save_checkpoint
from lt_train.runs.compute import prepare
from tests.lt_train.detectors.scenes import small
from tests.lt_train.engine.stepping import Stepper, assert_finite, assert_same

QUIET = ("trackers=[]",)
# processors take long for it
FP16 = (
    *("compute.precision=fp16", "model.name=faster_rcnn_small", "model.min_size=[32]", "model.max_size=32"),
    "data.val=null",
)
WEIGHT = "backbone.stages.1.0.weight"


@pytest.fixture
def run_of(tiny_recipe, _module_cache, tmp_path_factory):
    """The run of a compute section, made once."""

    def make(*options):
        if options not in _module_cache:
            out = tmp_path_factory.mktemp("compute") / "run"
            _module_cache[options] = fit(tiny_recipe(*QUIET, *options), out)
        return _module_cache[options]

    return make


def logged(run):
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k.startswith("loss")} for line in lines if "loss" in line]


def floats(content):
    """Every floating tensor of a checkpoint, by its place."""
    found = {}
    for key, value in content.items():
        if isinstance(value, dict):
            found |= {f"{key}.{name}": tensor for name, tensor in floats(value).items()}
        elif isinstance(value, torch.Tensor) and value.is_floating_point():
            found[str(key)] = value
    return found


# --- half precision ---------------------------------------------------------------------------------------------------


def test_bf16_trains_like_fp32(run_of):
    half, whole = logged(run_of("compute.precision=bf16")), logged(run_of())
    assert len(half) == len(whole) == 3
    assert half[0] != whole[0]
    assert half[0]["loss"] == pytest.approx(whole[0]["loss"], rel=0.05)
    for name in ("loss_classifier", "loss_objectness", "loss_rpn_box_reg"):
        assert half[0][name] == pytest.approx(whole[0][name], rel=0.02)
    assert half[-1]["loss"] < half[0]["loss"]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_weights_and_momentum_are_float32(run_of, precision):
    options = {"bf16": ["compute.precision=bf16"], "fp16": FP16}
    content = load_checkpoint(run_of(*options[precision]).last)
    plain = load_checkpoint(run_of().last)["model"]
    found = floats(content)
    assert {name.split(".")[0] for name in found} == {"model", "optimizer"}
    assert {value.dtype for value in found.values()} == {torch.float32}
    assert_finite(found)
    assert all(value.dtype == plain[name].dtype for name, value in content["model"].items())


def test_a_bf16_run_is_used_like_any(run_of, tiny_recipe, tiny_pool, tmp_path):
    """Evaluated, predicted with, calibrated, and a start for others: in its own precision."""
    run = run_of("compute.precision=bf16")
    before = (run.evaluation / "predictions.json").read_bytes()
    evaluate_run(run.path)
    assert (run.evaluation / "predictions.json").read_bytes() == before
    assert load_trained(run, "last").model.precision == torch.bfloat16
    done = predict_images(run.path, tiny_pool / "images", tmp_path / "out", pictures=1, score_threshold=0)
    assert (done.images, done.pictures) == (12, 1)
    for kind in ("fc", "conv"):
        calibrated = calibrate_run(run.path, f"ncm-{kind}", tmp_path / kind)
        assert calibrated.load_recipe().compute.precision == "bf16"
        assert (calibrated.evaluation / "metrics.json").is_file()
        assert_finite(floats(load_checkpoint(calibrated.last)))
    second = fit(tiny_recipe(*QUIET, "method=bags", "data.val=null"), tmp_path / "bags", init_from=run.path)
    start, content = load_checkpoint(run.last)["model"], load_checkpoint(second.last)["model"]
    assert torch.equal(start[WEIGHT], content[WEIGHT])


def test_the_scale_of_the_loss_is_saved_and_restored(run_of, tmp_path):
    """As it was after steps that were left out because the scale was too high."""
    run = run_of(*FP16)
    shutil.copytree(run.path, tmp_path / "run")
    content = load_checkpoint(run.last)
    saved = content["scaler"]
    saved["scale"] /= 4
    save_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt", content)
    stepper = Stepper(run.load_recipe())
    assert stepper.state.scaler.get_scale() == 2.0**16
    copy = type(run)(tmp_path / "run")
    restore_state(stepper.state, copy, read_begun(copy), stepper.recipe, stepper.data, steps=1000)
    assert stepper.state.scaler.state_dict() == saved
    assert stepper.state.scaler.get_scale() == saved["scale"] < 2.0**16
    assert_same(
        stepper.weights(), {n: v for n, v in load_checkpoint(run.last)["model"].items() if n in stepper.weights()}
    )


def test_other_precisions_scale_nothing(run_of):
    assert load_checkpoint(run_of("compute.precision=bf16").last)["scaler"] == {}
    assert load_checkpoint(run_of().last)["scaler"] == {}


def test_a_gpu_without_bf16(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: False)
    with pytest.raises(RecipeError, match="no bf16; use compute.precision=fp16") as error:
        prepare(small(), ComputeSection(precision="bf16"), torch.device("cuda"))
    assert len(error.value.problems) == 1


def test_precisions_that_do_not_exist(tiny_recipe):
    with pytest.raises(RecipeError, match="compute.precision: got 'int8'.*'fp32', 'bf16' or 'fp16'"):
        tiny_recipe("compute.precision=int8")


# --- NHWC -------------------------------------------------------------------------------------------------------------


def test_nhwc_is_the_same_training(run_of):
    nhwc, plain = run_of("compute.channels_last=true"), run_of()
    for got, wanted in zip(logged(nhwc)[:2], logged(plain)[:2], strict=True):
        assert got == pytest.approx(wanted, rel=1e-3)
    assert logged(nhwc)[0] == pytest.approx(logged(plain)[0], abs=1e-5)
    models = [load_checkpoint(run.last)["model"] for run in (nhwc, plain)]
    assert list(models[0]) == list(models[1])
    assert [value.shape for value in models[0].values()] == [value.shape for value in models[1].values()]


@pytest.mark.parametrize("source", ["true", "false"])
def test_nhwc_checkpoints_load_both_ways(run_of, tiny_recipe, tmp_path, source):
    run = run_of(*(["compute.channels_last=true"] if source == "true" else []))
    other = {"true": "false", "false": "true"}[source]
    options = ("method=bags", "data.val=null", f"compute.channels_last={other}")
    content = load_checkpoint(fit(tiny_recipe(*QUIET, *options), tmp_path / "run", init_from=run.path).last)["model"]
    start = load_checkpoint(run.last)["model"]
    assert torch.equal(content[WEIGHT], start[WEIGHT])
    nhwc = [model[WEIGHT].is_contiguous(memory_format=torch.channels_last) for model in (start, content)]
    assert nhwc == [source == "true", other == "true"]


# --- compiled layers --------------------------------------------------------------------------------------------------


@pytest.fixture
def any_compiler(monkeypatch):
    """A machine may have none; nothing is compiled before it runs."""
    monkeypatch.setattr(compute, "_check_compiler", lambda device: None)


def test_compiling_keeps_the_names(any_compiler):
    plain, compiled = small(), prepare(small(), ComputeSection(compile=True), torch.device("cpu"))
    assert list(compiled.state_dict()) == list(plain.state_dict())
    assert [name for name, _ in compiled.named_modules()] == [name for name, _ in plain.named_modules()]
    compiled.load_state_dict(plain.state_dict())


def test_layers_alone_are_compiled(tiny_recipe, monkeypatch, any_compiler):
    """And the layers of the average are its own, not those that were compiled for the trained model."""
    parts, ran = [], []

    def compiled(function, **options):
        parts.append((type(function.__self__).__name__, options))
        return lambda *args, **keywords: ran.append(function.__self__) or function(*args, **keywords)

    monkeypatch.setattr(torch, "compile", compiled)
    run = Stepper(tiny_recipe("compute.compile=true", "optim.ema=0.5"))
    dynamic = {"dynamic": True}
    assert parts == [(name, dynamic) for name in ("SmallBackbone", "RPNHead", "TwoMLPHead", "MaskRCNNHeads")]
    plain = Stepper(tiny_recipe("optim.ema=0.5"))
    assert run.step().read() == plain.step().read()
    assert len(ran) == 4
    with torch.inference_mode():
        run.state.result.eval()([torch.zeros(3, 64, 64)])
    assert len(ran) == 4


@pytest.mark.slow
def test_compiled_layers_compute_the_same(tiny_recipe, tmp_path):
    try:
        prepare(small(), ComputeSection(compile=True), torch.device("cpu"))
    except RecipeError as error:
        pytest.skip(str(error))
    options = ("schedule.warmup=0", "optim.ema=0.5", *QUIET)
    plain, compiled = (fit(tiny_recipe(*options, f"compute.compile={x}"), tmp_path / x) for x in ("false", "true"))
    assert logged(compiled)[0] == pytest.approx(logged(plain)[0], abs=1e-4)
    assert logged(compiled)[1] == pytest.approx(logged(plain)[1], rel=1e-2)
    models = [load_checkpoint(run.last) for run in (plain, compiled)]
    for kind in ("model", "trained_model"):
        assert list(models[0][kind]) == list(models[1][kind])
        for name, value in models[0][kind].items():
            torch.testing.assert_close(models[1][kind][name], value, atol=1e-2, rtol=1e-2, msg=name)
    evaluated = [json.loads((run.evaluation / "metrics.json").read_text())["bbox"]["AP"] for run in (plain, compiled)]
    assert evaluated[1] == pytest.approx(evaluated[0], abs=0.02)


def test_without_a_compiler_the_run_does_not_start(monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no working compiler\nand much more")

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(RecipeError, match=r"compute.compile: .*\(no working compiler\); install a C\+\+ compiler"):
        prepare(small(), ComputeSection(compile=True), torch.device("cpu"))
