"""``benchmarks/gpu.py``: a mistake in it has to show here, and not on a rented card."""

import csv
import os
import shutil
import signal
import site
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

ROOT = Path(__file__).resolve().parents[2]
KIT = ROOT / "benchmarks" / "gpu.py"


def run_kit(*words):
    """In this process; the parts have their own."""
    import gpu

    return CliRunner().invoke(gpu.main, [str(word) for word in words])


def rows(path):
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.mark.slow
def test_a_part_of_the_rehearsal(tmp_path):
    words = ("--tiny", "--out", tmp_path, "--only", "pieces", "--only", "tests", "--minutes", 20)
    done = subprocess.run([sys.executable, KIT, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {p.name for p in tmp_path.iterdir()} == {"gpu.csv", "gpu.log", "pieces_cpu.csv"}
    found = rows(tmp_path / "gpu.csv")
    assert [row["part"] for row in found if row["what"] == "tests marked gpu"] == ["tests"]
    assert {row["outcome"] for row in found} == {"ok"}
    pieces = {row["what"].split(",")[0] for row in found if row["part"] == "pieces"}
    assert {"mask 1x1 layer", "20 proposals", "BAGS scores", "mask targets", "sampling"} <= pieces
    log = (tmp_path / "gpu.log").read_text()
    assert "tests | " in log
    assert "skipped" in log


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_what_to_do(tmp_path):
    done = run_kit("--out", tmp_path / "new")
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1].startswith("Error: no CUDA device is visible here; --tiny rehearses")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_the_whole_rehearsal_of_an_uninstalled_checkout(tmp_path):
    """The interpreter has no package of its own: all come unpacked on PYTHONPATH, and some are not there."""
    base = sys._base_executable
    if base == sys.executable:
        pytest.skip("no virtual environment")
    packages = tmp_path / "packages"
    packages.mkdir()
    hidden = ("lt_detection", "torchcodec", "wandb", "lvis")
    for place in site.getsitepackages():
        for entry in Path(place).iterdir():
            if not any(name in entry.name for name in hidden):
                (packages / entry.name).symlink_to(entry)
    checkout = tmp_path / "checkout"
    for name in ("benchmarks", "cli", "lt_data", "lt_train", "tests"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", checkout)
    out = tmp_path / "out"
    done = subprocess.run(
        [base, checkout / "benchmarks" / "gpu.py", "--tiny", "--out", out, "--minutes", "60"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(packages)},
    )
    assert done.returncode == 0, done.stdout + done.stderr + (out / "gpu.log").read_text()
    files = [p.name for p in out.iterdir()]
    assert len(files) <= 7
    assert {"end_to_end_cpu.csv", "train_step_cpu.csv", "profile_cpu.csv", "pieces_cpu.csv", "features_cpu.csv"} <= set(
        files
    )
    assert {row["part"] for row in rows(out / "gpu.csv")} == {
        "tests", "end-to-end", "train-step", "profile", "pieces", "features",
    }  # fmt: skip


@pytest.fixture
def kit(monkeypatch, tmp_path):
    """The module, and a way to run made-up parts."""
    import gpu

    def run(parts, minutes):
        made = {
            name: gpu.Part(share, lambda *_, code=code: [sys.executable, "-c", code], lambda *_: [])
            for name, (share, code) in parts.items()
        }
        monkeypatch.setattr(gpu, "PARTS", made)
        monkeypatch.setattr(gpu, "BEGUN", time.monotonic())
        monkeypatch.setattr(gpu, "GRACE", 1.0)
        kit = gpu.Kit(tmp_path, "cpu", minutes, made)
        kit.run()
        return kit

    return run


def test_a_part_that_fails_leaves_its_last_line_and_the_next_one_starts(kit, tmp_path):
    done = kit({"bad": (1, "print('so far'); raise ValueError('no such thing')"), "good": (1, "print('fine')")}, 1)
    assert [o.text for o in done.outcomes] == ["ValueError: no such thing", "ok"]
    assert "bad | so far" in (tmp_path / "gpu.log").read_text()
    assert [row["outcome"] for row in rows(tmp_path / "gpu.csv")] == ["ValueError: no such thing", "ok"]
    assert "ValueError: no such thing" in done.format()


def test_a_part_without_a_word_leaves_its_exit_status(kit):
    assert kit({"quiet": (1, "raise SystemExit(3)")}, 1).outcomes[0].text == "exit status 3"


def test_a_part_that_takes_too_long_is_ended_with_whatever_it_started(kit, tmp_path):
    child = f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    hangs = f"import subprocess, sys; subprocess.run([sys.executable, '-c', 'import os, time; ' + {child!r}])"
    begun = time.monotonic()
    done = kit({"hangs": (0.09, hangs), "rest": (0.01, "pass")}, 9 / 60)
    assert done.outcomes[0].text.startswith("ended after ")
    assert done.outcomes[1].text == "ok"
    assert time.monotonic() - begun < 60
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_what_there_is_no_time_for_is_named(kit, tmp_path):
    done = kit({"one": (1, "pass"), "two": (1, "pass")}, 1 / 60)
    assert {o.text for o in done.outcomes} == {"not run: the time was over"}
    assert {row["outcome"] for row in rows(tmp_path / "gpu.csv")} == {"not run: the time was over"}


def test_what_a_part_leaves_of_its_time_is_for_the_others(monkeypatch, tmp_path):
    import gpu

    monkeypatch.setattr(gpu, "BEGUN", time.monotonic())
    kit = gpu.Kit(tmp_path, "cuda_of_nobody", 8, gpu.PARTS)
    first, *_, last = kit.outcomes
    # each may need some seconds to tidy up
    whole = 8 * 60 - 6 * gpu.GRACE
    assert kit._limit(first) == pytest.approx(whole * 0.75 / 8, abs=1)
    assert kit._limit(last) == pytest.approx(8 * 60 - gpu.GRACE, abs=1)


def test_minutes_in_the_docstring_are_those_of_the_parts():
    import gpu

    told = {line.split()[0]: line.split()[1] for line in gpu.__doc__.splitlines() if line.startswith("    ")}
    assert {name: f"{part.minutes:.2f}" for name, part in gpu.PARTS.items()} == {n: told[n] for n in gpu.PARTS}
    assert sum(part.minutes for part in gpu.PARTS.values()) == pytest.approx(7)


def test_tests_are_the_files_that_hold_some_for_a_gpu(tmp_path):
    import gpu

    files = [Path(word).name for word in gpu.tests(tmp_path, "cpu", True) if word.endswith(".py")]
    assert "test_on_gpu.py" in files
    assert Path(__file__).name not in files


def test_what_an_earlier_call_measured_of_other_parts_stays(kit, tmp_path):
    kit({"one": (1, "print('first')"), "two": (1, "pass")}, 1)
    kit({"one": (1, "raise SystemExit('broken')")}, 1)
    assert [(row["part"], row["outcome"]) for row in rows(tmp_path / "gpu.csv")] == [("two", "ok"), ("one", "broken")]
    assert "one | first" in (tmp_path / "gpu.log").read_text()


def test_a_part_whose_table_cannot_be_read_is_a_part_that_failed(kit, monkeypatch):
    import gpu

    def broken(*_):
        raise KeyError("ratio")

    run = gpu.Kit._run_command
    monkeypatch.setattr(
        gpu.Kit, "_run_command", lambda self, name, *a: broken() if name == "bad" else run(self, name, *a)
    )
    done = kit({"bad": (1, "pass"), "good": (1, "pass")}, 1)
    assert [o.text for o in done.outcomes] == ["KeyError: 'ratio'", "ok"]


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_signal_ends_the_kit_and_its_parts_and_the_table_is_printed(tmp_path, number):
    """Started with SIGINT ignored too, as a shell does in the background."""
    part = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    code = f"""
import sys; sys.path.insert(0, {str(KIT.parent)!r})
import gpu
made = {{n: gpu.Part(1, lambda *_: [sys.executable, "-c", {part!r}], lambda *_: []) for n in ("a", "b", "c")}}
gpu.PARTS.clear(); gpu.PARTS.update(made)
gpu.main(["--tiny", "--out", {str(tmp_path)!r}])
"""
    ignoring = lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)  # noqa: E731
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, preexec_fn=ignoring)
    while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()):
        time.sleep(0.1)
    process.send_signal(number)
    printed, _ = process.communicate()
    assert process.returncode == 1
    assert printed.count("ended: somebody asked for it") >= 2
    assert f"written: {tmp_path}" in printed
    assert [row["part"] for row in rows(tmp_path / "gpu.csv")] == ["a", "b", "c"]
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    done = run_kit("--tiny", "--out", tmp_path / "file" / "x")
    assert done.exit_code == 2
    assert isinstance(done.exception, SystemExit)


def test_a_part_reads_its_own_table(tmp_path):
    """What the last table shows of figures that only a GPU gives."""
    import gpu

    table = tmp_path / "t.csv"
    header = (
        "date,machine,torch,trains,classes,batch,side,contestant,steps,s_per_step,cpu_s,images_per_s,ratio,peak_mib\n"
    )
    table.write_text(header + '2026,H100,2.11,all,1230,16,800,"lt-train, bf16",20,0.2,0.1,80,3.1,20000\n')
    (line,) = gpu.lines_of_train_step(table, "")
    assert (line.what, line.figure, line.ratio) == ("1230:all, lt-train, bf16", "80 images/s", "3.1")
    assert gpu.lines_of_tests(table, "8 passed, 2 skipped in 4.1s")[0].figure == "8 passed, 2 skipped"
    assert gpu.lines_of_pieces(tmp_path / "none.csv", "") == []
    table = tmp_path / "features_cpu.csv"
    table.write_text("what,s_per_image,s_of_12_epochs_per_image,ratio\ndirect,2,,\nfirst,,5,4.8\n")
    assert gpu.lines_of_features(table, "") == [
        gpu.Line("direct", "2 s an image"),
        gpu.Line("first", "5 s an image", "4.8"),
    ]


@pytest.mark.parametrize(("code", "last"), [(0, "9 passed, 1 skipped in 3s"), (0, "10 skipped in 3s"), (1, "1 failed")])
def test_on_a_gpu_every_test_has_to_pass(monkeypatch, tmp_path, code, last):
    import gpu

    monkeypatch.setattr(gpu, "BEGUN", time.monotonic())
    monkeypatch.setattr(gpu.Kit, "record", lambda _: None)
    monkeypatch.setattr(gpu.Kit, "_run_command", lambda *_: (code, last))
    kit = gpu.Kit(tmp_path, "cuda", 7, ["tests"])
    kit.run()
    assert kit.outcomes[0].text == f"not every test passed: {last}"
