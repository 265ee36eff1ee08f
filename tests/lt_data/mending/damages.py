"""What is wrong with files and has one right answer: a function for each, on a file that is sound."""

import copy

import numpy as np

from tests.lt_data.pools import annotation, pool


def sound(seed=0):
    """A file without anything to find: four images, three categories, an object of each in every image."""
    rng = np.random.default_rng(seed)
    content = pool({i: [1, 2, 3] for i in (4, 7, 9, 12)}, names={1: "crate", 2: "barrel", 3: "sack"})
    content["annotations"] = []
    for number, (image, category) in enumerate([(i, c) for i in (4, 7, 9, 12) for c in (1, 2, 3)], start=1):
        x, y = (round(float(v), 2) for v in rng.uniform(1, 30, 2))
        content["annotations"].append(annotation(number, image, category, box=(x, y, 12.0 + category, 10.0)))
    return content


def quote_boxes(content):
    for row in content["annotations"][2:5]:
        row["bbox"] = [str(value) for value in row["bbox"]]


def quote_areas(content):
    content["annotations"][3]["area"] = str(content["annotations"][3]["area"])


def quote_sizes(content):
    for image in content["images"]:
        image["width"] = str(image["width"])


def quote_crowds(content):
    content["annotations"][6]["iscrowd"] = "0"


def name_by_number(content):
    content["categories"][1]["name"] = 10


def text_image_ids(content):
    for image in content["images"]:
        image["id"] = f"cam-{int(image['id'])}"
    for row in content["annotations"]:
        row["image_id"] = f"cam-{row['image_id']}"


def text_category_ids(content):
    for row in content["annotations"]:
        row["category_id"] = str(row["category_id"])


def float_ids(content):
    for key in ("images", "categories"):
        for row in content[key]:
            row["id"] = float(row["id"]) if isinstance(row["id"], int) else row["id"]


def huge_id(content):
    content["annotations"][0]["id"] = 2**60


def no_id(content):
    del content["annotations"][8]["id"]


def repeat_ids(content):
    content["annotations"][5]["id"] = content["annotations"][1]["id"]


def start_at_zero(content):
    content["annotations"][0]["id"] = 0


def flat_polygons(content):
    for row in content["annotations"]:
        row["segmentation"] = row["segmentation"][0]


def repeat_category(content):
    content["categories"].append(copy.deepcopy(content["categories"][0]))


def second_category(content):
    content["categories"].append({**content["categories"][0], "id": 77})
    content["annotations"][0]["category_id"] = 77


def second_image(content):
    content["images"].append({**content["images"][0], "id": 1000})
    content["annotations"][1]["image_id"] = 1000


def unlisted_image(content):
    content["annotations"].append(annotation(501, 12345, 1))


def unlisted_category(content):
    content["annotations"].append(annotation(502, 4, 999))


def no_box(content):
    content["annotations"][2]["bbox"] = None


def empty_box(content):
    content["annotations"][4]["bbox"][2] = 0


def loose_box(content):
    x, y, width, height = map(float, content["annotations"][7]["bbox"])
    content["annotations"][7]["bbox"] = [x / 2, y / 2, width + x / 2 + 3, height + y / 2 + 3]


def over_edge(content):
    content["annotations"].append(annotation(503, 7, 2, box=(50.0, 40.0, 20.0, 5.0)))


def wrong_area(content):
    content["annotations"][9]["area"] = 4000.0


def no_area(content):
    content["annotations"][10].pop("area")


def repeat_object(content):
    content["annotations"].append({**copy.deepcopy(content["annotations"][11]), "id": 504})


def root(content):
    for category in content["categories"]:
        category["supercategory"] = "things"
    content["categories"].insert(0, {"id": 0, "name": "things", "supercategory": "none"})


def empty_category(content):
    content["categories"].append({"id": 55, "name": "never seen"})


# in an order in which all of them can be done
DAMAGES = (
    *(quote_boxes, quote_areas, quote_sizes, quote_crowds, name_by_number, text_category_ids, float_ids, huge_id),
    *(no_id, repeat_ids, start_at_zero, flat_polygons, repeat_category, second_category, unlisted_category, no_box),
    *(empty_box, loose_box, over_edge, wrong_area, no_area, repeat_object, root, empty_category),
)
# these change what the image ids of others are, and exclude each other
OF_IMAGES = (second_image, unlisted_image, text_image_ids)
