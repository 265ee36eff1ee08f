"""The bytes of a file as the operating system has them, unpacked if it is a ``.gz`` or ``.zip``."""

from __future__ import annotations

import gzip
import lzma
import mmap
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from lt_data.errors import DataError

Bytes = bytes | memoryview
# bytes done, bytes in all
Progress = Callable[[int, int], None]

_STEP: Final = 2**24
_PAGE: Final = 4096


class _Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


def map_file(path: Path, progress: Progress | None = None) -> Bytes:
    """The bytes of a file; a plain file is mapped, so that its pages come and go with the page cache.

    Args:
        path: Any file; ``.gz`` and ``.zip`` (with one member) are unpacked.
        progress: Called with the bytes read and the bytes in all, of the unpacked file where that is known.

    Raises:
        DataError: The file is missing, cannot be read, is empty or broken, or the archive has several members.
    """
    try:
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
        members = [member for member in archive.infolist() if not member.is_dir()]
        if len(members) != 1:
            raise DataError(f"{path}: holds {len(members)} files; give a .zip with one annotation file, or unpack it")
        with archive.open(members[0]) as source:
            return _unpack(source, source.tell, members[0].file_size, progress)
