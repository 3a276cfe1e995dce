"""The other ways to turn a folder of images into features, each with the same weights as ours.

A peer has two functions: its bare network on an array of pixels, and the whole way from files to a
`.npy` file. Each is what its documentation recommends for a CPU. They resize in their own ways, so
their features are compared with ours on the same pixels and not on the same files.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.assemble import assemble
from pipeline.backbones.build import build
from pipeline.backbones.preprocessing import preprocess
from pipeline.backbones.quiet import import_keras
from pipeline.config import usable_cores
from tests.bench.common import configured, in_batches

BATCH = 32

# Relative error, as a norm, within which features must be those of Keras in float32. Random weights
# magnify rounding: torch's bfloat16 is off by 0.12, at a cosine of 0.992.
FLOAT32, BFLOAT16 = 1e-3, 0.25


@dataclass(frozen=True)
class Peer:
    """One way to do it, ready to run.

    Attributes
    ----------
    network
        uint8 ``(n, size, size, 3)`` to float32 ``(n, dims)``.
    extract
        Writes the features of the images in a folder to a file.
    tolerance
        Relative error within which its features must be ours.
    network_of
        The peer that has the same network, if there is one: it is timed once.
    """

    network: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    extract: Callable[[Path, Path], None]
    tolerance: float = FLOAT32
    network_of: str | None = None


@dataclass(frozen=True)
class Offer:
    """A peer that may not be installed, or may not have the backbone."""

    needs: tuple[str, ...]
    make: Callable[[str], Peer]
    backbones: tuple[str, ...] = ()

    def obstacle(self, backbone: str) -> str | None:
        """Say why it cannot run, and what to do; None if it can."""
        missing = [name for name in self.needs if importlib.util.find_spec(name) is None]
        if missing:
            return f"needs {', '.join(missing)}: run it by `make bench`, or pip install them"
        if self.backbones and backbone not in self.backbones:
            return f"has {', '.join(self.backbones)} only"
        return None


@cache
def reference(backbone: str) -> tuple[Any, Any]:
    """Build the Keras network, and the model from pixels to pooled features around it."""
    keras = import_keras()
    assembly = assemble(configured(backbone, "keras", "float32"))
    size = assembly.recipe.size
    network = build(assembly.backbone, assembly.weights, size)
    pixels = keras.Input((size, size, 3))
    maps = network(preprocess(assembly.backbone.preprocessing, pixels), training=False)
    return network, keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(maps))


def keras_predict(backbone: str) -> Peer:
    """`keras.Model.predict` over `image_dataset_from_directory`, as tutorials do it."""
    keras = import_keras()
    _, model = reference(backbone)

    def extract(folder: Path, out: Path) -> None:
        size = model.input_shape[1:3]
        images = keras.utils.image_dataset_from_directory(
            folder, labels=None, image_size=size, batch_size=BATCH, shuffle=False, verbose=False
        )
        np.save(out, model.predict(images, verbose=0))

    return Peer(lambda x: model.predict(x, batch_size=BATCH, verbose=0), extract)


def tf_data(backbone: str) -> Peer:
    """A traced function over a `tf.data` pipeline that decodes in parallel and runs ahead."""
    import tensorflow as tf

    _, model = reference(backbone)
    size = model.input_shape[1:3]
    call = tf.function(lambda x: model(tf.cast(x, tf.float32), training=False))

    def load(path: Any) -> Any:
        pixels = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        return tf.image.resize(pixels, size)

    def extract(folder: Path, out: Path) -> None:
        images = tf.data.Dataset.from_tensor_slices([str(path) for path in files(folder)])
        images = images.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        images = images.batch(BATCH).prefetch(tf.data.AUTOTUNE)
        np.save(out, np.concatenate([call(batch).numpy() for batch in images]))

    return Peer(lambda x: in_batches(lambda b: call(b).numpy(), x, BATCH), extract)


def torch_peer(backbone: str, *, bfloat16: bool) -> Peer:
    """Torch with channels last, and a DataLoader whose workers decode with Pillow."""
    import torch

    model = torch_network(backbone)

    def network(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
            return model(x.contiguous(memory_format=torch.channels_last)).float().numpy()

    def extract(folder: Path, out: Path) -> None:
        loader = torch.utils.data.DataLoader(
            files(folder),  # type: ignore[arg-type]
            batch_size=BATCH,
            num_workers=usable_cores(),
            collate_fn=_stacked,
            multiprocessing_context="fork",
        )
        np.save(out, np.concatenate([network(batch) for batch in loader]))

    tolerance = BFLOAT16 if bfloat16 else FLOAT32
    return Peer(lambda x: in_batches(network, x, BATCH), extract, tolerance)


def onnx_runtime(backbone: str) -> Peer:
    """ONNX Runtime on the exported graph, fed by a pool of threads that decode with Pillow."""
    import onnxruntime
    import torch

    model = torch_network(backbone)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        example = torch.zeros(BATCH, 3, 224, 224)
        batch = {0: torch.export.Dim("n", min=1, max=1024)}
        torch.onnx.export(
            model, (example,), file, dynamo=True, dynamic_shapes=(batch,), verbose=False
        )
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()

    def network(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        x = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32)
        (rows,) = session.run(None, {given.name: x})
        return rows

    def extract(folder: Path, out: Path) -> None:
        with ThreadPoolExecutor(usable_cores()) as pool:
            rows = [network(batch) for batch in _ahead(pool, files(folder))]
        np.save(out, np.concatenate(rows))

    return Peer(lambda x: in_batches(network, x, BATCH), extract)


OFFERS: dict[str, Offer] = {
    "keras predict": Offer((), keras_predict),
    "tf.function": Offer((), tf_data),
    "onnx runtime": Offer(("torch", "onnxscript", "onnxruntime"), onnx_runtime, ("resnet50",)),
    "torch": Offer(("torch",), lambda b: torch_peer(b, bfloat16=False), ("resnet50",)),
    "torch bfloat16": Offer(("torch",), lambda b: torch_peer(b, bfloat16=True), ("resnet50",)),
}


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.jpg"))


@cache
def torch_network(backbone: str) -> Any:
    import torch

    from tests.bench.resnet50_torch import ResNet50

    torch.set_num_threads(usable_cores())
    network, _ = reference(backbone)
    return ResNet50(network).to(memory_format=torch.channels_last)


def _decoded(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC))


def _stacked(batch: Sequence[Path]) -> NDArray[np.uint8]:
    return np.stack([_decoded(path) for path in batch])


def _ahead(pool: ThreadPoolExecutor, paths: Sequence[Path]) -> Iterator[NDArray[np.uint8]]:
    """Decode batches in the pool, three ahead of the network."""
    batches = iter([paths[i : i + BATCH] for i in range(0, len(paths), BATCH)])
    pending = deque(pool.map(_decoded, batch) for batch in islice(batches, 3))
    while pending:
        images = np.stack(list(pending.popleft()))
        pending.extend(pool.map(_decoded, batch) for batch in islice(batches, 1))
        yield images
