"""A user's own Keras model: opened without running its code, and looked at in both of its modes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones.preprocessing import preprocess
from pipeline.backbones.quiet import import_keras
from pipeline.batchnorm.layers import Norm, in_graph, norms_of
from pipeline.engines.base import Output
from pipeline.errors import UsageError

_CHANNELS = (1, 3)
_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow makes grey of RGB
_SIDE = 224


class TheirModel:
    """A ``.keras`` file as something that takes pixels; see `pipeline.engines.base.Engine`.

    Parameters
    ----------
    path
        The file. It is opened in Keras' safe mode: a layer of custom code is refused, not run.
    preprocessing
        Rule from pixels to the model's input; see :mod:`pipeline.backbones.preprocessing`.
    size
        Side of the square input where the model leaves it open.
    batch_size
        Images at once.

    Raises
    ------
    UsageError
        No such file, not a Keras model, one of custom code, or one that does not take images.
    """

    def __init__(
        self, path: Path, *, preprocessing: str = "none", size: int | None, batch_size: int
    ) -> None:
        self.model = _opened(path)
        self.height, self.width, self._channels = _input_of(self.model, path, size)
        self._rule = preprocessing
        self.norms = norms_of(self.model)
        self.name = path.name
        self.precision = "float32"
        self.batch_size = batch_size
        self.outputs = (Output(),)
        self._run = in_graph(self._rows)
        self.dims = (int(self(np.zeros((1, self.height, self.width, 3), np.uint8))[0].shape[1]),)

    def __call__(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        """Run at most ``batch_size`` images in inference mode: the first output, float32 (n, k)."""
        count = len(images)
        full = np.zeros((self.batch_size, self.height, self.width, 3), np.uint8)
        full[:count] = images
        return (self.numpy(self._run(self.tensor(full)))[:count],)

    def prepared(self, images: Any) -> Any:
        """Turn a batch of RGB pixels into the model's input."""
        inputs = preprocess(self._rule, images)
        if self._channels == 1:
            keras = import_keras()
            inputs = keras.ops.sum(inputs * np.asarray(_GREY, "float32"), axis=-1, keepdims=True)
        return inputs

    def called(self, images: Any, training: bool = False) -> Any:
        """Call the model with pixels, in one of its modes."""
        return self.model(self.prepared(images), training=training)

    def _rows(self, images: Any) -> Any:
        keras = import_keras()
        first = keras.tree.flatten(self.called(images))[0]
        return keras.ops.reshape(keras.ops.cast(first, "float32"), (self.batch_size, -1))

    def moved_by_fit(self, images: NDArray[np.uint8]) -> tuple[Norm, ...]:
        """Call the model as ``fit`` does, and list the layers whose statistics that moves.

        They are put back afterwards.
        """
        before = [norm.statistics for norm in self.norms]
        self.called(self.tensor(images[: self.batch_size]), training=True)
        pairs = tuple(zip(self.norms, before, strict=True))
        moved = tuple(norm for norm, was in pairs if not norm.statistics.equal(was))
        for norm, was in pairs:
            norm.set(was)
        return moved

    @staticmethod
    def tensor(images: NDArray[np.uint8]) -> Any:
        """Hand a batch to Keras' backend."""
        return import_keras().ops.convert_to_tensor(images)

    @staticmethod
    def numpy(tensor: Any) -> NDArray[np.float32]:
        """Take a tensor from Keras' backend."""
        return np.array(import_keras().ops.convert_to_numpy(tensor), np.float32)


@dataclass(frozen=True, slots=True)
class Modes:
    """What a model says of the same images by stored and by batch statistics.

    Attributes
    ----------
    differing
        Share of the images that it gives another label.
    stored, batch
        Share that is labelled right in each mode; None where the images have no labels, or are of
        another number of classes than the model has outputs. The classes are taken in the order of
        their names, as Keras' ``image_dataset_from_directory`` has them.
    """

    differing: float
    stored: float | None
    batch: float | None


def compare_modes(
    stored: NDArray[np.float32], batch: NDArray[np.float32], labels: Sequence[str] | None
) -> Modes:
    """Compare the outputs ``(n, k)`` of both modes; one output alone is the score of class two."""
    said = [_labels_of(rows) for rows in (stored, batch)]
    differing = float((said[0] != said[1]).mean())
    names, number = np.unique(np.array(labels or ()), return_inverse=True)
    if len(names) != max(2, stored.shape[1]):
        return Modes(differing, None, None)
    return Modes(differing, *(float((each == number).mean()) for each in said))


def pinned(model: Any) -> tuple[str, ...]:
    """List BatchNorm layers, and models that hold some, that are called with ``training=False``.

    Users take that for a protection. In Keras 3 it is none: the mode of the outer call, which in
    ``fit`` is training, takes its place.
    """
    norm = import_keras().layers.BatchNormalization
    return tuple(
        layer.name
        for layer in getattr(model, "layers", ())
        if any(node.arguments.kwargs.get("training") is False for node in layer._inbound_nodes)
        if isinstance(layer, norm) or norms_of(layer)
    )


def _labels_of(rows: NDArray[np.float32]) -> NDArray[np.int64]:
    if rows.shape[1] == 1:
        return (rows[:, 0] > 0.5).astype(np.int64)
    return np.asarray(rows.argmax(axis=1), np.int64)


def _opened(path: Path) -> Any:
    if not path.is_file():
        raise UsageError(f"there is no model file {path}")
    if path.suffix != ".keras":
        # Only this format has a safe mode that holds.
        raise UsageError(
            f"{path} is no .keras file: open it with the Keras that wrote it and save it as one, "
            'by model.save("model.keras")'
        )
    keras = import_keras()
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises nearly anything on bytes it does not expect
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"{path} cannot be opened in Keras' safe mode: {reason}") from error


def _input_of(model: Any, path: Path, size: int | None) -> tuple[int, int, int]:
    inputs: list[Any] = getattr(model, "inputs", None) or []
    shape: list[Any] = [*inputs[0].shape] if len(inputs) == 1 else []
    if len(shape) != 4 or shape[3] not in _CHANNELS:
        told = ", ".join(str(tuple(each.shape)) for each in inputs) or "nothing that is known"
        raise UsageError(f"{path} takes {told}: expected images, (batch, height, width, 1 or 3)")
    return shape[1] or size or _SIDE, shape[2] or size or _SIDE, shape[3]
