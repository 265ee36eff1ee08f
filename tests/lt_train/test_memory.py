"""Memory that runs out is one line that says what to lower."""

import errno
import resource

import pytest
import torch

from lt_data.errors import OutOfMemory
from lt_train import memory
from lt_train.engine.fit import fit
from lt_train.engine.step import train_step
from lt_train.inference.evaluate_run import evaluate_run
from lt_train.memory import (
    available_memory,
    check_torch_starts,
    inference_advice,
    limited_memory,
    named_memory,
    training_advice,
)
from lt_train.recipe.origins import Setting
from lt_train.trials.dry_run import dry_run

SETTINGS = (Setting("seed", 0, "default"),)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nGPU 0 has ..."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: ..."),
        RuntimeError("could not create a primitive"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_memory_that_is_gone_is_one_line(error):
    with pytest.raises(OutOfMemory) as raised, named_memory("a step", "lower optim.batch"):
        raise error
    (line,) = raised.value.problems
    assert line.startswith("a step: out of memory (")
    assert line.endswith("); lower optim.batch")
    assert "enforce" not in line


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), OSError(errno.ENOSPC, "No space left on device")])
def test_other_errors_stay_what_they_are(error):
    with pytest.raises(type(error)) as raised, named_memory("a step", "lower optim.batch"):
        raise error
    assert raised.value is error


def test_a_limit_ends_what_is_too_large_and_then_is_gone():
    with pytest.raises(OutOfMemory, match="64"), named_memory("64", "less"), limited_memory(2**25):
        # more than a process keeps of what it has given back to itself
        torch.empty(2**31)
    assert torch.empty(2**26).fill_(1).sum() == 2**26


@pytest.mark.parametrize(
    ("trial", "why"),
    [
        ("import os; os.abort()", "code -6"),
        ("raise ImportError('libtorch.so: failed to map segment')", "ImportError: libtorch.so: failed to map segment"),
    ],
)
def test_pytorch_without_room_to_be_loaded_is_one_line(monkeypatch, trial, why):
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (2**30, resource.RLIM_INFINITY))
    monkeypatch.setattr(memory, "TRIAL", trial)
    with pytest.raises(OutOfMemory) as raised:
        check_torch_starts()
    (line,) = raised.value.problems
    assert line.startswith(f"PyTorch cannot be loaded in the 1.0 GiB that ulimit leaves this process ({why}); raise")


@pytest.mark.parametrize(("limit", "trial"), [(2**30, "pass"), (resource.RLIM_INFINITY, "import os; os.abort()")])
def test_pytorch_is_tried_where_memory_is_limited(monkeypatch, limit, trial):
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limit, resource.RLIM_INFINITY))
    monkeypatch.setattr(memory, "TRIAL", trial)
    check_torch_starts()


def write_group(folder, most, used, cache=0):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{most}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 7\ninactive_file {cache}\n")


def test_what_is_free_is_the_least_of_machine_and_container(tmp_path, monkeypatch):
    for name in ("MEMINFO", "CGROUPS", "OWN_CGROUP"):
        monkeypatch.setattr(memory, name, tmp_path / name)
    assert available_memory() is None
    (tmp_path / "MEMINFO").write_text("MemTotal:  9000 kB\nMemAvailable:   4000 kB\n")
    assert available_memory() == 4000 * 1024
    write_group(tmp_path / "CGROUPS", "max", 1000)
    assert available_memory() == 4000 * 1024
    write_group(tmp_path / "CGROUPS", 51_000, 1000)
    assert available_memory() == 50_000
    # files that were read make room, and a group within is seen
    (tmp_path / "OWN_CGROUP").write_text("0::/slice/job\n")
    write_group(tmp_path / "CGROUPS/slice", 31_000, 30_000, cache=20_000)
    assert available_memory() == 21_000


def test_what_is_free_in_control_groups_of_version_1(tmp_path, monkeypatch):
    for name in ("MEMINFO", "CGROUPS", "OWN_CGROUP"):
        monkeypatch.setattr(memory, name, tmp_path / name)
    folder = tmp_path / "CGROUPS/memory"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text("9000")
    (folder / "memory.usage_in_bytes").write_text("8000")
    (folder / "memory.stat").write_text("total_inactive_file 500\n")
    assert available_memory() == 1500


def test_the_advice_names_keys_with_their_values(tiny_recipe):
    recipe = tiny_recipe("optim.batch=4", "optim.accumulate=1", "eval.batch=3", "data.workers=2")
    assert training_advice(recipe).startswith(
        "lower optim.batch (now 4) (optim.batch=2 optim.accumulate=2 takes the same steps), model.max_size (now "
    )
    assert "eval.batch (now 3) or data.workers (now 2)" in inference_advice(recipe)


def test_a_dry_run_of_what_is_too_large_ends_in_a_line(tiny_recipe, monkeypatch):
    def large_step(*given, lr, **options):
        # only the timed steps are under the limit
        torch.empty(2**27 if lr else 0).fill_(1)
        return train_step(*given, lr=lr, **options)

    monkeypatch.setattr("lt_train.trials.dry_run.available_memory", lambda: 2**26)
    monkeypatch.setattr("lt_train.trials.dry_run.train_step", large_step)
    with pytest.raises(OutOfMemory, match=r"a step of 2 images per forward pass: out of memory \(.*; lower optim"):
        list(dry_run(tiny_recipe("data.val=null", "optim.batch=2"), SETTINGS))


def test_training_and_evaluation_name_what_to_lower(tiny_recipe, tmp_path, monkeypatch):
    def no_memory(*_, **__):
        raise MemoryError

    run = fit(tiny_recipe("data.val=null"), tmp_path / "run")
    for place in ("train_step", "load_run_data"):
        with monkeypatch.context() as patch:
            patch.setattr(f"lt_train.engine.fit.{place}", no_memory)
            with pytest.raises(OutOfMemory, match="training: out of memory .*optim.batch"):
                fit(tiny_recipe("data.val=null"), tmp_path / place)
    files = tiny_recipe().data.val
    monkeypatch.setattr("lt_train.inference.detect._detect_batch", no_memory)
    with pytest.raises(OutOfMemory, match="evaluating: out of memory .*model.num_detections"):
        evaluate_run(run.path, files=files, out=tmp_path / "eval")


def test_a_dry_run_compares_what_a_step_needs_with_what_is_free(tiny_recipe, monkeypatch):
    recipe = tiny_recipe("data.val=null")
    (line,) = [line for line in dry_run(recipe, SETTINGS) if line.startswith("memory: a step is going to need about")]
    assert line.endswith("GiB are free")
    monkeypatch.setattr("lt_train.trials.dry_run.available_memory", lambda: 1)
    monkeypatch.setattr("lt_train.trials.dry_run.limited_memory", lambda _: memory.limited_memory(None))
    (line,) = [line for line in dry_run(recipe, SETTINGS) if line.startswith("memory: a step is going to need about")]
    assert line.endswith("0.0 GiB are free; that is too little")
