"""A trained model for Python: ``load("runs/bags").predict("street.jpg")``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal, cast, overload

import torch

from lt_data.annotations.category_ids import CategoryIds
from lt_data.errors import DataError, RecipeError, shown
from lt_data.groups import Group, group_name_of
from lt_train.data.images import as_input
from lt_train.evaluation import model_detections
from lt_train.inference.detect import Trained, load_trained, load_trained_file
from lt_train.inference.found import Found, Labels, found_in
from lt_train.inference.inputs import ImageInput, is_one_image, path_of, pixels_of
from lt_train.inference.kept import Kept
from lt_train.memory import named_memory
from lt_train.recipe.sections import Recipe
from lt_train.runs.directory import RunDir

Checkpoint = Literal["last", "best"]


def load(
    source: str | os.PathLike[str], *, device: str | torch.device = "auto", checkpoint: Checkpoint = "last"
) -> TrainedModel:
    """A trained model, ready to predict.

    Args:
        source: A run directory, or a checkpoint file of one.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        checkpoint: ``last`` or ``best``, of a run directory.

    Raises:
        DataError: There is no such run or checkpoint, or it cannot be used.
        RecipeError: The device does not exist here, or there is no checkpoint of that name.
    """
    if not isinstance(source, str | os.PathLike):
        raise DataError(f"load: got a {type(source).__name__}; allowed is the path of a run or a checkpoint")
    if checkpoint not in ("last", "best"):
        raise RecipeError(f"checkpoint: got {shown(checkpoint)}; allowed are last and best")
    path = Path(source)
    if path.is_file():
        if checkpoint != "last":
            raise RecipeError(f"checkpoint: {path} is a checkpoint itself; leave out checkpoint={checkpoint!r}")
        return TrainedModel(load_trained_file(path, device=str(device)))
    if not path.is_dir():
        raise DataError(f"{path}: no such run or checkpoint; a relative path starts at {Path.cwd()}")
    return TrainedModel(load_trained(RunDir(path), checkpoint, device=str(device)))


class TrainedModel:
    """A detector with the weights of a run; :func:`load` makes it.

    Any number of threads may predict with one model at the same time.
    """

    def __init__(self, trained: Trained) -> None:
        self._trained = trained
        self._ids = CategoryIds(trained.counts.category_ids.tolist())
        names = dict(zip(trained.counts.category_ids.tolist(), trained.counts.names, strict=True))
        self._labels = Labels(names, group_name_of(trained.groups), [group.name for group in trained.groups])
        trained.model.eval()

    def __repr__(self) -> str:
        """The detector, the method, how many categories, and the device."""
        recipe = self.recipe
        return f"TrainedModel({recipe.model.name}, {recipe.method}, {len(self.categories)} categories, {self.device})"

    @property
    def recipe(self) -> Recipe:
        """What it was trained with."""
        return self._trained.recipe

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self._trained.model.parameters()).device

    @property
    def categories(self) -> dict[int, str]:
        """Names by dataset id, in the order of the ids."""
        return dict(self._labels.names)

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups that it was trained with."""
        return self._trained.groups

    @property
    def has_masks(self) -> bool:
        """Whether it predicts masks."""
        return self._trained.model.has_masks

    @overload
    def predict(  # type: ignore[overload-overlap]
        self,
        images: ImageInput,
        *,
        batch: int = 1,
        threshold: float | None = None,
        class_agnostic_nms: float | None = None,
    ) -> Found: ...

    @overload
    def predict(
        self,
        images: Iterable[ImageInput],
        *,
        batch: int = 1,
        threshold: float | None = None,
        class_agnostic_nms: float | None = None,
    ) -> list[Found]: ...

    def predict(
        self,
        images: ImageInput | Iterable[ImageInput],
        *,
        batch: int = 1,
        threshold: float | None = None,
        class_agnostic_nms: float | None = None,
    ) -> Found | list[Found]:
        """Objects in an image, or in several in their order.

        Files and Pillow images are read as the run's own images were (``data.exif``, ``data.image_range``).

        Args:
            images: A path, a Pillow image, a uint8 array [H, W, 3] in RGB or [H, W] in gray, a uint8 tensor
                [3, H, W]; or a list or any other iterable of these.
            batch: Images in a forward pass. The images of a batch are padded to one size, which can change scores
                a little; one by one they do not depend on each other.
            threshold: Lowest score; the model's own (``model.score_threshold``) unless given.
            class_agnostic_nms: IoU of boxes above which the weaker of two goes, whatever their classes; within a class
                the model has done that.

        Returns:
            One :class:`~lt_train.inference.found.Found` for an image, a list of them for several.

        Raises:
            DataError: What was given is no image or cannot be read, or is an empty list.
            RecipeError: Another argument is out of range.
            OutOfMemory: The memory of the machine, or of its GPU, is not enough.
        """
        kept = _kept(batch, threshold, class_agnostic_nms)
        if is_one_image(images):
            return self._predict_batch([("image", images)], kept)[0]
        return list(self._each(cast(Iterable[ImageInput], images), batch, kept))

    def predict_each(
        self,
        images: Iterable[ImageInput],
        *,
        batch: int = 1,
        threshold: float | None = None,
        class_agnostic_nms: float | None = None,
    ) -> Iterator[Found]:
        """The same for any number of images, one after the other: no more than a batch of them is in memory.

        Args:
            images: Any iterable, such as a generator; taken from as results are asked for.
            batch: As for :meth:`predict`, as the other arguments.
            threshold: Likewise.
            class_agnostic_nms: Likewise.

        Returns:
            One result for each image, in their order.

        Raises:
            DataError: As for :meth:`predict`, when the image is reached.
            RecipeError: An argument is out of range.
        """
        if is_one_image(images):
            raise DataError("images: got one image; predict_each takes several, predict takes one")
        return self._each(images, batch, _kept(batch, threshold, class_agnostic_nms))

    def _each(self, images: Iterable[ImageInput], batch: int, kept: Kept) -> Iterator[Found]:
        named = ((f"images[{i}]", image) for i, image in enumerate(images))
        part = list(islice(named, batch))
        if not part:
            raise DataError("images: got none; give at least one")
        while part:
            yield from self._predict_batch(part, kept)
            part = list(islice(named, batch))

    def _predict_batch(self, images: Sequence[tuple[str, object]], kept: Kept) -> list[Found]:
        """What is in images, each with what to call it in a message."""
        reading, model = self.recipe.data.reading, self._trained.model
        pixels = [pixels_of(image, reading, where) for where, image in images]
        found = []
        with named_memory("predicting", "lower batch, or give smaller images"), torch.inference_mode():
            detections = model([as_input(image, self.device) for image in pixels])
            for (_, given), image, detection in zip(images, pixels, detections, strict=True):
                strong = kept.of(detection)
                height, width = image.shape[-2:]
                columns = model_detections(0, strong, height=height, width=width, category_ids=self._ids)
                corners = strong["boxes"].cpu().double().numpy()
                found.append(found_in(columns, corners, image, path_of(given), self._labels, reading))
        return found


def _kept(batch: int, threshold: float | None, nms: float | None) -> Kept:
    """What to keep, once the arguments are known to be in range."""
    if not isinstance(batch, int) or isinstance(batch, bool) or batch < 1:
        raise RecipeError(f"batch: got {shown(batch)}; allowed are whole numbers from 1")
    return Kept(0.0 if threshold is None else threshold, nms)
