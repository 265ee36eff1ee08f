"""``lt-train eval --predictions``, ``compare`` and ``predict`` as people type them."""

import csv
import json
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner
from lt_cli.train import main
from PIL import Image

from lt_data.synthetic.pool import write_pool
from tests.lt_train.pictures import leave_out_evaluations

RESULTS = ("eval", "--predictions", "exact.json", "--annotations", "pool")


def lt_train(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def lines(text):
    return [line for line in text.splitlines() if line.startswith("error: ")]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A drawn pool, and its own boxes as predictions: exact in one file, moved in the other."""
    folder = tmp_path_factory.mktemp("data")
    write_pool(folder / "pool", images=40, categories=20, size=96, seed=1)
    content = json.loads((folder / "pool/annotations.json").read_text())
    for name, moved in (("exact", 0), ("moved", 3)):
        records = [
            {
                "image_id": a["image_id"],
                "category_id": a["category_id"],
                "bbox": [a["bbox"][0] + moved, *a["bbox"][1:]],
                "score": round(1 - n / 10_000, 4),
            }
            for n, a in enumerate(content["annotations"])
        ]
        (folder / f"{name}.json").write_text(json.dumps(records))
    return folder


@pytest.fixture(scope="module")
def evaluated(data):
    for name in ("exact", "moved"):
        run = lt_train(
            *("eval", "--predictions", data / f"{name}.json", "--annotations", data / "pool"),
            *("--train-counts", data / "pool", "--groups", "5,10", "--fixed-ap", "--out", data / f"eval_{name}"),
        )
        assert run.exit_code == 0, run.output
    return data


def test_exact_boxes_have_ap_100(evaluated):
    metrics = json.loads((evaluated / "eval_exact/metrics.json").read_text())
    assert metrics["protocol"] == "coco"
    assert metrics["bbox"]["AP"] == metrics["bbox"]["AP_fixed"] == 1.0
    assert set(metrics["bbox"]["groups"]) == {"(0, 5)", "[5, 10)", "[10, ~)"}


def test_an_evaluation_has_tables_of_confusions_and_pictures(evaluated):
    out = evaluated / "eval_exact"
    with (out / "confusion.csv").open() as handle:
        cells = list(csv.DictReader(handle))
    # each object is found once, as what it is
    objects = len(json.loads((evaluated / "exact.json").read_text()))
    assert all(cell["true_id"] == cell["predicted_id"] for cell in cells)
    assert sum(int(cell["count"]) for cell in cells) == objects
    for name in ("confusion.png", "confusion_groups.png", "class_ap_bbox.png"):
        with Image.open(out / name) as picture:
            assert min(picture.size) > 300
    assert not (out / "class_ap_segm.png").exists()
    # above another score there are none of those below it
    strict = (*("eval", "--predictions", evaluated / "exact.json"), "--annotations", evaluated / "pool")
    run = lt_train(*strict, "--confusion-score", "0.999", "--out", evaluated / "strict")
    assert run.exit_code == 0, run.output
    text = (evaluated / "strict/confusion.csv").read_text()
    missed = sum(int(row["count"]) for row in csv.DictReader(text.splitlines()) if row["predicted_id"] == "")
    assert missed == objects - 10
    assert lt_train(*strict, "--confusion-score", "nan").exit_code == 2


def test_table_names_protocol_engine_and_identity(data):
    run = lt_train("eval", "--predictions", data / "exact.json", "--annotations", data / "pool")
    assert run.stdout.startswith("protocol coco (100 detections per image and category), engine ")
    assert "nothing written" in run.stdout


def test_engines_agree(data):
    texts = [
        lt_train(
            "eval", "--predictions", data / "moved.json", "--annotations", data / "pool", "--engine", engine
        ).stdout
        for engine in ("fast", "official")
    ]
    assert texts[0].splitlines()[1:] == texts[1].splitlines()[1:]


def test_results_are_measured_without_torch(data):
    code = (
        "import sys\nfrom lt_cli.train import main\n"
        f"main(['eval', '--predictions', {str(data / 'exact.json')!r}, '--annotations', {str(data / 'pool')!r}],"
        " standalone_mode=False)\nassert 'torch' not in sys.modules and 'pydantic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_text_ids_names_of_files_and_polygons_are_measured_with_a_note(data, tmp_path, monkeypatch):
    """The figures are those of the usual way to write the same."""
    leave_out_evaluations(monkeypatch)
    content = json.loads((data / "pool/annotations.json").read_text())
    names = {image["id"]: image["file_name"].rpartition(".")[0] for image in content["images"]}
    masks = {a["id"]: a["segmentation"] for a in content["annotations"]}
    results = json.loads((data / "moved.json").read_text())
    for record, annotation in zip(results, content["annotations"], strict=True):
        record.update(image_id=names[record["image_id"]], segmentation=masks[annotation["id"]])
    (tmp_path / "r.json").write_text(json.dumps(results))
    for records, key in ((content["images"], "id"), (content["annotations"], "image_id")):
        for record in records:
            record[key] = f"cam-{record[key]}"
    (tmp_path / "text.json").write_text(json.dumps(content))
    figures = []
    for annotations in (data / "pool", tmp_path / "text.json", tmp_path / "text.json"):
        out = tmp_path / f"out{len(figures)}"
        run = lt_train("eval", "--predictions", tmp_path / "r.json", "--annotations", annotations, "--out", out)
        assert run.exit_code == 0, run.output
        notes = [line for line in run.output.splitlines() if line.startswith("note: ")]
        assert len(notes) == 2
        assert "as ultralytics writes them" in notes[0]
        assert "have polygons for a mask" in notes[1]
        figures.append(json.loads((out / "metrics.json").read_text()))
    usual = lt_train(
        *("eval", "--predictions", data / "moved.json", "--annotations", data / "pool", "--out", tmp_path / "usual")
    )
    assert "note: " not in usual.output
    expected = json.loads((tmp_path / "usual/metrics.json").read_text())["bbox"]
    assert figures[0]["bbox"] == figures[1]["bbox"] == expected
    assert figures[0]["segm"] == figures[1]["segm"]
    assert figures[0]["segm"]["AP"] > 0.99
    compared = lt_train("compare", tmp_path / "out1", tmp_path / "out2", "--resamples", 2)
    assert compared.exit_code == 0, compared.output


def test_compare_prints_differences(evaluated):
    run = lt_train("compare", evaluated / "eval_exact", evaluated / "eval_moved", "--resamples", 50)
    assert run.exit_code == 0, run.output
    row = next(line for line in run.stdout.splitlines() if line.startswith("AP "))
    assert "100.0" in row
    assert not row.rstrip().endswith("~")
    again = lt_train("compare", evaluated / "eval_exact", evaluated / "eval_moved", "--resamples", 50)
    assert again.stdout == run.stdout
    content = lt_train("compare", evaluated / "eval_exact", evaluated / "eval_moved", "--format", "json").stdout
    assert json.loads(content)["systems"] == ["eval_exact", "eval_moved"]


def test_compare_runs_of_one_name(evaluated, tmp_path):
    for seed, name in enumerate(("exact", "moved")):
        shutil.copytree(evaluated / f"eval_{name}", tmp_path / f"s{seed}/bags")
    options = ("--resamples", 20, "--annotations", evaluated / "pool", "--format", "json")
    run = lt_train("compare", tmp_path / "s0/bags", tmp_path / "s1/bags", *options)
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout)["systems"] == ["s0/bags", "s1/bags"]


def test_published_rows_are_marked(evaluated):
    run = lt_train("compare", evaluated / "eval_exact", "--paper", "coco-lt")
    assert run.exit_code == 0, run.output
    assert "published" in run.stdout
    assert "ours" in run.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["eval"], 2, "Give a RUN"),
        (["eval", "--predictions", "exact.json"], 2, "--annotations"),
        (["eval", "--predictions", "none.json", "--annotations", "pool"], 1, "none.json: cannot be read"),
        (["eval", "--predictions", "pool/annotations.json", "--annotations", "pool"], 1, "not predictions"),
        (["eval", "--predictions", "exact.json", "--annotations", "pool", "--groups", "bags"], 1, "--train-counts"),
        (["eval", "--predictions", "exact.json", "--annotations", "pool", "--protocol", "lvis"], 1, "neg_category_ids"),
        (["eval", "nowhere"], 1, "not a run directory"),
        (["compare", "eval_exact"], 1, "at least two"),
        (["compare", "eval_exact", "pool"], 1, "holds no metrics.json"),
        (["compare", "eval_exact", "--paper", "lvis", "--format", "csv"], 1, "in the table only"),
        (["compare", "eval_exact", "eval_exact"], 1, "give it once"),
        (["compare", "eval_exact", "eval_moved", "--annotations", "eval_exact"], 1, "no annotations.json in it"),
        (["compare", "eval_exact", "eval_moved", "--seed", "-1"], 2, "--seed"),
        ([*RESULTS, "--device", "cpu"], 2, "for a RUN"),
        ([*RESULTS, "--checkpoint", "last"], 2, "for a RUN"),
        (["predict", "run", "pool/images", "--out", "predicted", "--score-threshold", "nan"], 2, "--score-threshold"),
        (["predict", "run", "pool/images", "--out", "predicted", "--score-threshold", "1.5"], 2, "--score-threshold"),
        (["predict", "run", "pool/images", "--out", "predicted", "--min-score", "nan"], 2, "--min-score"),
        (
            ["predict", "run", "pool/images", "--out", "predicted", "--class-agnostic-nms", "2"],
            2,
            "--class-agnostic-nms",
        ),
        (["predict", "nowhere", "pool/images", "--out", "predicted"], 1, "not a run directory"),
    ],
)
def test_mistakes(evaluated, monkeypatch, arguments, code, says):
    monkeypatch.chdir(evaluated)
    run = lt_train(*arguments)
    assert run.exit_code == code, run.output
    assert says in run.output
    assert code == 2 or len(lines(run.output)) == 1
