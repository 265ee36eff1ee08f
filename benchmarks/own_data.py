"""README's "Your own data", word for word, on images of one's own, and what each line costs.

    pip install '.[train,lite]'
    python benchmarks/own_data.py --annotations instances_train2017.json --images train2017 --folder /tmp/own

The lines are read from README. --folder has to be new: it is where they are typed, with the annotations as photos.json,
the images as photos and one of them as street.jpg. Writes benchmarks/results/own_data.csv, a row as soon as a line is
done. --only TEXT types the lines that hold it, in a --folder where those before were typed, and leaves the other rows.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import click
from common.record import machine, read_rows, write_rows

from lt_data import read_annotations

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "benchmarks" / "results" / "own_data.csv"
COLUMNS: Final = ("date", "machine", "torch", "images", "threads", "line", "processor_s", "wall_s", "box_ap")
_LINE: Final = COLUMNS.index("line")
COMMANDS: Final = {"lt-data": "cli.data", "lt-train": "cli.train"}


class Line(NamedTuple):
    """What README says to type.

    Attributes:
        text: As it stands there, without the comment.
        words: What is run for it.
    """

    text: str
    words: tuple[str, ...]


def lines_of_readme(overrides: tuple[str, ...] = ()) -> Iterator[Line]:
    """The commands, and the lines of Python as one.

    Args:
        overrides: Added to each ``fit``.
    """
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## Your own data\n")[1].split("\n## ")[0]
    typed = [re.sub(r"\s+# .*", "", line.strip()) for line in re.findall("(?m)^    .+$", section)]
    for line in typed:
        for command in line.split(" && "):
            name, *words = shlex.split(command)
            if name in COMMANDS:
                more = overrides if words[0] == "fit" else ()
                yield Line(command, (sys.executable, "-m", COMMANDS[name], *words, *more))
    python = [line.removeprefix(">>> ") for line in typed if line.startswith(">>> ")]
    yield Line("; ".join(python), (sys.executable, "-c", "\n".join(python)))


def lay_out(annotations: Path, images: Path, folder: Path) -> None:
    """The folder in which the lines are typed."""
    names = read_annotations(annotations).file_names
    (folder / "photos").mkdir(parents=True)
    shutil.copyfile(annotations, folder / "photos.json")
    for name in names:
        shutil.copyfile(images / name, folder / "photos" / name)
    shutil.copyfile(images / names[0], folder / "street.jpg")


def run(line: Line, folder: Path) -> tuple[float, float]:
    """Processor seconds and wall seconds; what is printed is shown.

    Raises:
        SystemExit: It failed.
    """
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    code = subprocess.run(line.words, cwd=folder, env=environment, check=False).returncode
    if code:
        raise SystemExit(f"ended with {code}: {line.text}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, time.monotonic() - start


def box_ap(line: Line, folder: Path) -> str:
    """What a run that a line has made reaches on the validation images, in percent; nothing of other lines."""
    made = re.search(r"fit .*--out (\S+)", line.text)
    if made is None:
        return ""
    metrics = json.loads((folder / made[1] / "eval" / "metrics.json").read_text(encoding="utf-8"))
    return f"{100 * metrics['bbox']['AP']:.1f}"


def record_line(path: Path, order: Sequence[str], row: Sequence[str]) -> None:
    """Puts a row in the place of an older one of its line; rows are in the order of README."""
    others = [each for each in read_rows(path, COLUMNS) if each[_LINE] in order and each[_LINE] != row[_LINE]]
    write_rows(path, COLUMNS, sorted([*others, row], key=lambda each: order.index(each[_LINE])))


@click.command()
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--annotations", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--images", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--folder", type=click.Path(path_type=Path), required=True, help="Where the lines are typed.")
@click.option("--only", default="", help="Lines that hold this text  [default: all].")
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(overrides: tuple[str, ...], annotations: Path, images: Path, folder: Path, only: str, out: Path) -> None:
    """Type README's lines and record what they cost; KEY=VALUE is added to each fit."""
    import torch

    if not only:
        lay_out(annotations, images, folder)
    count = len(read_annotations(annotations).file_names)
    lines = list(lines_of_readme(overrides))
    for line in (each for each in lines if only in each.text):
        sys.stderr.write(f"\n{line.text}\n")
        used, wall = run(line, folder)
        where = (datetime.now(UTC).date().isoformat(), machine(), torch.__version__)
        row = [*where, str(count), str(torch.get_num_threads()), line.text, f"{used:.1f}", f"{wall:.1f}"]
        row.append(box_ap(line, folder))
        record_line(out, [each.text for each in lines], row)
        sys.stdout.write(f"{', '.join(row[3:])}\n")


if __name__ == "__main__":
    main()
