"""Whether a zip file still holds what was written into it: every member of one has a checksum."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Final

from lt_data.errors import DataError

_ZIP_START: Final = b"PK\x03\x04"


def check_archive(path: Path) -> None:
    """Refuses a damaged zip file; one pass over its bytes. A file that does not begin as a zip file is left alone.

    PyTorch's files are zip files, and PyTorch does not compare their checksums when it reads them.

    Raises:
        DataError: A member does not match its checksum, or the archive is not whole.
        OSError: The file cannot be opened.
    """
    with path.open("rb") as handle:
        if handle.read(len(_ZIP_START)) != _ZIP_START:
            return
        try:
            with zipfile.ZipFile(handle) as archive:
                damaged = archive.testzip()
        # one wrong bit in a header makes zipfile raise nearly anything: struct.error, NotImplementedError, zlib.error
        except Exception:
            damaged = "its list of contents"
    if damaged is not None:
        raise DataError(f"{path}: is damaged or cut short ({damaged} is not what was written); fetch or copy it again")
