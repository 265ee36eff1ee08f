"""``lt-data split`` as it is typed."""

import json

import pytest
from click.testing import CliRunner
from lt_cli.data import main

from lt_data.synthetic.pool import write_pool


def lt_data(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("split")
    write_pool(folder / "pool", images=40, categories=20, size=64)
    return folder


def test_split_of_a_file_and_of_a_directory(folder):
    done = lt_data("split", folder / "pool/annotations.json", "--val", "0.25", "--out", folder / "a")
    assert done.exit_code == 0, done.output
    assert ["train", "30", "75.0%"] in [line.split()[:3] for line in done.stdout.splitlines()]
    assert done.stdout.endswith(f"written: {folder / 'a'}\n")
    other = lt_data("split", folder / "pool", "--val", "0.25", "--out", folder / "b", "--format", "json")
    assert json.loads(other.stdout) == json.loads((folder / "b/split.json").read_text())
    assert all((folder / x / "val.json").read_bytes() for x in "ab")
    assert (folder / "a/val.json").read_bytes() == (folder / "b/val.json").read_bytes()
    counted = lt_data("group-stats", folder / "a/train.json", "--format", "json")
    assert json.loads(counted.stdout)["images"] == 30


def test_usage_and_input_errors_are_lines(folder):
    none = lt_data("split", folder / "pool", "--out", folder / "c")
    assert (none.exit_code, "--val SHARE" in none.output) == (2, True)
    wrong = lt_data("split", folder / "pool", "--val", "2", "--out", folder / "c")
    assert (wrong.exit_code, wrong.output.count("\n")) == (1, 1)
    assert wrong.output.startswith("error: --val: got '2'; allowed is a number between 0 and 1")
    lt_data("split", folder / "pool", "--folds", "2", "--out", folder / "d")
    again = lt_data("split", folder / "pool", "--folds", "2", "--out", folder / "d")
    assert (again.exit_code, again.output.count("\n")) == (1, 1)
