"""Making features: what is kept, going on after an end, damage, and what is refused."""

import json
import multiprocessing
import os
import re
import shutil
from collections import namedtuple

import numpy as np
import pytest
import torch

from lt_data.errors import DataError, OutputError
from lt_train.data.images import as_input, read_image
from lt_train.engine.fit import fit
from lt_train.evaluation.measure import Choices
from lt_train.features import cache as making
from lt_train.features import sizes
from lt_train.features.cache import cache_run
from lt_train.features.columns import as_kept
from lt_train.features.image_files import check_images
from lt_train.features.layout import read_manifest
from lt_train.features.reading import Cache
from lt_train.features.systems import evaluate_from_features
from lt_train.inference.detect import load_trained
from lt_train.processes import Processes


def files(folder):
    """The bytes of every shard, by name."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.glob("shard-*/*"))}


@pytest.fixture
def small_shards(monkeypatch):
    """Three images a shard."""
    monkeypatch.setattr(making, "images_per_shard", lambda size: 3)


def test_an_image_alone_gives_what_is_kept(softmax_run, exact, tiny_pool):
    """Against torchvision's own calls, step by step."""
    cache, model = Cache(exact / "val", read_manifest(exact / "val")), load_trained(softmax_run, "last").model.eval()
    found = cache.find(4)
    names = {i["id"]: i for i in json.loads((tiny_pool / "annotations.json").read_text())["images"]}
    image = names[int(found.columns["images"][found.version])]
    path = tiny_pool / "images" / image["file_name"]
    with torch.no_grad():
        batch, _ = model.transform([as_input(read_image(path, (0, 0)), torch.device("cpu"))])
        maps = model.backbone(batch.tensors)
        (proposals,), _ = model.rpn(batch, maps)
        wanted = model.roi_heads.box_head(model.roi_heads.box_roi_pool(maps, [proposals], batch.image_sizes))
    np.testing.assert_allclose(found.columns["s0.boxes"][found.candidates], proposals, rtol=1e-5, atol=1e-4)
    kept = torch.from_numpy(np.array(found.columns["s0.features"][found.kept]))
    assert (kept < 0).any()
    torch.testing.assert_close(kept.relu(), wanted, rtol=1e-4, atol=1e-5)


def test_pool_holds_every_positive_and_as_many_negatives_as_a_draw_wants(softmax_run, exact, tmp_path):
    """64 regions are drawn of an image, 16 positives at most."""
    cache_run(softmax_run.path, tmp_path, pool=70)
    pooled, whole = (Cache(out / "train", read_manifest(out / "train")) for out in (tmp_path, exact))
    assert pooled.manifest.dtype == "float16"
    for row in range(12):
        for flipped in (False, True):
            one, other = pooled.find(row, flipped=flipped), whole.find(row, flipped=flipped)
            labels = one.columns["s0.labels"][one.candidates]
            np.testing.assert_array_equal(labels, other.columns["s0.labels"][other.candidates])
            places = one.columns["s0.places"][one.kept]
            positives = np.flatnonzero(labels > 0)
            assert (np.diff(places) > 0).all()
            assert set(positives) <= set(places)
            number = max(70 - len(positives), 64 - min(16, len(positives)))
            assert (labels[places] == 0).sum() == min(number, (labels == 0).sum())
            iou = one.columns["s0.iou"][one.candidates]
            assert (iou[positives] >= 0.5).all()
            assert (iou[labels == 0] < 0.5).all()
            kept = other.columns["s0.features"][other.kept][places]
            equal = np.isclose(one.columns["s0.features"][one.kept], kept, rtol=2e-3, atol=2e-3).all(axis=1)
            assert equal[np.isin(places, positives)].all()
            # proposals whose scores are nearly equal may change places
            assert equal.mean() > 0.95


def test_what_was_interrupted_goes_on_and_damage_is_found_and_mended(softmax_run, small_shards, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(making, "WORTH_TIMING", 1)
    cache_run(softmax_run.path, tmp_path / "whole", tell=told.append)
    assert re.search(r"4 shards to compute, 12 images, \d+\.\d\d s each: about 0:00:", told[1])
    wanted = files(tmp_path / "whole" / "train")
    assert "12 training images upright and mirrored, 1,024 regions of each in float16: about" in told[0]
    write, written = making.write_shard, []

    def interrupted(folder, columns):
        if len(written) == 2:
            # what a kill leaves of a shard that is being written
            folder.with_name(f".{'0' * 8}-{folder.name}").mkdir()
            raise KeyboardInterrupt
        written.append(folder)
        write(folder, columns)

    monkeypatch.setattr(making, "write_shard", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache_run(softmax_run.path, tmp_path / "again")
    monkeypatch.setattr(making, "write_shard", write)
    done = cache_run(softmax_run.path, tmp_path / "again", tell=told.append)
    assert done.computed == 2
    assert any("2 of 4 shards are there" in line for line in told)
    assert files(done.path) == wanted
    assert cache_run(softmax_run.path, tmp_path / "again").computed == 0
    damaged = done.path / "shard-00001" / "s0.features.npy"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    shutil.rmtree(done.path / "shard-00003")
    told.clear()
    mended = cache_run(softmax_run.path, tmp_path / "again", repair=True, tell=told.append)
    assert mended.computed == 2
    assert [line.split(":")[0].rpartition("/")[2] for line in told if "is damaged or missing" in line] == [
        "shard-00001", "shard-00003"
    ]  # fmt: skip
    assert files(done.path) == wanted


def test_features_of_another_kind_are_not_written_over(softmax_run, exact, tmp_path):
    with pytest.raises(OutputError, match="dtype was float32, is now float16; choose another --out"):
        cache_run(softmax_run.path, exact)
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds files that are no features \(notes.txt\)"):
        cache_run(softmax_run.path, tmp_path, force=True)
    with pytest.raises(OutputError, match="--repair is for features that exist"):
        cache_run(softmax_run.path, tmp_path / "new", repair=True)
    with pytest.raises(DataError, match="image 7: a feature is not finite in float16; keep float32 with --exact"):
        as_kept({"images": np.array(7), "s0.features": np.full((1, 2), 1e6, np.float32)}, "float16")


def test_whoever_has_other_weights_is_told_which_to_start_from(softmax_run, tmp_path):
    best = softmax_run.path / "checkpoints" / "best.pt"
    assert cache_run(softmax_run.path, tmp_path, part="val", checkpoint="best").manifest.made_by == str(best)
    assert cache_run(softmax_run.path, tmp_path / "last", part="val").manifest.made_by == str(softmax_run.path)


def test_features_are_replaced_when_asked(softmax_run, tmp_path):
    """Even where nobody can say what they were."""
    done = cache_run(softmax_run.path, tmp_path)
    before = files(done.path)
    (done.path / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="make the features again with --force"):
        cache_run(softmax_run.path, tmp_path)
    assert cache_run(softmax_run.path, tmp_path, force=True).computed == 1
    assert files(done.path) == before


def test_a_disk_without_room_is_said_before_the_start(softmax_run, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(sizes.shutil, "disk_usage", lambda path: usage(10**6, 10**6, 1000))
    with pytest.raises(OutputError, match=r"needs about [\d.]+ MB, 0.0 MB are free; make room"):
        cache_run(softmax_run.path, tmp_path / "features")
    assert not list((tmp_path / "features").rglob("shard-*"))


def test_no_process_outlives_an_error(tiny_recipe, tmp_path, monkeypatch):
    def fail(*_):
        raise DataError("not finite")

    run = fit(
        tiny_recipe("data.workers=1", "data.val=null", "schedule.iterations=1", "schedule.decay=[]"), tmp_path / "run"
    )
    monkeypatch.setattr(making, "as_kept", fail)
    before = set(multiprocessing.active_children())
    # kept, and with it every name on the way to it
    with pytest.raises(DataError, match="not finite") as error:
        cache_run(run.path, tmp_path / "features")
    assert error.traceback
    assert set(multiprocessing.active_children()) == before


def test_images_that_cannot_be_read_are_left_out_where_the_recipe_says_so(tiny_pool, tiny_recipe, tmp_path):
    pool = shutil.copytree(tiny_pool, tmp_path / "pool")
    skip = (f"data.train.images={pool / 'images'}", "data.on_bad_image=skip", "data.val=null", "schedule.iterations=6")
    baseline = fit(tiny_recipe(*skip), tmp_path / "softmax")
    names = {i["file_name"]: i["id"] for i in json.loads((pool / "annotations.json").read_text())["images"]}
    broken = min(names)
    (pool / "images" / broken).write_bytes(b"")
    told = []
    done = cache_run(baseline.path, tmp_path / "features", tell=told.append)
    assert [line for line in told if "left out" in line and broken in line]
    found = Cache(done.path, done.manifest).find(0)
    assert found.candidates.start == found.candidates.stop
    recipe = tiny_recipe(*skip, "method=crt", "sampler.name=shuffle")
    run = fit(recipe, tmp_path / "run", init_from=baseline.path, from_features=tmp_path / "features")
    assert f"left out: image {names[broken]}: could not be read when" in run.log.read_text()
    stop = tiny_recipe(*skip, "data.on_bad_image=stop", "method=crt", "sampler.name=shuffle")
    with pytest.raises(DataError, match="set data.on_bad_image=skip, or mend it and make the features again"):
        fit(stop, tmp_path / "stop", init_from=baseline.path, from_features=tmp_path / "features")


def test_changed_images_are_named_whatever_their_time_and_copies_are_the_same(
    tiny_pool, tiny_recipe, small_shards, tmp_path
):
    """A file with another time is compared by its bytes, once."""
    pool = shutil.copytree(tiny_pool, tmp_path / "pool")
    files_of = json.dumps({"annotations": str(pool / "annotations.json"), "images": str(pool / "images")})
    recipe = tiny_recipe(f"data.train={files_of}", f"data.val={files_of}", "schedule.iterations=1", "schedule.decay=[]")
    run, features = fit(recipe, tmp_path / "run"), tmp_path / "features"
    for part in ("train", "val"):
        cache_run(run.path, features, part=part)
    # what features have just been made of was compared
    noted = json.loads((features / "val" / "images.json").read_text())
    images = sorted((pool / "images").iterdir())
    assert noted == {str(image): [image.stat().st_size, image.stat().st_mtime_ns] for image in images}
    later = ("method=crt", f"data.train={files_of}", f"data.val={files_of}", "schedule.iterations=1")

    def use(out):
        return fit(tiny_recipe(*later, "schedule.decay=[]"), tmp_path / out, init_from=run.path, from_features=features)

    changed = images[5]
    original = changed.read_bytes()
    os.utime(changed, ns=(1, 1))
    use("copied")
    assert json.loads((features / "val" / "images.json").read_text())[str(changed)] == [len(original), 1]
    changed.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    with pytest.raises(DataError) as caught:
        use("changed")
    (line,) = caught.value.problems
    assert line.startswith(
        f"{features / 'train'}: {changed} is not the file that the features were made of (other bytes "
    )
    changed.write_bytes(original + b"!")
    images[7].write_bytes(images[7].read_bytes() + b"!")
    with pytest.raises(DataError, match=rf"\({len(original) + 1:,} bytes, then .*\), and 1 others; put the files back"):
        evaluate_from_features(run.path, features, choices=Choices(boxes_only=True))
    # nor are other shards added to those of other images
    shutil.rmtree(features / "val" / "shard-00003")
    with pytest.raises(DataError, match="is not the file that the features were made of"):
        cache_run(run.path, features, part="val")
    # features of an older version have nothing to compare with
    for column in features.glob("train/shard-*/file_*.npy"):
        column.unlink()
    read = Cache(features / "train", read_manifest(features / "train"))
    check_images(read, [], Processes())
