"""The bytes of a file as the operating system has them, unpacked if it is a ``.gz`` or ``.zip``."""

from __future__ import annotations

import codecs
import gzip
import lzma
import mmap
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import numpy as np

from lt_data.errors import DataError
from lt_data.progress import Progress

Bytes = bytes | memoryview

_STEP: Final = 2**24
_PAGE: Final = 4096


# how files begin that are no JSON in UTF-8 at all
_OTHER_STARTS: Final = (
    (b"\x1f\x8b", "is a gzip file; name it .gz"),
    (b"PK\x03\x04", "is a zip file; name it .zip"),
    (codecs.BOM_UTF8, "starts with a byte-order mark; save it as UTF-8 without one"),
    (codecs.BOM_UTF16_LE, "starts with a byte-order mark; save it as UTF-8 without one"),
    (codecs.BOM_UTF16_BE, "starts with a byte-order mark; save it as UTF-8 without one"),
    (b"{\0", "is not UTF-8 (UTF-16?); save it as UTF-8"),
    # blocks that a crash or a full disk left unwritten
    (b"\0" * 8, "starts with zero bytes: it was not written to its end; fetch or write it again"),
    (b"\0", "is not UTF-8 (UTF-16?); save it as UTF-8"),
    (b"version https://git-lfs", "is a Git LFS pointer, not the file itself; run git lfs pull"),
    (b"<!doctype html", "is a web page (HTML), perhaps an error of the server; fetch the file again"),
    (b"<html", "is a web page (HTML), perhaps an error of the server; fetch the file again"),
    (b"<", "is XML; convert it to COCO's JSON"),
    (b"//", "starts with a comment, which JSON does not have; remove it"),
    (b"/*", "starts with a comment, which JSON does not have; remove it"),
    (b"#", "starts with a comment, which JSON does not have; remove it"),
)
# bytes in which two lines of JSON lines are looked for
_LONGEST_LINES: Final = 2**20
# bytes that a start has at most, white space in front of it included
_START: Final = 64


class _Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


class FileStamp(NamedTuple):
    """Which file a path led to, and its size and time of change; equal while nobody writes to it."""

    device: int
    inode: int
    size: int
    mtime_ns: int


def stamp_of(path: Path) -> FileStamp | None:
    """The stamp of a file, ``None`` if there is none to look at."""
    try:
        found = path.stat()
    except OSError:
        return None
    return FileStamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def check_unchanged(path: Path, stamp: FileStamp | None) -> None:
    """Refuses a file that was written to since its stamp was taken.

    One that was replaced by another (written beside, then renamed) or removed is no harm: its bytes stay mapped.

    Raises:
        DataError: Its size or its time of change is another.
    """
    now = stamp_of(path)
    if stamp is not None and now is not None and now[:2] == stamp[:2] and now != stamp:
        raise DataError(f"{path}: changed while it was read; start again when nothing writes to it any more")


def check_not_cut(path: Path, stamp: FileStamp | None) -> None:
    """Refuses a file that was cut short since its stamp was taken, before its mapped bytes are read.

    Raises:
        DataError: It is shorter.
    """
    now = stamp_of(path)
    if stamp is not None and now is not None and now[:2] == stamp[:2] and now.size < stamp.size:
        raise DataError(f"{path}: was cut short while it was read; put the whole file back and start again")


def check_plain(path: Path) -> None:
    """Refuses pipes and devices: they hang or end, and cannot be read twice.

    Raises:
        DataError: The path is one.
        OSError: There is no such path.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise DataError(f"{path}: is not a plain file; save it first")


def other_format(data: Bytes) -> str | None:
    """What a file that should be JSON is by its first bytes, and what to do; ``None`` if they do not tell."""
    start = bytes(data[:_START])
    # a name of HTML may have any case
    starts = (start, start.lstrip().lower())
    return next((text for first, text in _OTHER_STARTS for start in starts if start.startswith(first)), None)


def why_no_json(data: Bytes) -> str | None:
    """What a file is that a JSON parser refused, and what to do; ``None`` if nothing tells."""
    kind = other_format(data)
    if kind is None and _ends_early(data):
        kind = f"ends in the middle, after {len(data):,} bytes: it was cut off; fetch it again"
    if kind is None and _is_json_lines(data):
        kind = "is JSON lines, one object a line; write one JSON document"
    return kind


def _ends_early(data: Bytes) -> bool:
    """Whether all that is wrong is that something is missing at the end."""
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return "truncated" in str(error) and bytes(data[:_START]).lstrip()[:1] in (b"{", b"[")
    return False


def _is_json_lines(data: Bytes) -> bool:
    """Whether the first two lines are a whole JSON object each."""
    lines = bytes(data[:_LONGEST_LINES]).split(b"\n")[:2]
    try:
        return all(isinstance(msgspec.json.decode(line), dict) for line in lines) and len(lines) == 2
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def map_file(path: Path, progress: Progress | None = None) -> Bytes:
    """The bytes of a file; one that is not packed is mapped, so that its pages come and go with the page cache.

    A mapped file must stay as it is while it is used: bytes written into it show up in the result
    (:func:`check_unchanged` finds that afterwards), and if it is cut short, the operating system ends the process
    where it reads beyond the new end.

    Args:
        path: Any plain file; ``.gz`` and ``.zip`` (with one member) are unpacked.
        progress: Called with the bytes read and the bytes in all, of the unpacked file where that is known.

    Raises:
        DataError: The file is missing, a pipe or a device, cannot be read, is empty or broken, or the archive has
            several members.
    """
    try:
        check_plain(path)
        with path.open("rb") as handle:
            if path.stat().st_size == 0:
                raise DataError(f"{path}: the file is empty; fetch or write it again")
            if path.suffix.lower() == ".gz":
                return _unpack(gzip.GzipFile(fileobj=handle), handle.tell, path.stat().st_size, progress)
            if path.suffix.lower() == ".zip":
                return _only_member(path, progress)
            data = memoryview(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ))
    # zipfile raises RuntimeError where it needs a password or cannot unpack
    except (EOFError, RuntimeError, lzma.LZMAError, zlib.error, zipfile.BadZipFile, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: not a whole {path.suffix} file ({error})") from None
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{path}: cannot be read ({reason}); check the path") from None
    if progress is not None:
        _page_in(data, progress)
    return data


def contains(data: Bytes, word: bytes) -> bool:
    """Whether a word occurs anywhere in the bytes of a file, as :func:`map_file` gives them."""
    # a memoryview cannot search, what it looks at can
    source: Any = data.obj if isinstance(data, memoryview) else data
    return bool(source.find(word) >= 0)


def _page_in(data: memoryview, progress: Progress) -> None:
    """Touches every page, a step at a time: what is slow is the disk, and the parser cannot say how far it is."""
    content = np.frombuffer(data, np.uint8)
    for start in range(0, len(content), _STEP):
        content[start : start + _STEP : _PAGE].max()
        progress(min(start + _STEP, len(content)), len(content))


def _unpack(source: _Source, done: Callable[[], int], whole: int, progress: Progress | None) -> bytes:
    parts = []
    while part := source.read(_STEP):
        parts.append(part)
        if progress is not None:
            progress(min(done(), whole), whole)
    return b"".join(parts)


def _only_member(path: Path, progress: Progress | None) -> bytes:
    with zipfile.ZipFile(path) as archive:
        # macOS packs what it knows of a file beside it
        found = [member for member in archive.infolist() if not member.filename.startswith("__MACOSX/")]
        members = [member for member in found if not member.is_dir()]
        if len(members) != 1:
            raise DataError(f"{path}: holds {len(members)} files; give a .zip with one file, or unpack it")
        with archive.open(members[0]) as source:
            return _unpack(source, source.tell, members[0].file_size, progress)
