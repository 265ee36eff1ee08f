"""Files that appear whole or not at all."""

import errno
import os

import pytest

from lt_data.errors import DataError, OutputError
from lt_data.files.writing import adding_files, replacing_directory, write_whole


def full(path):
    path.write_bytes(b"half of i")
    raise OSError(errno.ENOSPC, "No space left on device")


def interrupted(path):
    path.write_bytes(b"half of i")
    raise KeyboardInterrupt


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_bytes_or_what_a_function_writes(tmp_path):
    write_whole(tmp_path / "a", b"1")
    write_whole(tmp_path / "b", lambda path: path.write_bytes(b"2"))
    write_whole(tmp_path / "a", b"3")
    assert contents(tmp_path) == {"a": b"3", "b": b"2"}


@pytest.mark.parametrize(("content", "error"), [(full, OutputError), (interrupted, KeyboardInterrupt)])
def test_what_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path, content, error):
    (tmp_path / "a").write_bytes(b"old")
    for name in ("a", "b"):
        with pytest.raises(error):
            write_whole(tmp_path / name, content)
        with pytest.raises(error):
            write_whole(tmp_path / name, content, work=tmp_path / f".{name}.part")
    assert contents(tmp_path) == {"a": b"old"}


def test_a_part_that_a_killed_process_left_is_written_over(tmp_path):
    (tmp_path / ".a.part").write_bytes(b"half of an older one, and longer")
    write_whole(tmp_path / "a", b"new", work=tmp_path / ".a.part")
    assert contents(tmp_path) == {"a": b"new"}


@pytest.mark.parametrize(
    ("reason", "raised"),
    [("No space left on device", OSError(28, "No space left on device")), ("power failure", OSError("power failure"))],
)
def test_the_error_names_the_file_the_reason_and_what_to_do(tmp_path, monkeypatch, reason, raised):
    def fail(*_):
        raise raised

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OutputError) as error:
        write_whole(tmp_path / "a", b"1", advice="make room")
    assert error.value.problems == [f"{tmp_path / 'a'}: cannot be written ({reason}); make room"]
    assert contents(tmp_path) == {}


def test_a_folder_is_made_when_asked_for(tmp_path):
    with pytest.raises(OutputError, match=r"a: cannot be written \(No such file or directory\); choose another file"):
        write_whole(tmp_path / "x/y/a", b"1")
    write_whole(tmp_path / "x/y/a", b"1", make_folder=True)
    with pytest.raises(OutputError, match="z: cannot be written"):
        write_whole(tmp_path / "x/y/a/z", b"1", make_folder=True)
    assert contents(tmp_path / "x/y") == {"a": b"1"}


def add(out, error=None):
    with adding_files(out) as work:
        (work / "a").write_bytes(b"new")
        (work / "b").write_bytes(b"too")
        if error is not None:
            raise error


@pytest.mark.parametrize(
    ("error", "raised"), [(OSError(28, "full"), OutputError), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_files_that_appear_together(tmp_path, error, raised):
    out = tmp_path / "out"
    with pytest.raises(raised):
        add(out, error)
    assert not out.exists()
    out.mkdir()
    (out / "a").write_bytes(b"old")
    with pytest.raises(raised):
        add(out, error)
    assert contents(out) == {"a": b"old"}
    add(out)
    assert contents(out) == {"a": b"new", "b": b"too"}


@pytest.mark.parametrize("folder", [adding_files, replacing_directory])
def test_errors_name_a_file_where_it_was_going_to_be(tmp_path, folder):
    with pytest.raises(OutputError) as error, folder(tmp_path / "out") as work:
        write_whole(work / "a.png", full)
    assert str(error.value).startswith(f"{tmp_path}/out/a.png: cannot be written (No space left on device)")
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("kind", [DataError, OutputError])
def test_no_message_names_a_passing_place(tmp_path, kind):
    def refused(path):
        raise kind(f"{path}: no")

    with pytest.raises(kind) as error:
        write_whole(tmp_path / "a", refused)
    assert error.value.problems == [f"{tmp_path / 'a'}: no"]
    for writing in (adding_files, replacing_directory):
        with pytest.raises(kind) as error, writing(tmp_path / "b") as work:
            refused(work / "c")
        assert error.value.problems == [f"{tmp_path / 'b/c'}: no"]
    assert list(tmp_path.iterdir()) == []
