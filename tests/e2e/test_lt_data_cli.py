"""``lt-data`` as people type it."""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from lt_cli import options
from lt_cli.data import main
from lt_cli.train import main as train_main

from tests.lt_data.importing.trees import voc, voc_object, voc_tree

POOL = "pool/annotations.json"
LT_DATA = Path(sys.executable).with_name("lt-data")


def lt_data(*arguments, cwd):
    """In this process, as what is tested here does not depend on it."""
    with contextlib.chdir(cwd):
        run = CliRunner().invoke(main, [str(argument) for argument in arguments])
    # whatever else it raises would be a traceback
    assert run.exception is None or isinstance(run.exception, SystemExit), run.exception
    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    run = lt_data("demo-pool", "--out", "pool", "--images", "40", cwd=folder)
    assert run.exit_code == 0, run.stderr
    return folder


def test_build_then_stats(folder):
    build = ("build-coco-lt", "--coco", "pool/annotations.json", "--out", "lt", "--scale", "0.001", "--groups", "2,5")
    run = lt_data(*build, cwd=folder)
    assert run.exit_code == 0, run.stderr
    assert "written: lt" in run.stdout
    assert "Traceback" not in run.stderr
    stats = lt_data("group-stats", "lt", "--format", "json", "--plot", "groups.png", cwd=folder)
    content = json.loads(stats.stdout)
    assert [g["name"] for g in content["groups"]] == ["(0, 2)", "[2, 5)", "[5, ~)"]
    assert content["categories"] == 24
    assert (folder / "groups.png").stat().st_size > 1000
    again = lt_data(*build, cwd=folder)
    assert again.exit_code == 1
    assert again.stderr.splitlines()[-1] == "error: lt: exists; choose another --out, or replace it with --force"


def test_dry_run_writes_nothing(folder):
    before = sorted(p.name for p in folder.iterdir())
    command = (
        "build-coco-lt",
        "--coco",
        "pool/annotations.json",
        "--scale",
        "0.001",
        "--dry-run",
        "--out",
        "unwritten",
    )
    run = lt_data(*command, cwd=folder)
    assert run.exit_code == 0
    assert "dry run: nothing written" in run.stdout
    assert sorted(p.name for p in folder.iterdir()) == before


def test_a_build_in_json_and_what_is_short_of_it(folder):
    command = ("build-coco-lt", "--coco", "pool/annotations.json", "--format", "json", "--dry-run")
    short = lt_data(*command, cwd=folder)
    assert short.exit_code == 1
    content = json.loads(short.stdout)
    assert content["refused"] == "shortage"
    errors = [line for line in short.stderr.splitlines() if line.startswith("error: ")]
    assert "largest --scale that works is" in errors[0]
    assert len(errors) == 1 + min(len(content["shortage"]), 10) + (len(content["shortage"]) > 10)
    good = lt_data(*command, "--scale", f"{content['largest_scale']:.6f}", cwd=folder)
    assert good.exit_code == 0
    assert json.loads(good.stdout)["shortage"] == []
    assert "dry run: nothing written" in good.stderr


def test_a_note_where_a_category_is_meant_in_two_ways(folder, tmp_path):
    content = json.loads((folder / "pool/annotations.json").read_text())
    first, second = content["categories"][:2]
    second["name"] = str(first["id"])
    (tmp_path / "a.json").write_text(json.dumps(content))
    run = lt_data(
        *(
            "show",
            tmp_path / "a.json",
            "--category",
            first["id"],
            "--images",
            "pool/images",
            "--out",
            tmp_path / "x.png",
        ),
        cwd=folder,
    )
    assert run.exit_code == 0
    assert f"note: --category {first['id']}: taken as the name of id {second['id']}" in run.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("build-coco-lt", "--coco", "pool/annotations.json"), 2, "Missing option '--out'"),
        (("build-coco-lt", "--coco", "none.json", "--out", "x"), 1, "error: none.json: cannot be read"),
        (("build-coco-lt", "--coco", "pool/annotations.json", "--out", "x"), 1, "largest --scale that works is"),
        (
            ("build-coco-lt", "--coco", "a", "--out", "x", "--groups", "10,x"),
            1,
            "allowed are the presets bags (10,100,1000)",
        ),
        (("build-coco-lt", "--coco", "a", "--out", "x", "--groups", "10,5"), 1, "ascending order"),
        (("build-coco-lt", "--coco", "a", "--out", "x", "--scale", "2"), 1, "0 < scale <= 1"),
        (("build-coco-lt", "--coco", "a", "--out", "x", "--reference", "lvis-v9"), 1, "lvis-v0.5, lvis-v1, zipf:ALPHA"),
        (("build-coco-lt", "--coco", "a", "--out", "x", "--lvis", "b", "--reference", "c"), 2, "exclude each other"),
        (("group-stats", "."), 1, "give a dataset directory or an annotation file"),
        (("group-stats", "pool", "--plot", "a.jpg"), 1, "a.jpg: is written as .png or .svg"),
        (("group-stats", "pool", "--by", "frequency", "--groups", "5"), 1, "leave it out, or use --by images"),
        (("build-coco-lt", "--coco", ".", "--out", "x"), 1, "give a dataset directory or an annotation file"),
        (("build-coco-lt", "--coco", "pool/annotations.json", "--out", "pool", "--force"), 1, "no build wrote"),
        (("group-stats", "pool/annotations.json", "--format", "xml"), 2, "'xml' is not one of"),
        (
            ("repeat-factors", "pool/annotations.json", "--out", "pool/annotations.json", "--force"),
            1,
            "is read by this",
        ),
        (("repeat-factors", "pool/annotations.json", "--out", "/dev/null", "--force"), 1, "not a plain file"),
        (("repeat-factors", "pool/annotations.json", "--threshold", "1e300"), 1, "up to 1e6"),
        (("repeat-factors", "pool/annotations.json", "--exponent", "1.5"), 1, "--exponent: got 1.5; allowed is"),
        (("demo-pool", "--out", "pool"), 1, "exists and is not empty"),
        (("build-coco-lt", "--coco", POOL, "--out", "x", "--reference", ""), 1, "--reference: is empty"),
        (("build-coco-lt", "--coco", POOL, "--out", "x", "--targets", ""), 1, "--targets: is empty"),
        (("build-coco-lt", "--coco", POOL, "--out", "x", "--lvis", ""), 2, "'--lvis': the path is empty"),
        (("build-coco-lt", "--coco", POOL, "--out", ""), 2, "'--out': the path is empty"),
        (("group-stats", POOL, "--groups", ""), 1, "--groups: got ''"),
        (("group-stats", POOL, "--write", POOL, "--force"), 1, "is read by this command; choose another file"),
        (("class-weights", POOL, "--variant", "text"), 2, "--variant is of a method; give --method too"),
        (("class-weights", POOL, "--method", "bags"), 2, "'bags' is not one of 'reweight', 'reweight-cls'"),
        (("build-coco-lt", "--coco", POOL, "--out", "x", "--copy"), 2, "they need --images"),
        (("build-coco-lt", "--coco", POOL, "--out", "x", "--link"), 2, "they need --images"),
        (
            ("plot", POOL, "--kind", "groups", "--by", "frequency", "--groups", "10", "--out", "x"),
            1,
            "leave it out, or use --by images",
        ),
    ],
)
def test_mistakes(folder, arguments, code, says):
    run = lt_data(*arguments, cwd=folder)
    assert run.exit_code == code, run.stderr
    assert says in run.stderr
    assert run.stdout == ""
    assert not (folder / "x").exists()


@pytest.fixture(scope="module")
def dataset(folder):
    command = ("build-coco-lt", "--coco", "pool/annotations.json", "--out", "ds", "--scale", "0.001", "--groups", "2,5")
    assert lt_data(*command, "--images", "pool/images", "--val", "pool/annotations.json", cwd=folder).exit_code == 0
    return folder


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("check", "ds", "--images", "ds/images"), "error 0"),
        (("verify", "ds", "--pool", "pool/annotations.json"), "everything that was checked is as it was built"),
        (("diff", "ds", "ds"), "identical"),
        (("repeat-factors", "ds", "--rounding", "ceil"), "images per epoch"),
        (("repeat-factors", "ds", "--format", "csv"), "image_id,repeat_factor"),
        (("class-weights", "ds", "--kind", "effective-number", "--upper", "5"), "24 classes"),
        (("class-weights", "ds", "--method", "reweight"), "ds: inverse, 24 classes"),
        (("class-weights", "ds", "--method", "reweight-cls"), "ds: effective-number, beta 0.999, 24 classes"),
        (("class-weights", "ds", "--method", "reweight"), "at the lower cap 0.1, "),
        (("class-weights", "ds", "--method", "reweight-cls", "--variant", "text"), "at the lower cap 0.01, "),
        (
            ("class-weights", "ds", "--method", "reweight", "--variant", "text", "--lower", "0.3"),
            "at the lower cap 0.3",
        ),
        (("plot", "ds", "--kind", "alignment", "--out", "plots"), "written: plots/alignment.svg"),
        (("show", "ds", "--category", "plain-disc", "--images", "ds/images", "--out", "disc.png"), "written: disc.png"),
        (("group-stats", "ds", "--groups", "bags-2"), "[100, ~)"),
        (("group-stats", "ds", "--write", "groups.json"), "(0, 2)"),
        (("repeat-factors", "ds", "--threshold", "0.5", "--out", "factors.csv"), "images per epoch"),
        (
            ("repeat-factors", "ds", "--instance-aware", "--exponent", "0.75"),
            "ds: instance-aware repeat factors, threshold 0.001, exponent 0.75",
        ),
        (("group-stats", "pool", "--by", "images", "--plot", "by_images.svg"), "by images"),
        (("group-stats", "pool", "--by", "frequency"), "group frequent is empty"),
        (("build-coco-lt", "--coco", "ds", "--val", "ds", "--reference", "ds", "--dry-run"), "nothing written"),
        (("plot", "pool", "--kind", "groups", "--by", "frequency", "--out", "plots2"), "written: plots2/groups.svg"),
    ],
)
def test_commands_on_a_dataset(dataset, arguments, says):
    run = lt_data(*arguments, cwd=dataset)
    assert run.exit_code == 0, run.stdout + run.stderr
    assert says in run.stdout


def test_verify_and_diff_say_what_was_changed(dataset):
    content = json.loads((dataset / "ds/annotations.json").read_text())
    other = dataset / "changed"
    shutil.copytree(dataset / "ds", other)
    removed = content["annotations"].pop()
    (other / "annotations.json").write_text(json.dumps(content))
    verified = lt_data("verify", "changed", cwd=dataset)
    assert verified.exit_code == 1
    assert "annotations.json" in verified.stdout
    compared = lt_data("diff", "ds", "changed", "--format", "json", cwd=dataset)
    assert compared.exit_code == 1
    assert str(removed["id"]) in compared.stdout
    assert "Traceback" not in verified.stderr + compared.stderr


def test_check_names_codes_and_leaves_with_1(dataset):
    content = json.loads((dataset / "pool/annotations.json").read_text())
    content["annotations"][0]["bbox"][2] = 0
    content["annotations"][1]["category_id"] = 999
    (dataset / "bad.json").write_text(json.dumps(content))
    run = lt_data("check", "bad.json", "--format", "json", cwd=dataset)
    assert run.exit_code == 1
    found = json.loads(run.stdout)["findings"]
    assert {f["severity"] for f in found} >= {"error"}
    refused = lt_data("group-stats", "bad.json", cwd=dataset)
    assert refused.exit_code == 1
    assert "Traceback" not in refused.stderr


@pytest.fixture(scope="module")
def large_pool(tmp_path_factory):
    """A pool that takes a while to read: 300,000 annotations."""
    path = tmp_path_factory.mktemp("large") / "large.json"
    annotations = ",".join(f'{{"id":{i},"image_id":{i % 1000},"category_id":{i % 20}}}' for i in range(300_000))
    images = ",".join(f'{{"id":{i}}}' for i in range(1000))
    categories = ",".join(f'{{"id":{i},"name":"c{i}"}}' for i in range(20))
    path.write_text(f'{{"images":[{images}],"annotations":[{annotations}],"categories":[{categories}]}}')
    return path


@pytest.mark.parametrize(
    ("step", "number", "says"),
    [
        ("reading", signal.SIGINT, "interrupted"),
        ("writing", signal.SIGTERM, "terminated"),
        ("drawing", signal.SIGHUP, "terminated"),
        pytest.param("writing", signal.SIGINT, "interrupted", marks=pytest.mark.slow),
        pytest.param("drawing", signal.SIGINT, "interrupted", marks=pytest.mark.slow),
        pytest.param("drawing", signal.SIGTERM, "terminated", marks=pytest.mark.slow),
    ],
)
def test_a_signal_is_one_line_and_leaves_nothing(large_pool, tmp_path, step, number, says):
    command = [LT_DATA, "build-coco-lt", "--coco", large_pool, "--out", tmp_path / "lt", "--reference", "exp:9"]
    run = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a parent that ignores the signal would hand that down
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    lines = []
    while not lines or not lines[-1].startswith(step):
        lines.append(run.stderr.readline())
        assert lines[-1], lines
    run.send_signal(number)
    output, rest = run.communicate()
    assert run.returncode == 1
    assert output == ""
    assert rest.splitlines()[-1] == says
    assert "Traceback" not in rest
    assert "Aborted" not in rest
    assert list(tmp_path.iterdir()) == []


def test_a_signal_that_is_ignored_stays_ignored(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with options.signals_as_interrupts():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            with pytest.raises(options.Terminated):
                os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("command", ["lt-data", "lt-train"])
@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("not-a-command",)])
def test_output_that_takes_nothing_is_one_line(command, arguments):
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(
            [LT_DATA.with_name(command), *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    if arguments == ("not-a-command",):
        assert run.returncode == 2
        assert "No such command" in run.stderr
    else:
        assert (run.returncode, run.stderr) == (1, "error: standard output: No space left on device\n")


@pytest.mark.parametrize("method", ["parse_args", "resolve_command", "invoke"])
def test_ctrl_c_while_parsing_is_one_line(monkeypatch, method):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(click.Group, method, interrupt)
    result = CliRunner().invoke(main, ["group-stats", "a.json"])
    assert (result.exit_code, result.stderr) == (1, "interrupted\n")


def test_a_file_that_may_not_be_read_is_one_line(tmp_path):
    (tmp_path / "a.json").touch(mode=0o000)
    if os.access(tmp_path / "a.json", os.R_OK):
        pytest.skip("root reads every file")
    run = lt_data("group-stats", "a.json", cwd=tmp_path)
    assert (run.exit_code, run.stderr) == (1, "error: a.json: cannot be read (Permission denied); check the path\n")


@pytest.mark.parametrize("command", [main, train_main])
def test_whether_a_file_can_be_read_is_the_librarys_to_say(command):
    paths = [p.type for c in command.commands.values() for p in c.params if isinstance(p.type, click.Path)]
    assert len(paths) > 5
    assert not any(kind.readable or kind.exists for kind in paths)


def test_memory_that_is_gone_is_a_line(monkeypatch, folder):
    def no_memory(*_, **__):
        raise MemoryError

    monkeypatch.setattr("lt_data.counts.group_stats.read_annotations", no_memory)
    result = CliRunner().invoke(main, ["group-stats", str(folder / POOL)])
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("error: out of memory; ")


def test_with_a_terminal_a_bar_shows_bytes_and_results_stay_in_their_file(folder, tmp_path):
    terminal, end = os.openpty()
    with (tmp_path / "out.json").open("wb") as out:
        run = subprocess.Popen([LT_DATA, "group-stats", POOL, "--format", "json"], stdout=out, stderr=end, cwd=folder)
    os.close(end)
    shown = b""
    try:
        while part := os.read(terminal, 4096):
            shown += part
    except OSError:  # the terminal is gone
        pass
    os.close(terminal)
    assert run.wait(60) == 0
    assert b"reading" in shown
    assert b"kB" in shown
    assert json.loads((tmp_path / "out.json").read_text())["categories"] == 24


BUILD = ("build-coco-lt", "--coco", POOL, "--reference", "exp:2", "--on-shortage", "cap")


def refusal(*arguments, cwd):
    """The lines of an error, without their first word."""
    run = subprocess.run([LT_DATA, *arguments], capture_output=True, cwd=cwd, check=False)
    said = run.stderr.decode()
    assert run.returncode == 1
    assert "Traceback" not in said
    return [line.removeprefix("error: ") for line in said.splitlines() if line.startswith("error: ")]


def test_images_that_are_called_nearly_so_or_lie_elsewhere(folder, tmp_path):
    images = tmp_path / "images"
    shutil.copytree(folder / "pool/images", images)
    names = sorted(path.name for path in images.iterdir())
    (images / names[0]).rename(images / names[0].upper())
    first, second = refusal(*BUILD, "--images", images, "--out", tmp_path / "lt", cwd=folder)
    assert first.startswith(f"{images}: 1 of 40 images are missing, 1 of them are there under nearly their name; ")
    assert second == f"{images}/{names[0]}: image is missing; there is '{names[0].upper()}' (upper and lower case)"
    check = lt_data("check", POOL, "--images", images, cwd=folder)
    assert check.exit_code == 1
    assert "LT507" in check.stdout
    (tmp_path / "private").write_bytes(b"")
    (images / names[0]).symlink_to(tmp_path / "private")
    for way in ("--copy", "--link"):
        (line,) = refusal(*BUILD, "--images", images, way, "--out", tmp_path / "lt", cwd=folder)
        assert line.startswith(f"{images}: 1 of 40 images lead out of the folder by a link ({images}/{names[0]} to ")
    assert not (tmp_path / "lt").exists()


def test_names_that_are_not_utf_8_and_digests_that_nobody_wrote(folder, tmp_path):
    odd = os.path.join(os.fsencode(tmp_path), b"odd\xff")
    (line,) = refusal(*BUILD, "--out", odd, cwd=folder)
    assert line.endswith(
        r"odd\xff: the path is not UTF-8, so environment.json cannot name it; rename it, or choose another"
    )
    assert not os.path.exists(odd)
    half = tmp_path / "half.json"
    half.write_text((folder / POOL).read_text().replace('"file_name":"', '"file_name":"\\ud83d', 1))
    (line,) = refusal("group-stats", half, cwd=folder)
    assert r"LT003: a record cannot be read: 1 (images[0]: file_name has '\ud83d" in line
    out = tmp_path / "lt"
    assert lt_data(*BUILD, "--out", out, cwd=folder).exit_code == 0
    content = json.loads((out / "build.json").read_text())
    content["inputs"]["reference"]["sha256"] = "ab" * 32
    (out / "build.json").write_text(json.dumps(content))
    verified = lt_data("verify", out, cwd=folder)
    assert verified.exit_code == 1
    told = " ".join(verified.stdout.split())
    assert f"inputs: reference: sha256: got {'ab' * 32}; expected nothing, as exp:2 is no file" in told


def test_bounds_are_called_groups_and_their_former_name_is_taken(dataset):
    now, former = (lt_data("group-stats", "ds", name, "2,5", cwd=dataset) for name in ("--groups", "--edges"))
    assert (now.exit_code, now.stdout) == (0, former.stdout)
    for command in ("group-stats", "build-coco-lt", "plot"):
        text = lt_data(command, "--help", cwd=dataset).stdout
        assert "--groups" in text
        assert "--edges" not in text
    wrong = lt_data("group-stats", "ds", "--edges", "5,2", cwd=dataset)
    assert wrong.exit_code == 1
    assert wrong.stderr.endswith(
        "--groups: got 5,2; allowed are positive whole numbers in ascending order, for example 2,5\n"
    )


def test_a_card_with_the_former_name_is_whole(dataset, tmp_path):
    shutil.copytree(dataset / "ds", tmp_path / "ds")
    card = tmp_path / "ds/README.md"
    card.write_text(card.read_text().replace(" --groups ", " --edges "))
    assert " --edges " in card.read_text()
    assert lt_data("verify", "ds", cwd=tmp_path).exit_code == 0


@pytest.mark.parametrize(("name", "ours"), [("build", "build-coco-lt"), ("stats", "group-stats"), ("Check", "check")])
def test_names_of_other_tools_are_answered(tmp_path, name, ours):
    run = lt_data(name, "x", cwd=tmp_path)
    assert run.exit_code == 2
    assert f"Did you mean '{ours}'?" in run.stderr


@pytest.fixture
def importing(tmp_path):
    """The command that imports a tree of one image."""
    whole = voc_object(box=(1, 1, 64, 48))
    source, images = voc_tree(tmp_path, {"a/1": voc(whole, voc_object("dog", difficult=1))})
    return ["import", "--from", "voc", str(source), "--images", str(images), "--out", "coco.json"]


def test_import_then_check(importing, tmp_path):
    run = lt_data(*importing, "--one-based", "--difficult", "drop", cwd=tmp_path)
    assert run.exit_code == 0, run.stderr
    assert "LT707" in run.stdout
    assert run.stdout.splitlines()[-1] == "written: coco.json"
    content = json.loads((tmp_path / "coco.json").read_text())
    assert [record["bbox"] for record in content["annotations"]] == [[0, 0, 64, 48]]
    assert lt_data("check", "coco.json", "--images", "images", cwd=tmp_path).exit_code == 0
    run = lt_data(*importing, cwd=tmp_path)
    assert run.exit_code == 1
    assert run.stderr.startswith("error: coco.json: exists; ")


def test_import_of_what_has_no_such_option(importing, tmp_path):
    run = CliRunner().invoke(main, [*importing, "--from", "yolo", "--difficult", "drop"])
    assert run.exit_code == 2
    assert "--difficult is for --from voc" in run.output


def test_import_without_its_packages(importing, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "globox" else name)
    run = CliRunner().invoke(main, importing)
    assert run.exit_code == 1
    assert run.output == "Error: import needs globox, not installed here; run: pip install globox\n"
