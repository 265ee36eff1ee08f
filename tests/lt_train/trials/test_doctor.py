"""The look at the machine: everything named, failures as findings."""

import contextlib
import re
from types import SimpleNamespace

import pytest
import torch

from lt_train.detectors import build_detector
from lt_train.trials import doctor
from lt_train.trials.doctor import OPTIONAL, PACKAGES, examine, format_finding


def test_a_machine_that_can_train():
    found = {finding.subject: finding for finding in examine()}
    assert set(PACKAGES) <= set(found)
    assert found["torch"].text == torch.__version__.split("+")[0] or found["torch"].text == torch.__version__
    assert not [format_finding(f) for f in found.values() if f.state == "broken"]
    assert set(OPTIONAL) <= set(found)
    losses = [
        float(re.match(r"loss ([\d.]+), \d+ ms", found[f"training step on cpu in {precision}"].text)[1])
        for precision in ("fp32", "bf16")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert losses[0] != losses[1]
    assert re.match(r"[\d.]+ ms for a JPEG", found["decoding"].text)
    assert re.fullmatch(r"4 MiB added up in [\d.]+ ms by gloo", found["two processes"].text)
    assert ("GPU" in found) == (not torch.cuda.is_available())


def test_what_fails_is_a_finding(monkeypatch, tmp_path):
    def fails(device, precision):
        raise RuntimeError("CUDA error:\nno kernel image")

    monkeypatch.setattr(doctor, "_step", fails)
    monkeypatch.setattr(doctor, "_PAIR", "raise SystemExit('no route to localhost')")
    monkeypatch.setattr(doctor, "PACKAGES", ("torch", "no-such-package"))
    monkeypatch.setattr(doctor, "OPTIONAL", {"no-such-tracker": "only for trackers=x"})
    monkeypatch.setattr(doctor, "SHARED_MEMORY", tmp_path / "missing")
    lines = [format_finding(finding) for finding in examine()]
    assert "BROKEN  training step on cpu in bf16: fails: RuntimeError: CUDA error: no kernel image" in lines
    assert "BROKEN  two processes: fails: RuntimeError: no route to localhost" in lines
    assert any(line.startswith("BROKEN  no-such-package: not installed; run: pip install") for line in lines)
    assert "note    no-such-tracker: not installed; only for trackers=x" in lines
    assert any(line.startswith("note    shared memory: ") and "data.workers=0" in line for line in lines)
    assert all("\n" not in line for line in lines)


@pytest.mark.parametrize(("free", "state"), [(2**20, "note"), (2**34, "ok")])
def test_little_shared_memory_is_named(monkeypatch, tmp_path, free, state):
    class Status:
        f_bavail, f_frsize = free, 1

    monkeypatch.setattr(doctor.os, "statvfs", lambda path: Status)
    assert doctor._shared_memory(tmp_path).state == state


def test_the_step_trains_masks(monkeypatch):
    seen = {}

    def build(name, *args, **options):
        model = seen["model"] = build_detector(name, *args, **options)
        return model

    monkeypatch.setattr(doctor, "build_detector", build)
    doctor._step("cpu", "fp32")
    gradients = {name: p.grad for name, p in seen["model"].named_parameters()}
    assert any(float(gradients[name].abs().sum()) > 0 for name in gradients if "mask_predictor" in name)


@pytest.mark.parametrize("has", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_gpus_say_whether_they_have_bf16(monkeypatch, has):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: "A GPU")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: SimpleNamespace(total_memory=2**33))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has)
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(doctor, "_step", lambda device, precision: "a loss")
    # two processes that import no PyTorch
    monkeypatch.setattr(doctor, "_PAIR", "print(1, 0)")
    found = {finding.subject: finding.text for finding in examine()}
    assert found["cuda:0"] == "A GPU, 8.0 GiB, " + ("bf16" if has else "no bf16 (use compute.precision=fp16)")
    assert "training step on cuda:0 in fp32" in found
    assert ("training step on cuda:0 in bf16" in found) == has
