"""Pictures of a dataset: what is drawn and counted, that text fits from 24 to 1,230 categories, and what is refused."""

import errno
import shutil

import pytest
from PIL import Image

from lt_data.build.coco_lt import build_coco_lt
from lt_data.build.report import format_build
from lt_data.dataset.options import BuildOptions
from lt_data.errors import DataError, OutputError
from lt_data.pictures.dataset import KINDS, format_plots, plot_dataset
from tests.lt_data.pools import pool, save
from tests.lt_data.told import Told

NAMES = {1: "cat", 3: "dog", 4: "$1 coin$", 9: "owl"}
IMAGES = {10: [1, 1, 3], 11: [1, (3, "crowd")], 12: [1, 3, 4], 13: [4, 1], 14: []}


@pytest.fixture
def annotations(tmp_path):
    return save(pool(IMAGES, categories=[1, 3, 4, 9], names=NAMES), tmp_path / "pool.json")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A dataset directory with groups of its own."""
    folder = tmp_path_factory.mktemp("dataset")
    coco = save(pool(IMAGES, names=NAMES), folder / "pool.json")
    options = BuildOptions(scale="0.001", edges=(2, 4), on_shortage="cap")
    build_coco_lt(coco, folder / "lt", options=options)
    return folder / "lt"


@pytest.fixture
def undrawn(monkeypatch):
    """From a call on, figures are made but not written: drawing them is what takes long."""
    return lambda: monkeypatch.setattr("lt_data.pictures.dataset.write_figure", lambda figure, path: path.touch())


def test_every_kind_is_drawn_for_a_dataset_directory(dataset, tmp_path):
    plots = plot_dataset(dataset, "all", tmp_path / "new" / "out")
    assert plots.left_out == ()
    assert [p.name for p in plots.files] == [f"{kind}{end}" for kind in KINDS for end in (".png", ".svg")]
    assert sorted(p.name for p in (tmp_path / "new" / "out").iterdir()) == sorted(p.name for p in plots.files)
    for path in plots.files:
        if path.suffix == ".png":
            with Image.open(path) as picture:
                assert len(picture.convert("RGB").getcolors(1 << 22) or []) > 20
    # letters are outlines in an SVG, with the text beside them as a comment
    assert "[2, 4)" in (tmp_path / "new/out/counts.svg").read_text(encoding="utf-8")
    assert "[10, 100)" not in (tmp_path / "new/out/counts.svg").read_text(encoding="utf-8")
    assert "lvis-v0.5 (reference)" in (tmp_path / "new/out/alignment.svg").read_text(encoding="utf-8")
    assert format_plots(plots).count("written: ") == 10


def test_the_same_bytes_again_and_only_with_force(annotations, tmp_path):
    out = tmp_path / "out"
    first = {p.name: p.read_bytes() for p in plot_dataset(annotations, "counts", out).files}
    with pytest.raises(OutputError, match=r"counts\.png: exists \(and 1 more\)"):
        plot_dataset(annotations, "counts", out)
    again = {p.name: p.read_bytes() for p in plot_dataset(annotations, "counts", out, force=True).files}
    assert again == first
    with pytest.raises(OutputError, match="exists"):
        plot_dataset(annotations, "all", out)


def test_all_says_what_an_annotation_file_cannot_show(annotations, tmp_path, undrawn):
    told = Told()
    undrawn()
    plots = plot_dataset(annotations, "all", tmp_path / "out", edges=[2], progress=told)
    assert len(plots.files) == 8
    assert [line.split(":")[0] for line in plots.left_out] == ["alignment"]
    assert "left out: alignment: " in format_plots(plots)
    assert told.steps[0].startswith("reading ")
    with pytest.raises(DataError, match=r"pool\.json: not a dataset directory"):
        plot_dataset(annotations, "alignment", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_one_category_with_images_has_no_pairs(tmp_path):
    path = save(pool({1: [5]}, categories=[5, 6]), tmp_path / "pool.json")
    with pytest.raises(DataError, match="pairs need two"):
        plot_dataset(path, "co-occurrence", tmp_path / "out")


def test_crowds_alone_are_nothing_to_draw(tmp_path):
    path = save(pool({1: [(5, "crowd")]}), tmp_path / "pool.json")
    with pytest.raises(DataError) as error:
        plot_dataset(path, "all", tmp_path / "out")
    assert len(error.value.problems) == len(KINDS)
    assert "no category has a non-crowd annotation" in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "edges", "message"),
    [("pie", None, "--kind: got 'pie'; allowed are alignment, counts"), ("counts", [5, 5], "ascending order")],
)
def test_unknown_kinds_and_edges_are_refused(annotations, tmp_path, kind, edges, message):
    with pytest.raises(DataError, match=message):
        plot_dataset(annotations, kind, tmp_path / "out", edges=edges)


def test_groups_may_be_made_by_images_or_by_frequency(annotations, tmp_path, undrawn):
    def text(by, edges):
        plot_dataset(annotations, "groups", tmp_path / by, edges=edges, by=by)
        return (tmp_path / by / "groups.svg").read_text(encoding="utf-8")

    assert "training images per category" in text("images", (2, 4))
    drawn = text("frequency", None)
    assert "LVIS frequency of a category" in drawn
    assert "frequent" in drawn
    with pytest.raises(DataError, match="--groups: .* leave it out, or use --by images"):
        plot_dataset(annotations, "groups", tmp_path / "no", edges=(2, 4), by="frequency")
    # the other pictures have bands by these bounds
    undrawn()
    assert plot_dataset(annotations, "all", tmp_path / "all", edges=(2, 4), by="frequency").files
    with pytest.raises(DataError, match="--by: got 'area'"):
        plot_dataset(annotations, "groups", tmp_path / "no", by="area")


def test_a_directory_that_no_build_wrote_has_the_default_groups(annotations, tmp_path, undrawn):
    (tmp_path / "pool").mkdir()
    annotations.rename(tmp_path / "pool/annotations.json")
    plot_dataset(tmp_path / "pool", "counts", tmp_path / "out")
    assert "[10, 100)" in (tmp_path / "out/counts.svg").read_text(encoding="utf-8")
    undrawn()
    plots = plot_dataset(tmp_path / "pool", "all", tmp_path / "all")
    assert [line.split(":")[0] for line in plots.left_out] == ["alignment"]


def test_paths_that_hold_no_dataset_are_refused(annotations, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no annotations\.json in it"):
        plot_dataset(tmp_path / "empty", "counts", tmp_path / "out")
    with pytest.raises(DataError, match="not a dataset directory"):
        plot_dataset(tmp_path / "empty", "alignment", tmp_path / "out")
    with pytest.raises(OutputError, match="is a file"):
        plot_dataset(annotations, "counts", annotations)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("target", "goal", "not the table of a build"),
        ("\n1,cat,1,", "\n1,cat,one,", "not the table of a build"),
        ("\n1,cat,1,5", "\n1,cat,1,-5", "out of range"),
        (None, "category_id,name\n", "no category is listed"),
    ],
)
def test_a_damaged_table_of_categories_is_told(dataset, tmp_path, old, new, message):
    copy = shutil.copytree(dataset, tmp_path / "copy")
    table = copy / "categories.csv"
    text = table.read_text(encoding="utf-8")
    assert old is None or old in text
    table.write_text(new if old is None else text.replace(old, new), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        plot_dataset(copy, "alignment", tmp_path / "out")


def test_alignment_without_a_reference_draws_the_targets(dataset, tmp_path):
    copy = shutil.copytree(dataset, tmp_path / "copy")
    rows = [line.split(",") for line in (copy / "categories.csv").read_text(encoding="utf-8").splitlines()]
    place = [rows[0].index(name) for name in ("reference_rank", "reference_instances")]
    lines = [",".join("" if i in place else cell for i, cell in enumerate(row)) for row in rows[1:]]
    (copy / "categories.csv").write_text("\n".join([",".join(rows[0]), *lines, ""]), encoding="utf-8")
    plot_dataset(copy, "alignment", tmp_path / "out")
    drawn = (tmp_path / "out/alignment.svg").read_text(encoding="utf-8")
    assert "instances per category: pool, target, realised" in drawn
    assert "reference rank taken" not in drawn


def test_alignment_of_explicit_targets_says_what_the_build_says(tmp_path, monkeypatch):
    """A category with a target and no instance is wanted and short too, in the build's picture and in ``plot``'s."""
    import lt_data.pictures.figures as module

    content = pool({i: [1, 1, 2] for i in range(1, 5)}, categories=[1, 2, 3, 4])
    (tmp_path / "t.csv").write_text("category_id,target\n1,3\n2,5\n3,5\n4,0\n")
    figures = []
    monkeypatch.setattr(module, "save_figure", lambda figure, path: figures.append(figure) or path.touch())
    out = tmp_path / "lt"
    cap = BuildOptions(on_shortage="cap")
    build = build_coco_lt(save(content, tmp_path / "p.json"), out, targets=tmp_path / "t.csv", options=cap)
    assert "capped: 2 categories, 1 of them without any" in format_build(build)
    plot_dataset(out, "alignment", tmp_path / "plots")
    (panel,) = figures[0].axes
    labels = [text.get_text() for text in panel.get_legend().get_texts()]
    assert labels[1:] == ["target (13 instances)", "realised (7 instances)", "short of instances (2 categories)"]
    drawn = (tmp_path / "plots/alignment.svg").read_text(encoding="utf-8")
    assert all(label in drawn for label in labels)


def test_a_failure_while_writing_leaves_the_folder_as_it_was(annotations, tmp_path, monkeypatch):
    import lt_data.pictures.dataset as module

    written = []

    def full(figure, path):
        if len(written) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        path.write_bytes(b"picture")

    monkeypatch.setattr(module, "write_figure", full)
    out = tmp_path / "out"
    with pytest.raises(OutputError, match=r"out: cannot be written \(No space left on device\)"):
        plot_dataset(annotations, "counts", out)
    assert not out.exists()
    out.mkdir()
    (out / "counts.png").write_bytes(b"old")
    written.clear()
    with pytest.raises(OutputError, match="No space left"):
        plot_dataset(annotations, "counts", out, force=True)
    assert [(p.name, p.read_bytes()) for p in out.iterdir()] == [("counts.png", b"old")]


def test_a_frequency_field_that_says_otherwise_is_noted(tmp_path):
    content = pool(IMAGES, names=NAMES)
    for category in content["categories"]:
        category["frequency"] = "f"
    plot_dataset(save(content, tmp_path / "lvis.json"), "images-per-class", tmp_path / "out")
    drawn = (tmp_path / "out/images-per-class.svg").read_text(encoding="utf-8")
    assert "the file's own frequency field says 0 rare, 0 common, 3 frequent" in drawn
