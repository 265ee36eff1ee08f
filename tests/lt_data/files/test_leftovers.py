"""What killed processes leave behind goes away; what somebody still writes, or never was ours, stays."""

import os
import signal
import subprocess
import sys
import time

import pytest

from lt_data.errors import OutputError
from lt_data.files import locks
from lt_data.files.leftovers import belongs_to, beside
from lt_data.files.writing import adding_files, replacing_directory, write_whole

WRITE = """
import sys, time
from pathlib import Path
from lt_data.files.writing import adding_files, replacing_directory, write_whole

def wait(path):
    (path / "half" if path.is_dir() else path).write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(60)

how, out = sys.argv[1], Path(sys.argv[2])
if how == "file":
    write_whole(out, wait)
else:
    with (replacing_directory if how == "folder" else adding_files)(out) as work:
        wait(work)
"""


@pytest.fixture
def writer():
    """Starts a process that is in the middle of writing."""
    started = []

    def start(how, out):
        process = subprocess.Popen([sys.executable, "-c", WRITE, how, out], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "writing\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def write(how, out):
    if how == "file":
        write_whole(out, b"whole")
        return
    with (replacing_directory if how == "folder" else adding_files)(out) as work:
        (work / "a").write_bytes(b"whole")


def hidden(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".*"))


@pytest.mark.parametrize("how", ["file", "folder", "files"])
def test_the_next_writer_removes_what_a_killed_one_left(tmp_path, writer, how):
    out = tmp_path / "out"
    process = writer(how, out)
    (before,) = hidden(tmp_path)
    # while it is written, it stays
    write(how, out)
    assert hidden(tmp_path) == [before]
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert hidden(tmp_path) == [before]
    write(how, out)
    assert hidden(tmp_path) == []
    assert out.exists()


@pytest.mark.parametrize("name", [".out", ".part", ".0123-out", ".01234567-other", ".0123456g-out", "01234567-out"])
def test_files_of_others_stay(tmp_path, name):
    (tmp_path / name).write_text("years of work")
    for how in ("folder", "files", "folder"):
        write(how, tmp_path / "out")
        assert (tmp_path / name).read_text() == "years of work"
    write("file", tmp_path / "out.txt")
    assert (tmp_path / name).read_text() == "years of work"


def test_a_link_is_left_alone(tmp_path):
    (tmp_path / "target").write_text("years of work")
    (tmp_path / ".01234567-out").symlink_to(tmp_path / "target")
    write("file", tmp_path / "out")
    assert (tmp_path / "target").read_text() == "years of work"
    assert (tmp_path / ".01234567-out").is_symlink()


def test_what_was_there_before_is_kept_until_something_whole_is_in_its_place(tmp_path):
    """As after a kill between the two renames of a replacement."""
    old = beside(tmp_path / "out", old=True)
    old.mkdir()
    (old / "a").write_text("the only copy")
    with pytest.raises(OutputError), replacing_directory(tmp_path / "out"):
        raise OSError(28, "No space left on device")
    assert (old / "a").read_text() == "the only copy"
    write("folder", tmp_path / "out")
    assert hidden(tmp_path) == []


def test_without_locks_nothing_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_flock", None)
    (tmp_path / ".01234567-out").touch()
    write("file", tmp_path / "out")
    assert hidden(tmp_path) == [".01234567-out"]


def test_a_forked_process_holds_no_lock(tmp_path):
    """Loader processes live on for some seconds after theirs was killed."""
    lock = locks.take_lock(tmp_path)
    ready, started = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(started, b"x")
        time.sleep(60)
        os._exit(0)
    try:
        assert os.read(ready, 1) == b"x"
        with pytest.raises(BlockingIOError):
            locks.take_lock(tmp_path)
        # as when this process ends: nothing is unlocked, the last descriptor is closed
        os.close(lock)
        locks._held.discard(lock)
        again = locks.take_lock(tmp_path)
        assert again is not None
        locks.drop_lock(again)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ready)
        os.close(started)


def test_names():
    assert belongs_to(".0123abcd-data.json") == belongs_to(".data.json.part") == "data.json"
    assert belongs_to(".old-0123abcd-out") == "out"
    assert belongs_to("data.json") is None
