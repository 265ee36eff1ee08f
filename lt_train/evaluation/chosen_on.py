"""What an option of a run's calibration was chosen on, told wherever the run's figures are."""

from __future__ import annotations

from pathlib import Path

import msgspec


class _Search(msgspec.Struct):
    option: str
    measured_on: str
    sha256: str


class _Searched(msgspec.Struct):
    search: _Search | None = None


def chosen_on_notes(record: Path, annotations: Path, sha256: str) -> tuple[str, ...]:
    """A line if an option of the run's calibration was chosen on what is measured, or on images that it had seen.

    Args:
        record: The ``data.json`` of the run.
        annotations: The annotation file that is measured.
        sha256: Digest of its content.
    """
    try:
        search = msgspec.json.decode(record.read_bytes(), type=_Searched).search
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return ()
    if search is None:
        return ()
    if search.measured_on in ("val", "file") and search.sha256 == sha256:
        what = "tuned on val" if search.measured_on == "val" else "tuned on it"
        return (
            f"{annotations.name}: {what}: calibration.{search.option} has its best value on it, so AP is optimistic",
        )
    if search.measured_on == "seen":
        return (f"seen: calibration.{search.option} was chosen on images that the run was trained on",)
    return ()
