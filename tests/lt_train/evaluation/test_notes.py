"""What an evaluation says of annotations and predictions that it measures all the same."""

import json

import pytest
from click.testing import CliRunner
from lt_cli.train import main

from lt_data.errors import DataError
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


def without_negatives(content):
    for image in content["images"]:
        del image["neg_category_ids"]


def half_of_each(content):
    for number, image in enumerate(content["images"]):
        del image["neg_category_ids" if number % 2 else "not_exhaustive_category_ids"]


@pytest.mark.parametrize("spoil", [without_negatives, half_of_each])
def test_an_lvis_file_in_which_no_image_has_both_lists(tmp_path, spoil):
    content = lvis()
    spoil(content)
    (line,) = measured(tmp_path, content, results(content)).warnings
    assert line.startswith("val.json: 6 of 6 images lack neg_category_ids or not_exhaustive_category_ids")


@pytest.mark.parametrize("wrong", [["yak"], [2**63], [7.5], "[7]"])
def test_lists_that_hold_no_ids_stop_only_who_reads_them(tmp_path, wrong):
    content = lvis()
    # the images stand in another order than their ids
    content["images"].reverse()
    content["images"][1]["neg_category_ids"] = wrong
    result = measured(tmp_path, content, results(content))
    (line,) = result.warnings
    assert "1 of 6 images lack" in line
    assert "or hold no category ids there (images[1]: " in line
    assert measured(tmp_path, content, results(content), choices=Choices(protocol="coco")).warnings == ()
    with pytest.raises(DataError, match=r"not every image has .*\(images\[1\]: "):
        measured(tmp_path, content, results(content), choices=Choices(protocol="lvis"))


def test_lists_of_whole_floats_are_lists(tmp_path):
    content = lvis()
    for image in content["images"]:
        image["neg_category_ids"] = [7.0]
    result = measured(tmp_path, content, results(content))
    assert result.metrics["protocol"] == "lvis"
    assert result.warnings == ()


@pytest.mark.parametrize("letters", [("r", None), ("r", "F"), ("R", "C"), ("r", 3)])
def test_a_frequency_that_one_category_lacks(tmp_path, letters):
    content = lvis()
    for category, letter in zip(content["categories"], letters, strict=True):
        category["frequency"] = letter
    lines = measured(tmp_path, content, results(content)).warnings
    count = sum(letter not in ("r", "c", "f") for letter in letters)
    assert lines[0].startswith(f"val.json: {count} of 2 categories have no usable frequency")
    assert "APr, APc and APf are not measured" in lines[0]
    (tmp_path / "counts.csv").write_text("category_id,instances,images\n3,500,5\n7,500,500\n")
    lines = measured(tmp_path, content, results(content), train_counts=tmp_path / "counts.csv").warnings
    assert "APr, APc and APf are those of the training set" in lines[0]


def test_images_of_annotations_without_a_box_are_named_once(tmp_path):
    content = truth()
    found = results(content)
    for annotation in content["annotations"][:7]:
        del annotation["bbox"]
    with pytest.raises(DataError, match=r"7 annotations have no bbox \(in images 1, 2\)"):
        measured(tmp_path, content, found)


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


@pytest.mark.parametrize(
    ("area", "says"), [(0, "are not above 0"), (-1, "are not above 0"), (1e12, "are above 10,000")]
)
@pytest.mark.parametrize("every", [1, 10])
def test_areas_that_take_objects_out_of_figures(tmp_path, area, says, every):
    content = truth()
    for annotation in content["annotations"][::every]:
        annotation["area"] = area
    lines = measured(tmp_path, content, results(content)).warnings
    assert sum(f"val.json: {36 // every + (every > 1)} of 36 areas {says}" in line for line in lines) == 1


def test_areas_that_contradict_and_boxes_without_a_size(tmp_path):
    content = truth()
    found = results(content)
    content["annotations"][0]["bbox"] = [1, 1, 0, 5]
    for annotation in content["annotations"]:
        annotation["area"] = 25_000
    (line,) = measured(tmp_path, content, found).warnings
    assert line.startswith("val.json: 35 of 35 areas contradict their boxes")


def outlined(content, scale=1.0, shift=0.0):
    """The same with a polygon along each box."""
    for record in content["annotations"] if isinstance(content, dict) else content:
        x, y, w, h = record["bbox"]
        outline = [x, y, x + w, y, x + w, y + h, x, y + h]
        record["segmentation"] = [[shift + v / scale for v in outline]]
    return content


def test_masks_that_are_fractions_of_their_image(tmp_path):
    sound = outlined(truth())
    assert measured(tmp_path, sound, outlined(results(truth()))).warnings == ()
    (line,) = measured(tmp_path, outlined(truth(), 640.0), outlined(results(truth()))).warnings
    assert line.startswith("val.json: 36 of 36 masks have polygons that lie within 0..1")
    (line,) = measured(tmp_path, sound, outlined(results(truth()), 640.0)).warnings
    assert line.startswith("found.json: 36 of 36 masks have polygons that lie within 0..1")


def test_masks_outside_their_boxes(tmp_path):
    content = outlined(truth())
    outlined(content["annotations"][::2], shift=40.0)
    (line,) = measured(tmp_path, content, outlined(results(truth()))).warnings
    assert line.startswith("val.json: 18 of 36 masks lie outside their box")
    found = outlined(results(truth()))
    outlined(found[::2], shift=40.0)
    (line,) = measured(tmp_path, outlined(truth()), found).warnings
    assert line.startswith("found.json: 18 of 36 masks lie outside their box")


@pytest.mark.parametrize("mask", [[[5, 5, 5, 5, 5, 5]], {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}])
def test_masks_without_a_pixel_are_none(tmp_path, mask):
    content = outlined(truth())
    content["annotations"][4]["segmentation"] = mask
    with pytest.raises(DataError, match=r"1 of 36 annotations \(ids 5\) have a mask without a pixel"):
        measured(tmp_path, content, outlined(results(truth())))


def test_an_outline_whose_halves_cancel_is_a_mask(tmp_path):
    content = outlined(truth())
    content["annotations"][0]["segmentation"] = [[5, 5, 25, 25, 25, 5, 5, 25]]
    assert measured(tmp_path, content, outlined(results(truth()))).warnings == ()


def test_some_boxes_of_another_form(tmp_path):
    content = truth()
    for annotation in content["annotations"][::2]:
        x, y, w, h = annotation["bbox"]
        annotation["bbox"] = [x + 60, y, x + w, y + h]
    (line,) = measured(tmp_path, content, results(truth())).warnings
    assert "annotations lie outside" in line


def test_some_predictions_of_another_form(tmp_path):
    found = results(truth())
    for record in found[:30]:
        record["bbox"] = [v / WIDTH for v in record["bbox"]]
    (line,) = measured(tmp_path, truth(), found).warnings
    assert line.startswith("found.json: 30 of 36 boxes are narrower than one pixel")
    found = results(truth())
    for record in found[::3]:
        record["bbox"][0] += 200
    (line,) = measured(tmp_path, truth(), found).warnings
    assert line.startswith("found.json: 12 of 36 boxes lie outside their image, or far over its edge")


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
        masks = [a["segmentation"] for a in content["annotations"] if not a.get("iscrowd")]
        (tmp_path / "found.json").write_text(
            json.dumps([{**record, "segmentation": mask} for record, mask in zip(found, masks, strict=True)])
        )
        result = evaluate_predictions(tmp_path / "found.json", path)
        assert result.warnings == ()
        assert "segm" in result.metrics
