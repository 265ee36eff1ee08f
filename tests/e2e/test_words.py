"""What commands print: lines that fit a terminal, whole sentences, one word for an interrupt."""

import json

import click
import pytest
from click.testing import CliRunner
from lt_cli.data import main as lt_data
from lt_cli.options import Terminated
from lt_cli.train import main as lt_train

from lt_data.synthetic.pool import write_pool
from lt_data.text_tables import WIDTH
from tests.lt_train.pictures import leave_out_evaluations


def run(command, *arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two pools whose files do not fit each other, data sets of both, predictions and their evaluations."""
    folder = tmp_path_factory.mktemp("a-folder-with-a-name")
    for seed, name in enumerate(("pool", "other")):
        annotations = write_pool(folder / name, images=30, categories=20, size=64, seed=seed)
        content = json.loads(annotations.read_text())
        boxes = [{key: a[key] for key in ("image_id", "category_id", "bbox")} for a in content["annotations"]]
        (folder / f"{name}.json").write_text(json.dumps([{**box, "score": 0.5} for box in boxes]))
        for row in content["annotations"][:9]:
            row["segmentation"] = {"size": [64, 64], "counts": [str(n) for n in range(40)]}
        annotations.write_text(json.dumps(content))
        built = run(lt_data, *_build(annotations), "--out", folder / f"{name}_lt")
        assert built.exit_code == 0, built.output
    with pytest.MonkeyPatch.context() as patch:
        leave_out_evaluations(patch)
        for name in ("pool", "other"):
            measured = run(
                *(lt_train, "eval", "--predictions", folder / f"{name}.json", "--annotations", folder / "pool"),
                *("--train-counts", folder / "pool", "--skip-invalid", "--out", folder / f"{name}_eval"),
            )
            assert measured.exit_code == 0, measured.output
    return folder


def _build(annotations):
    return (
        *("build-coco-lt", "--coco", annotations, "--reference", "exp:300", "--scale", "0.5", "--on-shortage", "cap"),
        *("--order", "random", "--surplus", "ignore"),
    )


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (lt_data, [*_build("pool/annotations.json"), "--dry-run"]),
        (lt_data, ["check", "pool", "--images", "other/images", "--other", "other/annotations.json"]),
        (lt_data, ["group-stats", "pool", "--groups", "bags-8", "--by", "images"]),
        (lt_data, ["repeat-factors", "pool"]),
        (lt_data, ["class-weights", "pool"]),
        (lt_data, ["verify", "pool_lt", "--pool", "other/annotations.json"]),
        (lt_data, ["diff", "pool_lt", "other_lt"]),
        (lt_train, ["compare", "pool_eval", "other_eval"]),
        (lt_train, ["compare", "pool_eval", "other_eval", "--paper", "lvis"]),
        (lt_train, ["config", "show", "quickstart", f"data.groups={list(range(1, 60))}"]),
    ],
)
def test_lines_fit_a_terminal(folder, monkeypatch, command, arguments):
    monkeypatch.chdir(folder)
    done = run(command, *arguments)
    assert not done.stderr.startswith(("error", "Usage"))
    long = [line for line in done.stdout.splitlines() if len(line) > WIDTH]
    # a word alone in its line may be longer
    assert [line for line in long if len(line.split()) > 1] == []
    assert len(done.stdout.splitlines()) > 3


def test_csv_and_json_stay_as_they_are(folder, monkeypatch):
    monkeypatch.chdir(folder)
    report = json.loads(run(lt_data, "check", "pool", "--format", "json").stdout)
    (finding,) = [f for f in report["findings"] if f["code"] == "LT405"]
    assert max(map(len, finding["examples"])) > WIDTH
    rows = run(lt_train, "compare", "pool_eval", "other_eval", "--format", "csv").stdout.splitlines()
    assert len({row.count(",") for row in rows if '"' not in row}) == 1


def _groups(command, *path):
    """All groups of commands, with the words that lead to them."""
    yield path
    for name, inner in command.commands.items():
        if isinstance(inner, click.Group):
            yield from _groups(inner, *path, name)


@pytest.mark.parametrize(
    ("command", "path"), [(command, path) for command in (lt_data, lt_train) for path in _groups(command)]
)
def test_lists_of_commands_have_whole_sentences(command, path):
    told = run(command, *path, "--help").stdout
    assert "..." not in told.partition("Commands:")[2]


def test_a_recipe_in_the_place_of_a_command_is_answered_with_what_to_type():
    done = run(lt_train, "config", "quickstart", "method=bags")
    assert done.exit_code == 2
    assert done.stderr.endswith("For a recipe write: main config show quickstart method=bags\n")


def test_bounds_are_called_groups_and_taken_as_edges_too(folder, monkeypatch):
    monkeypatch.chdir(folder)
    files = ("--predictions", "pool.json", "--annotations", "pool", "--train-counts", "pool", "--skip-invalid")
    by_groups, by_edges = (run(lt_train, "eval", *files, option, "3,7") for option in ("--groups", "--edges"))
    assert "[3, 7)" in by_groups.stdout
    assert by_edges.stdout == by_groups.stdout
    assert "--edges" not in run(lt_train, "eval", "--help").stdout


@pytest.mark.parametrize(("asked", "word"), [(KeyboardInterrupt, "interrupted"), (Terminated, "terminated")])
@pytest.mark.parametrize("in_compiled_code", [False, True])
def test_an_interrupt_is_one_word(folder, monkeypatch, asked, word, in_compiled_code):
    def interrupted(*_, **__):
        if not in_compiled_code:
            raise asked
        raise SystemError("returned a result with an exception set") from asked()

    monkeypatch.setattr("lt_data.checks.check.check_file", interrupted)
    done = run(lt_data, "check", folder / "pool")
    assert (done.exit_code, done.stderr.splitlines()) == (1, [word])
