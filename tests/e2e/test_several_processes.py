"""Training in several processes as it is started and stopped: --processes, srun, the SLURM examples, torchrun."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lt_train.launch import first_host

ROOT = Path(__file__).resolve().parents[2]
LT_TRAIN = str(Path(sys.executable).with_name("lt-train"))
RESUMABLE = 75
# starts the tasks of a step as srun does, ends with the highest code, and kills them where it gets a signal itself
SRUN = """#!/usr/bin/env python3
import os, signal, subprocess, sys
words = sys.argv[1:]
while words[0].startswith("-"):
    words = words[1:]
step = {**os.environ, "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "localhost"}
tasks = [subprocess.Popen(words, env={**step, "SLURM_PROCID": i, "SLURM_LOCALID": i}) for i in ("0", "1")]
signal.signal(signal.SIGTERM, lambda number, _: [task.kill() for task in tasks])
sys.exit(max(task.wait() for task in tasks))
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """Arguments of ``lt-train fit`` for a run of some steps."""
    from lt_data.synthetic.pool import write_pool

    out = tmp_path_factory.mktemp("several")
    write_pool(out / "pool", images=8, categories=20, size=64, instances_per_image=(2, 4), minimum_instances=1)
    text = f"""
data:
  train: {{annotations: {out}/pool/annotations.json, images: {out}/pool/images}}
  groups: [2, 3]
  workers: 1
model: {{name: faster_rcnn_small, min_size: [64], max_size: 64, num_detections: 10}}
optim: {{batch: 4, base_batch: 4, micro_batch: 2}}
schedule: {{iterations: 400, decay: [], warmup: 1}}
log_every: 1
device: cpu
"""
    (out / "recipe.yaml").write_text(text)
    return str(out / "recipe.yaml")


def environment(**more):
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "TORCHELASTIC"))}
    return {**kept, "OMP_NUM_THREADS": "1", **more}


def start(*words, env=None):
    return subprocess.Popen(
        words,
        env=env or environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_steps(run, number, process):
    """Waits until so many lines of figures are there."""
    metrics = run / "metrics.jsonl"
    end = time.monotonic() + 600
    while not metrics.is_file() or len(metrics.read_bytes().splitlines()) < number:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


def weights(run):
    return torch.load(run / "checkpoints/last.pt", weights_only=True)["model"]


def assert_equal(one, other):
    assert all(torch.equal(value, weights(other)[name]) for name, value in weights(one).items())


@pytest.mark.slow
def test_a_signal_to_the_starter_saves_and_srun_goes_on(recipe, tmp_path):
    """Exit codes, one voice, and the bits of a run that was not stopped."""
    run = tmp_path / "run"
    process = start(LT_TRAIN, "fit", recipe, "--out", str(run), "--processes", "2")
    wait_for_steps(run, 2, process)
    process.send_signal(signal.SIGTERM)
    out, errors = process.communicate(timeout=600)
    assert process.returncode == RESUMABLE, errors
    done = torch.load(run / "checkpoints/last.pt", weights_only=True)["done"]
    told = [line for line in errors.splitlines() if line.startswith(str(run))]
    assert told == [
        f"{run}: interrupted after step {done} of 400; continue with --resume, from the checkpoint of step {done}"
    ]
    assert "Traceback" not in out + errors
    # the same steps in one go, by srun
    srun = stand_ins(tmp_path / "bin")
    env = environment(PATH=f"{srun}:{os.environ['PATH']}", SLURM_JOB_ID="7")
    # the starter is a program of its own for srun
    subprocess.run(
        ["srun", LT_TRAIN, "fit", recipe, f"schedule.iterations={done}", "--out", str(tmp_path / "straight")],
        env=env, check=True, capture_output=True,
    )  # fmt: skip
    assert_equal(run, tmp_path / "straight")


@pytest.mark.slow
def test_processes_whose_starter_is_killed_save_and_end(recipe, tmp_path):
    run = tmp_path / "run"
    process = start(LT_TRAIN, "fit", recipe, "--out", str(run), "--processes", "2")
    wait_for_steps(run, 2, process)
    process.kill()
    # until nobody is left who may write
    _, errors = process.communicate(timeout=600)
    done = torch.load(run / "checkpoints/last.pt", weights_only=True)["done"]
    assert 2 <= done < 400
    assert f"{run}: interrupted after step {done} of 400; continue with --resume" in errors
    assert "Traceback" not in errors


def stand_ins(folder):
    """A folder with what stands in for srun and scontrol."""
    folder.mkdir()
    (folder / "srun").write_text(SRUN)
    (folder / "scontrol").write_text('#!/bin/sh\necho "$@" >> "$REQUEUED"\n')
    os.symlink(LT_TRAIN, folder / "lt-train")
    for name in ("srun", "scontrol"):
        (folder / name).chmod(0o755)
    return folder


def processes_of(started, words):
    """Numbers of the processes of a group whose command line has these words."""
    listed = subprocess.run(["pgrep", "-g", str(started.pid), "-f", words], capture_output=True, text=True, check=False)
    return [int(number) for number in listed.stdout.split()]


@pytest.mark.slow
@pytest.mark.parametrize("example", ["one_node", "several_nodes"])
def test_slurm_examples_queue_a_run_again_that_was_stopped(recipe, tmp_path, example):
    run, folder = tmp_path / "run", stand_ins(tmp_path / "bin")
    text = (ROOT / f"examples/slurm/{example}.sbatch").read_text().replace("--processes 8", "--processes 2")
    (tmp_path / "job.sh").write_text(text)
    env = environment(
        PATH=f"{folder}:{os.environ['PATH']}", RECIPE=recipe, RUN=str(run), SLURM_JOB_ID="41",
        REQUEUED=str(tmp_path / "requeued"),
    )  # fmt: skip
    job = start("bash", str(tmp_path / "job.sh"), "schedule.iterations=400", env=env)
    wait_for_steps(run, 2, job)
    if "--signal=B:" in text:
        # to the script alone
        job.send_signal(signal.SIGTERM)
    else:
        # to the tasks of its step alone
        for task in processes_of(job, f"{folder}/lt-train fit"):
            os.kill(task, signal.SIGTERM)
    _, errors = job.communicate(timeout=600)
    assert job.returncode == RESUMABLE, errors
    assert (tmp_path / "requeued").read_text() == "requeue 41\n"
    done = torch.load(run / "checkpoints/last.pt", weights_only=True)["done"]
    assert 2 <= done < 400


@pytest.mark.slow
def test_torchrun_starts_again_after_a_kill_and_the_run_ends_as_an_undisturbed_one(recipe, tmp_path):
    steps = ["schedule.iterations=30", "--resume", "auto"]
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "--max-restarts",
        "2",
    ]

    def command(run):
        return [*launch, "--max-restarts", "2", "--no-python", LT_TRAIN, "fit", recipe, *steps, "--out", str(run)]

    subprocess.run(command(tmp_path / "straight"), env=environment(), check=True, capture_output=True)
    process = start(*command(tmp_path / "run"))
    wait_for_steps(tmp_path / "run", 12, process)
    # of the children of torchrun the second: loader processes are no children of it
    ranks = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
    os.kill(int(ranks.stdout.split()[1]), signal.SIGKILL)
    _, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    assert_equal(tmp_path / "run", tmp_path / "straight")
    metrics = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in metrics if "loss" in line] == list(range(1, 31))


@pytest.mark.slow
def test_bad_input_is_one_line_of_one_process(recipe, tmp_path):
    words = [
        LT_TRAIN,
        "fit",
        recipe,
        "data.train.annotations=nowhere.json",
        "--out",
        str(tmp_path / "run"),
        "--processes",
        "2",
    ]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if "error" in line.lower()]
    assert len(lines) == 1, done.stderr
    assert "nowhere.json" in lines[0]
    shutil.rmtree(tmp_path / "run", ignore_errors=True)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu[07-09,12],cpu1", "gpu07"),
        ("node1", "node1"),
        ("a-[3,5]-ib", "a-3-ib"),
        ("x.example.org,y", "x.example.org"),
    ],
)
def test_the_first_machine_of_a_list(nodes, first):
    assert first_host(nodes) == first
