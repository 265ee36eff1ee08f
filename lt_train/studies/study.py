"""A study on the disk: runs of rows and seeds, their steps, and the files that show what they gave."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lt_data.files.writing import write_whole
from lt_train.report.method_map import plot_methods
from lt_train.runs.lock import writing_run
from lt_train.studies.agreement import format_agreement
from lt_train.studies.commands import Start
from lt_train.studies.steps import Step, Tell, is_done, read_record, run_plan
from lt_train.studies.table import Result, Row, columns_of, groups_of, labelled, markdown, rows_of, spreads

FIGURES: Final = "figures.csv"
TABLE: Final = "table.md"
PICTURE: Final = "methods.png"
NOTHING: Final = "no run is finished yet"


@dataclass(frozen=True)
class Cell:
    """A run of the table.

    Attributes:
        name: Of its row.
        how: What is different from the baseline.
        recipe: Its name.
        seed: Of the run.
        path: Run or evaluation directory.
        steps: Names of the steps that give its figures, the first of which its run is.
    """

    name: str
    how: str
    recipe: str
    seed: int
    path: Path
    steps: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """A plan and the table that comes of it.

    Attributes:
        out: Its folder.
        steps: In their order.
        cells: Runs of the table, in the order of the CSV file.
        baseline: The row that the others are compared with.
        compared: Whether the table says how well its order agrees with the published one.
    """

    out: Path
    steps: tuple[Step, ...]
    cells: tuple[Cell, ...]
    baseline: str
    compared: bool = False

    def results(self) -> list[Result]:
        """The finished ones."""
        known, steps = read_record(self.out), {step.name: step for step in self.steps}
        found = []
        for cell in self.cells:
            if is_done(steps[cell.steps[0]], self.out):
                # of a step that many runs share, each has its part
                took = [(known[name], 1) for name in cell.steps if name in known]
                took += [
                    (known[step.name], len(step.gathers))
                    for step in self.steps
                    if cell.steps[0] in step.gathers and step.name in known
                ]
                wall = sum(done.seconds / runs for done, runs in took)
                processor = sum(done.processor_seconds / runs for done, runs in took)
                found.append(Result(cell.name, cell.how, cell.recipe, cell.seed, cell.path, (wall, processor)))
        return found


@dataclass(frozen=True)
class Finished:
    """What a study has to say.

    Attributes:
        text: The table.
        failed: A line for each step that failed.
        stopped: Whether it ended before everything was done; the same command goes on.
    """

    text: str
    failed: tuple[str, ...]
    stopped: bool


def run_study(
    study: Study,
    *,
    minutes: float | None = None,
    start: Start | None = None,
    jobs: int = 1,
    tell: Tell = lambda line: None,
) -> Finished:
    """Runs what is not done, and writes the table, anew whenever a run of it has ended.

    Args:
        study: What to do.
        minutes: After which no step goes on.
        start: How to start a command.
        jobs: How many steps may run at once.
        tell: Gets lines for people.

    Raises:
        OutputError: Its folder holds runs of other commands, or another process works in it.
    """
    of_runs = {name for cell in study.cells for name in cell.steps}
    of_runs |= {step.name for step in study.steps if step.gathers}

    def after(step: Step) -> None:
        if step.name in of_runs:
            write_tables(study, picture=False)

    with _alone(study.out, tell):
        outcome = run_plan(study.steps, study.out, minutes=minutes, start=start, jobs=jobs, tell=tell, after=after)
        text = write_tables(study)
    return Finished(text, tuple(f"{name}: {reason}" for name, reason in outcome.failed.items()), outcome.stopped)


@contextmanager
def _alone(out: Path, tell: Tell) -> Iterator[None]:
    with writing_run(out) as notes:
        for note in notes:
            tell(note)
        yield


def write_tables(study: Study, *, picture: bool = True) -> str:
    """Writes ``figures.csv``, ``table.md`` and ``methods.png`` of what is finished; the table as text.

    Args:
        study: Whose.
        picture: Whether to draw it, which takes as long as a short step.
    """
    results = study.results()
    if not results:
        return NOTHING
    rows, classes = rows_of(results), groups_of(results[0].metrics)
    write_whole(study.out / FIGURES, csv_of(rows))
    text = "\n\n".join(filter(None, (markdown(rows, classes), format_agreement(rows) if study.compared else "")))
    write_whole(study.out / TABLE, f"{text}\n".encode())
    if picture:
        draw_methods(study.out / PICTURE, rows, classes, marked=study.baseline)
    return text


def csv_of(rows: Sequence[Row]) -> bytes:
    """The rows as a CSV file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns_of(rows), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def draw_methods(path: Path, rows: Sequence[Row], classes: Mapping[str, int], *, marked: str) -> None:
    """Draws AP against AP of the rarest classes that anything was measured of; nothing without such a figure.

    Args:
        path: The PNG file; an existing one is replaced.
        rows: Of the CSV file.
        classes: Classes of each group by name, the rarest first.
        marked: The row that the others are compared with.
    """
    measured = [name for name in classes if any(row.get(name) for row in rows)]
    if not measured:
        return
    found, label = spreads(rows, ["AP", measured[0]]), labelled(rows)
    points = {
        label[name]: (overall, rarest)
        for name, by in found.items()
        if (overall := by["AP"]) is not None and (rarest := by[measured[0]]) is not None
    }
    labels = ("box AP in percent", f"box AP in percent, {measured[0]} training instances")
    if points:
        plot_methods(path, points, labels=labels, marked=label.get(marked, ""))
