"""Where a run may be written: what killed and failed starts leave holds nobody up, what may be lost is refused."""

import os
import signal
import subprocess
import sys

import pytest

from lt_data.errors import DataError, OutputError
from lt_train.runs import directory, lock
from lt_train.runs.directory import RunDir, check_run_dir, create_run_dir, new_run, resumed_run
from lt_train.runs.lock import writing_run

HOLD = """
import sys, time
from pathlib import Path
from lt_train.runs.lock import writing_run

with writing_run(Path(sys.argv[1])):
    print("holding", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that writes the run."""
    command = [sys.executable, "-c", HOLD, tmp_path / "run"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "holding\n"
    yield process
    process.kill()
    process.communicate()


def make(path, *names):
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("x")
    return path


RUN = ("recipe.yaml", "data.json", "environment.json")


@pytest.mark.parametrize(
    "left",
    [
        (".lock",),
        (".lock", "recipe.yaml"),
        (".lock", "recipe.yaml", ".01234567-data.json"),
        (".lock", ".data.json.part", "checkpoints/.last.pt.part"),
        (".lock", "report/trainable.csv", "tensorboard/events"),
        RUN,
        (*RUN, "train.log", "report/trainable.csv"),
    ],
)
def test_a_start_that_came_to_nothing_is_started_again(tmp_path, tiny_recipe, left):
    path = make(tmp_path / "run", *left)
    with new_run(path, force=False):
        run = create_run_dir(path, tiny_recipe(), {"schema": 1}, force=False)
    assert sorted(p.name for p in path.iterdir()) == ["checkpoints", "data.json", "recipe.yaml"]
    assert list(run.last.parent.iterdir()) == []
    assert run.load_recipe() == tiny_recipe()


@pytest.mark.parametrize(
    ("there", "says"),
    [
        (("recipe.yaml",), "holds files that no run wrote (recipe.yaml)"),
        ((".01234567-data.json",), "holds files that no run wrote"),
        ((".lock", "thesis.tex"), "(thesis.tex), so it is never replaced"),
        ((*RUN, ".01234567-thesis.tex"), "(.01234567-thesis.tex), so it is never replaced"),
        ((*RUN, "metrics.jsonl"), "it has no checkpoint to resume from; replace it with --force"),
    ],
)
def test_what_may_be_lost_is_refused(tmp_path, there, says):
    path = make(tmp_path / "run", *there)
    with pytest.raises(OutputError) as error, new_run(path, force=False):
        pass
    assert says in str(error.value)
    assert sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()) == sorted(there)


@pytest.mark.parametrize("checkpoint", ["last.pt", "previous.pt", "best.pt"])
def test_a_run_that_can_be_resumed_is_not_said_to_be_replaced(tmp_path, checkpoint):
    path = make(tmp_path / "run", *RUN, "metrics.jsonl", f"checkpoints/{checkpoint}")
    with pytest.raises(OutputError) as error:
        check_run_dir(path, force=False)
    assert str(error.value) == f"{path}: holds a run; continue it with --resume, or choose another --out"
    check_run_dir(path, force=True)


def full_disk(monkeypatch):
    """A disk that takes the recipe and half of ``data.json``."""
    original = directory.Path.write_bytes

    def write(path, content):
        if path.name.endswith("data.json"):
            original(path, content[: len(content) // 2])
            raise OSError(28, "No space left on device")
        return original(path, content)

    monkeypatch.setattr(directory.Path, "write_bytes", write)


def test_a_start_that_fails_leaves_nothing(tmp_path, tiny_recipe, monkeypatch):
    full_disk(monkeypatch)
    path = tmp_path / "deep" / "run"
    with pytest.raises(OutputError, match=r"run/data\.json: cannot be written"), new_run(path, force=False):
        create_run_dir(path, tiny_recipe(), {}, force=False)
    assert list(tmp_path.iterdir()) == []


def test_a_start_that_fails_leaves_the_run_that_it_would_have_replaced(tmp_path, tiny_recipe, monkeypatch):
    there = (*RUN, "metrics.jsonl", "checkpoints/last.pt", "checkpoints/best.pt", "eval/metrics.json")
    path = make(tmp_path / "run", *there)
    with monkeypatch.context() as patch:
        full_disk(patch)
        with pytest.raises(OutputError, match="No space left"), new_run(path, force=True):
            create_run_dir(path, tiny_recipe(), {}, force=True)
    files = {str(p.relative_to(path)): p.read_text() for p in path.rglob("*") if p.is_file()}
    assert files == dict.fromkeys(there, "x")
    with new_run(path, force=True):
        create_run_dir(path, tiny_recipe(), {}, force=True)
    assert sorted(p.name for p in path.iterdir()) == ["checkpoints", "data.json", "recipe.yaml"]


def test_a_second_process_is_refused_and_a_kill_holds_nobody_up(tmp_path, holder):
    path = tmp_path / "run"
    make(path, *RUN, "checkpoints/last.pt")
    for force in (False, True):
        with pytest.raises(OutputError) as error, new_run(path, force=force):
            pass
        assert str(error.value).startswith(f"{path}: is being written by process {holder.pid} on ")
        assert " since 20" in str(error.value)
    with pytest.raises(OutputError, match="is being written by process"), resumed_run(path):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (path / ".lock").is_file()
    with resumed_run(path) as notes:
        assert notes == ()
    assert not (path / ".lock").exists()


def test_the_same_process_does_not_write_twice(tmp_path):
    says = f"is being written by process {os.getpid()} on"
    with writing_run(tmp_path / "run"), pytest.raises(OutputError, match=says), writing_run(tmp_path / "run"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_whose_file_was_removed_meanwhile_locks_nobody_out(tmp_path, monkeypatch):
    """Its holder ended between the opening of the file and the lock."""
    original, seen = lock.take_lock, []

    def late(path, flags):
        taken = original(path, flags)
        if not seen:
            path.unlink()
        seen.append(taken)
        return taken

    monkeypatch.setattr(lock, "take_lock", late)
    with writing_run(tmp_path):
        assert len(seen) == 2
        with pytest.raises(OutputError, match="is being written"), writing_run(tmp_path):
            pass


def test_where_there_are_no_locks_a_note_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "take_lock", lambda *_: None)
    with writing_run(tmp_path / "run") as (note,):
        assert note.startswith(f"note: {tmp_path}/run: there are no file locks here")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_half_written_is_removed_when_it_goes_on(tmp_path):
    path = make(tmp_path / "run", *RUN, "checkpoints/last.pt", "checkpoints/.best.pt.part", ".01234567-metrics.jsonl")
    with resumed_run(path):
        pass
    assert sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()) == sorted(
        (*RUN, "checkpoints/last.pt")
    )


def test_nothing_is_written_where_nothing_can_be_resumed(tmp_path):
    make(tmp_path / "mine", "recipe.yaml")
    with pytest.raises(DataError, match="no such checkpoint"), resumed_run(tmp_path / "mine"):
        pass
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["recipe.yaml"]
    assert not RunDir(tmp_path / "mine").is_resumable


def test_a_place_that_cannot_be_written_is_a_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file/run: cannot be written"), writing_run(tmp_path / "file" / "run"):
        pass
