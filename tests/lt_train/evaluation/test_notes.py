"""What an evaluation says of annotations and predictions that it measures all the same."""

import json

import pytest
from click.testing import CliRunner
from lt_cli.train import main

from lt_train.evaluation.measure import Choices, evaluate_predictions

WIDTH, HEIGHT = 100, 80


def truth(images=6):
    boxes = [[x, y, 25, 22.5] for x in (5, 35, 70) for y in (5, 50)]
    return {
        "images": [{"id": i, "width": WIDTH, "height": HEIGHT, "file_name": f"{i}.jpg"} for i in range(1, images + 1)],
        "categories": [{"id": 3, "name": "cup"}, {"id": 7, "name": "yak"}],
        "annotations": [
            {
                "id": 1 + 6 * i + n,
                "image_id": i + 1,
                "category_id": 3,
                "bbox": box,
                "area": 500,
                "iscrowd": 0,
            }
            for i in range(images)
            for n, box in enumerate(boxes)
        ],
    }


def lvis():
    content = truth()
    for image in content["images"]:
        image.update(neg_category_ids=[7], not_exhaustive_category_ids=[3])
    return content


def results(content, form=lambda x, y, w, h: [x, y, w, h]):
    return [
        {"image_id": a["image_id"], "category_id": 3, "bbox": form(*a["bbox"]), "score": 1 - a["id"] / 1000}
        for a in content["annotations"]
    ]


def measured(folder, content, found, **options):
    (folder / "val.json").write_text(json.dumps(content))
    (folder / "found.json").write_text(json.dumps(found))
    return evaluate_predictions(folder / "found.json", folder / "val.json", **options)


@pytest.mark.parametrize("content", [truth(), lvis()])
def test_sound_inputs_give_no_line(tmp_path, content):
    result = measured(tmp_path, content, results(content))
    assert result.warnings == ()
    assert result.metrics["bbox"]["AP"] == 1.0


@pytest.mark.parametrize(
    ("form", "says"),
    [
        (
            lambda x, y, w, h: [x, y, x + w, y + h],
            "found.json: 24 of 36 boxes reach beyond their image: are they x1, y1",
        ),
        (lambda x, y, w, h: [x + w / 2, y + h / 2, w, h], "24 of 36 boxes reach beyond their image: are they centres"),
        (lambda x, y, w, h: [x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT], "36 of 36 boxes lie within 0..1"),
    ],
)
def test_predictions_of_another_form_are_measured_with_a_line(tmp_path, form, says):
    (line,) = measured(tmp_path, truth(), results(truth(), form)).warnings
    assert says in line


def test_predictions_for_a_small_part_of_the_images(tmp_path):
    content = truth()
    found = [record for record in results(content) if record["image_id"] < 3]
    (line,) = measured(tmp_path, content, found).warnings
    assert line.startswith("found.json: only 2 of 6 images with annotations have a prediction")
    # images in which there is nothing to find count neither way
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] < 4]
    assert measured(tmp_path, content, found).warnings == ()


def test_an_lvis_file_in_which_some_images_lack_the_lists(tmp_path):
    content = lvis()
    del content["images"][2]["neg_category_ids"]
    content["images"][4]["not_exhaustive_category_ids"] = None
    result = measured(tmp_path, content, results(content))
    assert result.metrics["protocol"] == "coco"
    (line,) = result.warnings
    assert line.startswith("val.json: 2 of 6 images lack neg_category_ids or not_exhaustive_category_ids")
    assert measured(tmp_path, content, results(content), choices=Choices(protocol="coco")).warnings == ()


def test_lists_of_lvis_that_contradict_the_annotations(tmp_path):
    content = lvis()
    content["images"][0]["neg_category_ids"] = [3, 7, 90]
    annotated, unknown = measured(tmp_path, content, results(content)).warnings
    assert "1 neg_category_ids name a category that is annotated in that very image" in annotated
    assert (
        "1 entries of neg_category_ids and not_exhaustive_category_ids name categories that the file lacks (90)"
        in unknown
    )
    assert measured(tmp_path, content, results(content), choices=Choices(protocol="coco")).warnings == ()


CVAT = "; set iscrowd to 0 if they are objects: CVAT writes brush masks as crowds"


@pytest.mark.parametrize(("crowds", "what"), [(True, "annotation but crowds"), (False, "annotation")])
def test_annotations_on_which_nothing_can_be_measured(tmp_path, crowds, what):
    content = truth()
    found = results(content)
    content["annotations"] = [{**a, "iscrowd": 1} for a in content["annotations"]] if crowds else []
    result = measured(tmp_path, content, found)
    assert result.warnings == (f"val.json: has no {what}: nothing will be measured{CVAT if crowds else ''}",)
    assert result.metrics["bbox"]["AP"] is None


def test_areas_that_contradict_their_boxes(tmp_path):
    content = truth()
    for annotation in content["annotations"]:
        annotation["area"] = 25_000
    (line,) = measured(tmp_path, content, results(content)).warnings
    assert line.startswith("val.json: 36 of 36 areas contradict their boxes")


@pytest.mark.parametrize("masks", [True, False])
def test_areas_that_are_the_width_of_the_box(tmp_path, masks):
    """A mask says otherwise: thin objects have areas that small."""
    content = truth()
    for annotation in content["annotations"]:
        x, y, width, height = annotation["bbox"]
        annotation.update(area=width, segmentation=[[x, y, x + width, y + height, x, y + 1]] if masks else [])
    lines = measured(tmp_path, content, results(content)).warnings
    expected = "val.json: 36 of 36 areas contradict their boxes; APs, APm and APl of boxes go by the areas"
    assert lines == (() if masks else (expected,))


def test_the_command_prints_each_line_once_on_standard_error(tmp_path):
    content = truth()
    content["annotations"].append({**content["annotations"][0], "id": 999})
    measured(tmp_path, content, results(truth()))
    arguments = ["eval", "--predictions", tmp_path / "found.json", "--annotations", tmp_path / "val.json"]
    run = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert run.exit_code == 0
    lines = [line for line in run.stderr.splitlines() if line.startswith("warning: ")]
    assert len(lines) == 1
    assert "1 of 37 annotations repeat another of the same image, category and box" in lines[0]
    assert "warning" not in run.stdout


def test_keypoint_results_are_called_what_they_are(tmp_path):
    (tmp_path / "val.json").write_text(json.dumps(truth()))
    record = {"image_id": 1, "category_id": 3, "score": 0.5, "keypoints": [1, 2, 2]}
    (tmp_path / "found.json").write_text(json.dumps([record]))
    arguments = ["eval", "--predictions", tmp_path / "found.json", "--annotations", tmp_path / "val.json"]
    run = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert run.exit_code == 1
    assert "neither `bbox` nor `segmentation`" in run.output
    assert "keypoints alone are not measured" in run.output


def test_official_files_give_no_line(shared_data, tmp_path):
    files = [*sorted((shared_data / "coco_real/annotations").glob("*val2017*.json"))]
    for path in (*files, shared_data / "lvis_val_100/lvis_val_100.json"):
        content = json.loads(path.read_text())
        found = [
            {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 1 - n * 1e-5}
            for n, a in enumerate(content["annotations"])
            if not a.get("iscrowd")
        ]
        (tmp_path / "found.json").write_text(json.dumps(found))
        assert evaluate_predictions(tmp_path / "found.json", path).notes == ()
