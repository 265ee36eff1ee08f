"""The look at the machine: everything named, failures as findings."""

import re

import pytest
import torch

from lt_train.engine import doctor
from lt_train.engine.doctor import PACKAGES, examine, format_finding


def test_a_machine_that_can_train():
    found = {finding.subject: finding for finding in examine()}
    assert set(PACKAGES) <= set(found)
    assert found["torch"].text == torch.__version__.split("+")[0] or found["torch"].text == torch.__version__
    assert not [format_finding(f) for f in found.values() if f.state == "broken"]
    loss = re.match(r"loss ([\d.]+), \d+ ms", found["training step on cpu"].text)
    assert 0 < float(loss[1]) < 100
    assert re.match(r"[\d.]+ ms for a JPEG", found["decoding"].text)
    assert ("GPU" in found) == (not torch.cuda.is_available())


def test_what_fails_is_a_finding(monkeypatch, tmp_path):
    def fails(device):
        raise RuntimeError("CUDA error:\nno kernel image")

    monkeypatch.setattr(doctor, "_step", fails)
    monkeypatch.setattr(doctor, "PACKAGES", ("torch", "no-such-package", "hotcoco"))
    monkeypatch.setattr(doctor, "SHARED_MEMORY", tmp_path / "missing")
    lines = [format_finding(finding) for finding in examine()]
    assert "BROKEN  training step on cpu: fails: RuntimeError: CUDA error: no kernel image" in lines
    assert any(line.startswith("BROKEN  no-such-package: not installed; run: pip install") for line in lines)
    assert any(line.startswith("note    shared memory: ") and "data.workers=0" in line for line in lines)
    assert all("\n" not in line for line in lines)


@pytest.mark.parametrize(("free", "state"), [(2**20, "note"), (2**34, "ok")])
def test_little_shared_memory_is_named(monkeypatch, tmp_path, free, state):
    class Status:
        f_bavail, f_frsize = free, 1

    monkeypatch.setattr(doctor.os, "statvfs", lambda path: Status)
    assert doctor._shared_memory(tmp_path).state == state
