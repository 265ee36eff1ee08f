"""What people see of a wait, where a bar can be drawn and where not."""

import io

from rich.console import Console

from lt_data import terminal
from lt_data.terminal import Bar, say, shown_on


def test_without_a_terminal_progress_is_a_line_every_ten_seconds(monkeypatch, capsys):
    now = 100.0
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now)
    with Bar("reading", "bytes") as reading, Bar("drawing") as drawing, Bar("checking", "") as checking:
        reading.step("reading a.json")
        for second in range(15):
            now = 100.0 + second
            reading(10_000_000 * second, 478_000_000)
            drawing(second, 200)
            checking(second, 200)
    assert capsys.readouterr().err.splitlines() == [
        "reading a.json ...",
        "reading: 20 % of 478 MB",
        "drawing: 10 of 200 images",
        "checking: 5 %",
    ]


def test_what_is_shown_goes_to_the_console_of_the_context():
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with shown_on(console):
        say("[brackets] stay")
        with Bar("drawing") as bar:
            bar(200, 200)
    shown = console.file.getvalue()
    assert shown.startswith("[brackets] stay\n")
    assert "drawing" in shown
    assert "200/200" in shown


def test_a_quiet_console_shows_nothing(capsys):
    with shown_on(Console(quiet=True)), Bar("drawing") as bar:
        bar.step("drawing a.png")
        bar(1, 2)
    assert capsys.readouterr().err == ""
