"""``lt-data mend``, ``merge`` and ``filter`` as people type them."""

import contextlib
import json

import pytest
from click.testing import CliRunner
from lt_cli.data import main

from tests.lt_data.mending import damages
from tests.lt_data.pools import pool, save


def lt_data(*arguments, cwd):
    with contextlib.chdir(cwd):
        run = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert run.exception is None or isinstance(run.exception, SystemExit), run.exception
    return run


def test_from_a_refused_export_to_a_file_that_counts(tmp_path):
    content = damages.sound()
    for damage in (damages.repeat_ids, damages.quote_boxes, damages.root):
        damage(content)
    content["info"] = {"description": "Exported from roboflow.com"}
    save(content, tmp_path / "export.json")
    build = ("build-coco-lt", "--reference", "exp:2", "--on-shortage", "cap", "--dry-run", "--coco")
    refused = lt_data(*build, "export.json", cwd=tmp_path)
    assert refused.exit_code == 1
    last = "note: lt-data mend export.json --fix numbers,repeated-ids,boxes,areas may put some of it right"
    assert refused.stderr.splitlines()[-1] == last
    assert "note: written by Roboflow: category 0 often only groups" in lt_data(
        "check", "export.json", cwd=tmp_path
    ).stdout.replace("\n  ", " ")

    hint = "lt-data mend may put some of it right: --fix numbers,repeated-ids,boxes,areas"
    assert lt_data("check", "export.json", cwd=tmp_path).stdout.splitlines()[-1] == hint
    preview = lt_data("mend", "export.json", cwd=tmp_path)
    assert preview.exit_code == 0
    assert "        1  repeated-ids: annotations whose id is 0" in preview.stdout
    assert preview.stdout.endswith("dry run: give --out to write the mended file\n")
    assert [path.name for path in tmp_path.iterdir()] == ["export.json"]

    mended = lt_data("mend", "export.json", "--all", "--out", "good.json", "--changes", "changes.csv", cwd=tmp_path)
    assert mended.stdout.splitlines()[-3:] == ["written: changes.csv", "written: good.ids.csv", "written: good.json"]
    assert lt_data("check", "good.json", cwd=tmp_path).exit_code == 0
    assert lt_data(*build, "good.json", cwd=tmp_path).exit_code == 0
    again = lt_data("mend", "good.json", "--all", "--out", "better.json", "--format", "json", cwd=tmp_path)
    assert (tmp_path / "better.json").read_bytes() == (tmp_path / "good.json").read_bytes()
    assert {kind["changes"] for kind in json.loads(again.stdout)["kinds"].values()} == {0}


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("mend", "a.json", "--out", "b.json"), 2, "--out needs --fix KIND[,KIND] or --all"),
        (("mend", "a.json", "--fix", "clip", "--all"), 2, "exclude each other"),
        (("mend", "a.json", "--fix", "clipp"), 1, "error: fix: got 'clipp'; kinds of mends are"),
        (("mend", "missing.json", "--all"), 1, "error: missing.json: cannot be read"),
        (
            ("filter", "a.json", "--out", "b.json", "--categories", "x", "--drop-categories", "y"),
            2,
            "exclude each other",
        ),
        (("filter", "a.json", "--out", "b.json", "--categories", "x"), 1, "error: a.json: --categories: no category"),
        (("merge", "a.json", "--out", "b.json"), 1, "error: a.json: 1 file; give two or more"),
        (("merge", "a.json", "a.json", "--out", "b.json"), 1, "put their annotations together with --on-same join"),
        (("repair", "a.json"), 2, "Did you mean 'mend'?"),
        (("combine", "a.json"), 2, "Did you mean 'merge'?"),
        (("subset", "a.json"), 2, "Did you mean 'filter'?"),
    ],
)
def test_what_is_refused(tmp_path, arguments, code, text):
    save(damages.sound(), tmp_path / "a.json")
    run = lt_data(*arguments, cwd=tmp_path)
    assert run.exit_code == code
    assert text in run.stderr
    assert not (tmp_path / "b.json").exists()


def test_merge_and_filter(tmp_path):
    save(pool({1: [1, 1]}, names={1: "crate"}), tmp_path / "a.json")
    save(pool({1: [1], 2: [2]}, names={1: "sack", 2: "crate"}), tmp_path / "b.json")
    run = lt_data("merge", "a.json", "b.json", "--on-same", "join", "--out", "c.json", cwd=tmp_path)
    assert run.exit_code == 0
    assert "note: b.json: 1 images are in an earlier file too, a.json for example ('000000000001.jpg')" in run.stderr
    assert "c.json: 2 images, 4 annotations, 2 categories" in run.stdout
    assert max(map(len, run.stdout.splitlines())) <= 80
    run = lt_data("filter", "c.json", "--categories", "crate", "--drop-empty", "--out", "d.json", cwd=tmp_path)
    assert run.stdout.splitlines()[-2:] == ["d.json: 2 images, 3 annotations, 1 categories", "written: d.json"]
