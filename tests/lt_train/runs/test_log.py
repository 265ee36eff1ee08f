"""What a run says: a table on a terminal, lines elsewhere, the same figures for programs."""

import io
import json
import re

import pytest
from rich.console import Console

from lt_data.errors import DataError
from lt_data.terminal import shown_on
from lt_train.engine.fit import fit
from lt_train.runs.directory import RunDir
from lt_train.runs.live import LiveTable
from lt_train.runs.log import RunLog

VALUES = {
    "loss": 1.5,
    "loss_classifier": 1.25,
    "loss_box_reg": 0.25,
    "lr": 0.02,
    "images_per_second": 12.345,
    "data_wait": 0.25,
    "memory_gib": 3.5,
}
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


@pytest.fixture(autouse=True)
def _terminal(monkeypatch):
    """Nothing of the terminal that runs the tests."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.fixture
def run(tmp_path):
    return RunDir(tmp_path)


def console_of(*, terminal=True, width=120):
    return Console(force_terminal=terminal, file=io.StringIO(), width=width)


def printed(console):
    """What was printed without colours and movements of the cursor."""
    return CONTROL.sub("", console.file.getvalue())


def fields(line):
    return re.split(r"\s{2,}", line.strip())


def test_table(run):
    console = console_of()
    with shown_on(console), RunLog(run, total=50, every=10, done=4) as log:
        log.advance(10, epoch=2, seconds_left=3723.4)
        log.step(VALUES)
        log.advance(12, epoch=2, seconds_left=3700.0)
    head, *rows = [fields(line) for line in printed(console).strip().splitlines()[-5:]]
    assert head[0] == "step 12/50"
    assert head[-2:] == ["epoch 3", "ETA 1:01:40"]
    assert rows == [
        ["loss", "1.5000", "lr", "2.00e-02"],
        ["classifier", "1.2500", "images/s", "12.35"],
        ["box_reg", "0.2500", "waiting for data", "25 %"],
        ["memory", "3.50 GiB"],
    ]


def test_the_bar_is_as_long_as_what_is_done():
    console = console_of()
    table = LiveTable(console, total=50, done=25)
    console.print(table)
    bar = re.search(r"((?:\x1b\[[0-9;]*m[━╸╺]+\x1b\[0m)+)", console.file.getvalue()).group(1)
    parts = re.findall(r"[━╸╺]+", bar)
    assert abs(len(parts[0]) - len(parts[-1])) <= 1
    assert "step 25/50" in printed(console)
    assert "ETA ?" in printed(console)


@pytest.mark.parametrize("width", [40, 80])
def test_narrow_terminals_have_one_line_for_each_row(width):
    console = console_of(width=width)
    table = LiveTable(console, total=10_000)
    table.done, table.epoch, table.seconds_left, table.values = 9_000, 11, 360_000, VALUES
    console.print(table)
    assert len(printed(console).splitlines()) == 5
    assert max(map(len, printed(console).splitlines())) <= width


def test_other_lines_go_above_the_table(run):
    console = console_of()
    with shown_on(console), RunLog(run, total=50, every=10) as log:
        log.advance(1, epoch=0, seconds_left=None)
        log.line("AP [bbox] 12.3")
    lines = [line.strip() for line in printed(console).splitlines() if line.strip()]
    assert "AP [bbox] 12.3" in lines
    assert lines[-1].startswith("step 1/50")
    assert "AP [bbox] 12.3" in run.log.read_text()


def test_a_line_of_a_signal_is_drawn_with_the_table_and_goes_with_it(run):
    """A line of its own would tear the table: what was drawn above it would stay on the screen."""
    console = console_of()
    with shown_on(console), RunLog(run, total=50, every=10) as log:
        log.advance(1, epoch=0, seconds_left=None)
        assert log.show_below("ends soon")
        with console.capture() as drawn:
            console.print(log._table)
        assert drawn.get().splitlines()[-1].strip() == "ends soon"
    assert printed(console).strip().splitlines()[-1].strip() != "ends soon"
    assert not log.show_below("too late")
    with shown_on(console_of(terminal=False)), RunLog(run, total=50, every=10) as log:
        assert not log.show_below("no table")


def test_lines_break_at_words_in_a_terminal_and_nowhere_else(run):
    text = "a sentence of words " * 10
    for terminal in (True, False):
        console = console_of(terminal=terminal)
        with shown_on(console), RunLog(run, total=0, every=1) as log:
            log.line(text)
        lines = [line.split() for line in console.file.getvalue().splitlines()]
        assert (len(lines) > 1) is terminal
        assert [word for line in lines for word in line] == text.split()


def test_a_paused_table_draws_nothing(run):
    console = console_of()
    with shown_on(console), RunLog(run, total=50, every=10) as log:
        log.advance(1, epoch=0, seconds_left=None)
        with log.paused():
            before = len(console.file.getvalue())
            console.print("evaluating")
            assert CONTROL.sub("", console.file.getvalue()[before:]) == "evaluating\n"
    assert printed(console).strip().splitlines()[-1].startswith("step 1/50")


def test_no_color_has_a_table_without_colours(run, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    console = console_of()
    with shown_on(console), RunLog(run, total=50, every=10) as log:
        log.advance(10, epoch=0, seconds_left=None)
        log.step(VALUES)
    assert "step 10/50" in printed(console)
    assert not re.search(r"\x1b\[[0-9;]*(3[0-7]|9[0-7]|38;)[0-9;]*m", console.file.getvalue())


@pytest.mark.parametrize(("terminal", "term"), [(False, "xterm"), (True, "dumb"), (True, "unknown")])
def test_plain_lines_where_nothing_can_be_drawn_anew(run, monkeypatch, terminal, term):
    monkeypatch.setenv("TERM", term)
    console = console_of(terminal=terminal)
    with shown_on(console), RunLog(run, total=50, every=10) as log:
        log.advance(1, epoch=0, seconds_left=None)
        log.step(VALUES)
        log.advance(10, epoch=0, seconds_left=61.0)
        log.step(VALUES)
    figures = (
        "loss 1.5000  classifier 1.2500  box_reg 0.2500  lr 2.00e-02  "
        "images/s 12.35  waiting for data 25 %  memory 3.50 GiB"
    )
    assert console.file.getvalue().splitlines() == [
        f"step 1/50  eta ?  {figures}",
        f"step 10/50  eta 0:01:01  {figures}",
    ]


@pytest.mark.parametrize("terminal", [False, True])
def test_files_are_the_same_with_and_without_a_terminal(run, terminal):
    with shown_on(console_of(terminal=terminal)), RunLog(run, total=3, every=1) as log:
        log.advance(2, epoch=1, seconds_left=1.0)
        log.step(VALUES | {"loss": float("nan")})
        log.record({"step": 2, "eval/bbox_AP": 0.5})
    record, evaluation = (json.loads(line) for line in run.metrics.read_text().splitlines())
    assert isinstance(record.pop("time"), float)
    assert record == {**VALUES, "loss": None, "step": 2, "epoch": 1}
    assert evaluation["eval/bbox_AP"] == 0.5
    (line,) = run.log.read_text().splitlines()
    assert line.partition(" ")[2].startswith("step 2/3  eta 0:00:01  loss nan  classifier 1.2500")


def test_a_run_without_steps_has_no_table(run):
    console = console_of()
    with shown_on(console), RunLog(run, total=0, every=1) as log:
        log.line("fitted")
    assert console.file.getvalue() == "fitted\n"


def test_records_of_a_run(tiny_recipe, tmp_path):
    console = console_of(terminal=False, width=300)
    with shown_on(console):
        run = fit(tiny_recipe("log_every=2", "schedule.iterations=5"), tmp_path / "run")
    records = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    steps = [record for record in records if "loss" in record]
    assert [record["step"] for record in steps] == [1, 2, 4, 5]
    for record in steps:
        assert record["images_per_second"] > 0
        assert 0 < record["data_wait"] < 1
        assert record["memory_gib"] > 0
        assert set(record) >= {"epoch", "loss", "loss_classifier", "lr", "time"}
    assert any("eval/bbox_AP" in record for record in records)
    lines = [line for line in console.file.getvalue().splitlines() if line.startswith("step ")]
    assert len(lines) == 4
    for line, record in zip(lines, steps, strict=True):
        assert f"images/s {record['images_per_second']:.2f}  waiting for data" in line
        assert line.endswith(f"memory {record['memory_gib']:.2f} GiB")


def test_a_run_on_a_terminal(tiny_recipe, tmp_path):
    """The table stays after the end; evaluation and its bar do not get in its way."""
    console = console_of()
    with shown_on(console):
        run = fit(tiny_recipe(), tmp_path / "run")
    shown = printed(console)
    record = [json.loads(line) for line in run.metrics.read_text().splitlines() if "loss_mask" in line][-1]
    last = shown.rpartition("step 3/3")[2]
    assert re.search(rf"images/s +{record['images_per_second']:.2f}", last)
    assert re.search(rf"objectness +{record['loss_objectness']:.4f}", last)
    assert "seen: 6 images in 3 steps" in shown
    assert "evaluating" in shown
    assert "eta" not in shown  # lines of steps are in train.log alone
    assert "step 3/3  eta 0:00:00" in run.log.read_text()


def test_a_terminal_is_given_back_after_an_error(tiny_recipe, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise DataError("no")

    monkeypatch.setattr("lt_train.engine.fit.evaluate_model", fail)
    console = console_of()
    with pytest.raises(DataError, match="no"), shown_on(console):
        fit(tiny_recipe(), tmp_path / "run")
    shown = console.file.getvalue()
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is shown
