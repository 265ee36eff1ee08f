"""The examples of docs/python.md, run from the top to the bottom, and the notebook docs/tour.ipynb."""

import contextlib
import io
import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from lt_train.recipe.origins import format_yaml

DOCS = Path(__file__).resolve().parents[3] / "docs"
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def workplace(run, tiny_pool, make_tiny_recipe, tmp_path, monkeypatch):
    """The folder that a reader of the page has: a run, photos, annotations, a recipe, results."""
    shutil.copytree(run, tmp_path / "runs/bags")
    shutil.copytree(tiny_pool / "images", tmp_path / "photos")
    shutil.copy(tiny_pool / "images/000000000001.jpg", tmp_path / "street.jpg")
    (tmp_path / "data").mkdir()
    for name in ("train", "val"):
        shutil.copy(tiny_pool / "annotations.json", tmp_path / f"data/{name}.json")
    (tmp_path / "my.yaml").write_text(format_yaml(make_tiny_recipe("schedule.iterations=2", "schedule.decay=[1]")))
    shutil.copy(run / "eval/predictions.json", tmp_path / "results.json")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_examples_of_the_page(workplace):
    examples = EXAMPLE.findall((DOCS / "python.md").read_text(encoding="utf-8"))
    assert len(examples) == 10
    names, printed = {}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        for number, example in enumerate(examples, 1):
            exec(compile(example, f"example {number} of docs/python.md", "exec"), names)
    with Image.open(workplace / "seen.png") as picture:
        assert max(picture.size) >= 640
    assert len(names["results"]) == 12
    assert {record["image_id"] for record in names["records"]} == {7}
    assert names["first"].path == Path("runs/first")
    assert names["comparison"].names == ("first", "second")
    assert (workplace / "data/lt/annotations.json").is_file()
    assert (workplace / "data/parts/train.json").is_file()
    assert names["scores"].shape == (4, 21)
    assert printed.getvalue().splitlines()[-1].startswith("nowhere.jpg: no such image")


def cells(kind):
    content = json.loads((DOCS / "tour.ipynb").read_text(encoding="utf-8"))
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in content["cells"]}) == len(content["cells"])
    return [cell for cell in content["cells"] if cell["cell_type"] == kind]


def test_the_notebook_is_clean():
    """No outputs, which would differ from machine to machine; every link is to a page that is there."""
    for cell in cells("code"):
        assert (cell["outputs"], cell["execution_count"]) == ([], None)
        compile("".join(cell["source"]), "docs/tour.ipynb", "exec")
    text = "".join(line for cell in cells("markdown") for line in cell["source"])
    targets = re.findall(r"\]\(([^)#]+)", text)
    assert targets
    assert all((DOCS / target).is_file() for target in targets)


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    names = {}
    for number, cell in enumerate(cells("code"), 1):
        exec(compile("".join(cell["source"]), f"cell {number} of docs/tour.ipynb", "exec"), names)
    assert names["here"].parent == tmp_path
    assert len(names["found"].masks) == len(names["found"])
    assert (names["bags"].path / "eval/metrics.json").is_file()
