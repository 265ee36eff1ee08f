"""Writing files and directories: whole or not at all, and never over what nobody asked to replace."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lt_data.errors import DataError, OutputError
from lt_data.files.leftovers import beside, claimed, remove_folder, remove_leftovers


def refuse_inputs_inside(out: Path, inputs: Iterable[Path]) -> None:
    """Refuses to replace a directory that holds what the build reads.

    Raises:
        OutputError: An input lies in ``out``.
    """
    for path in inputs:
        if path.resolve().is_relative_to(out.resolve()):
            raise OutputError(f"{out}: holds the input {path}, which would be replaced; choose another --out")


def refuse_unnamable(paths: Iterable[Path], record: str) -> None:
    """Refuses paths that a file in UTF-8 cannot name: the system takes any bytes for a name, text does not.

    Args:
        paths: What is going to be named, in full.
        record: What names them.

    Raises:
        OutputError: A path is not UTF-8.
    """
    wrong = [path for path in paths if not (_is_text(path.absolute()) and _is_text(path.resolve()))]
    if wrong:
        raise OutputError(
            f"{as_text(path)}: the path is not UTF-8, so {record} cannot name it; rename it, or choose another"
            for path in wrong
        )


def as_text(path: Path) -> str:
    r"""A path as it can be shown: bytes that are not UTF-8 as ``\xff``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _is_text(path: Path) -> bool:
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def check_output_file(path: Path, *, force: bool, inputs: Iterable[Path] = (), suffixes: Sequence[str] = ()) -> None:
    """Refuses an output file that must not be replaced.

    Args:
        path: The file to write.
        force: Whether the user asked to replace it; only a plain file that is no input is ever replaced.
        inputs: Files that are read.
        suffixes: How its name may end; in any way unless given.

    Raises:
        OutputError: Its name ends otherwise, it is an input, a link, a folder or a device, or it exists and ``force``
            is not set.
    """
    if suffixes and path.suffix.lower() not in suffixes:
        raise OutputError(f"{path}: is written as {' or '.join(suffixes)}; choose a name that ends so")
    if any(path.exists() and path.resolve() == source.resolve() for source in inputs):
        raise OutputError(f"{path}: is read by this command; choose another file")
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise OutputError(f"{path}: is not a plain file; choose another file")
    if path.exists() and not force:
        raise OutputError(f"{path}: exists; choose another file, or replace it with --force")


def write_whole(
    path: Path,
    content: bytes | Callable[[Path], object],
    *,
    make_folder: bool = False,
    work: Path | None = None,
    advice: str = "choose another file",
) -> None:
    """Writes a file beside its place, then renames it: nobody ever reads half of it.

    An exception leaves what was there before, and nothing beside it. What killed processes left of the same file is
    removed.

    Args:
        path: The file to write or replace.
        content: Its bytes, or a function that writes them to the path that it is given.
        make_folder: Make the folder of the file if there is none.
        work: Where to write first, in the same folder; a new hidden name unless given. A name that is always the same
            leaves one file at most behind when the process is killed again and again.
        advice: What the error tells to do.

    Raises:
        OutputError: The file cannot be written.
    """
    work = beside(path) if work is None else work
    try:
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        work.touch()
        with claimed(work):
            if callable(content):
                content(work)
            else:
                work.write_bytes(content)
            os.replace(work, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}); {advice}") from None
    except (DataError, OutputError) as error:
        raise _by_final_name(error, work, path) from None
    finally:
        with suppress(OSError):
            work.unlink(missing_ok=True)


@contextmanager
def adding_files(out: Path) -> Iterator[Path]:
    """A passing folder inside ``out`` whose files move into ``out`` once all of them are written.

    An exception leaves ``out`` as it was, or not there if it was made for the files.

    Raises:
        OutputError: The folder or a file cannot be written.
    """
    made, work = False, beside(out / "new")
    try:
        made = not out.exists()
        out.mkdir(parents=True, exist_ok=True)
        remove_leftovers(out / "new")
        work.mkdir()
        with claimed(work):
            yield work
            for path in sorted(work.iterdir()):
                os.replace(path, out / path.name)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror or error}); choose another --out") from None
    except (DataError, OutputError) as error:
        raise _by_final_name(error, work, out) from None
    finally:
        remove_folder(work)
        if made:
            # it stays if there is anything in it
            with suppress(OSError):
                out.rmdir()


@contextmanager
def replacing_directory(out: Path, *, force: bool = True, check: Callable[[], None] = lambda: None) -> Iterator[Path]:
    """A new directory beside ``out`` that takes its place once everything in it is written.

    An exception leaves ``out`` as it was and removes the new directory. What killed processes left of the same
    directory is removed.

    Args:
        out: The directory to write.
        force: Replace a directory with content too; else only an empty one, however late the content came.
        check: Called just before the directories change places; raises if what is there by then must stay.

    Raises:
        OutputError: The directory cannot be written, or what was there before cannot be removed.
    """
    out = Path(out).absolute()
    work = beside(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(out)
        work.mkdir()
        with claimed(work):
            yield work
            check()
            if force and out.exists():
                _swap(work, out)
            else:
                _put(work, out)
        remove_leftovers(out, old=True)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"{out}: cannot be written ({reason}); nothing was changed; choose another --out") from None
    except (DataError, OutputError) as error:
        raise _by_final_name(error, work, out) from None
    finally:
        remove_folder(work)


def _by_final_name(error: DataError | OutputError, work: Path, out: Path) -> DataError | OutputError:
    """What is said of a passing file or folder, by the name that it was going to have; the kind of error stays."""
    kind = DataError if isinstance(error, DataError) else OutputError
    return kind(problem.replace(str(work), str(out)) for problem in error.problems)


def _put(work: Path, out: Path) -> None:
    """Moves a directory to a place where nothing is, or an empty folder: the system refuses any other."""
    with suppress(FileNotFoundError):
        out.rmdir()
    os.replace(work, out)


def _swap(work: Path, out: Path) -> None:
    old = beside(out, old=True)
    try:
        os.replace(out, old)
        os.replace(work, out)
    finally:
        # after any error, and after an interrupt too
        if old.exists() and work.exists():
            _put_back(old, out)
        remove_folder(old)
        if old.exists():
            raise OutputError(f"{out}: is written, but what it replaces cannot be removed; remove {old} yourself")


def _put_back(old: Path, out: Path) -> None:
    try:
        os.replace(old, out)
    except OSError as error:
        raise OutputError(f"{out}: cannot be put back ({error.strerror}); what it held is now in {old}") from None


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    r"""Writes a CSV in UTF-8 with ``\n`` line ends; floats as Python's repr."""
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def write_json(path: Path, content: Any) -> None:
    r"""Writes indented JSON in UTF-8 with ``\n`` line ends, keys in the order given."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    path.write_bytes(text.encode("utf-8"))


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
