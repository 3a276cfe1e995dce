"""Build every backbone and hold the table of facts against it (minutes, gigabytes).

``python tests/bench/check_backbones.py [NAME...]``: dimensions, BatchNorm, default, smallest size,
the weight file and hash that the installed Keras asks for, and that random weights give features of
sane size that tell two images apart. One line a backbone; exit code 1 where one differs.
"""

from __future__ import annotations

import gc
import sys
import warnings
from typing import Any

import numpy as np

from pipeline.backbones import BACKBONES, Backbone
from pipeline.backbones.network import construct, construct_classifier
from pipeline.backbones.preprocessing import preprocess
from pipeline.backbones.quiet import import_keras
from pipeline.backbones.random_weights import set_random_weights


class Asked(Exception):
    """Raised in place of a download, with what would have been fetched."""


def asked_file(row: Backbone) -> tuple[str, str]:
    """Name and hash of the file that Keras would fetch."""
    from keras.src.utils import file_utils

    keras = import_keras()
    original = file_utils.get_file

    def get_file(fname: str, *_: Any, file_hash: str | None = None, **__: Any) -> None:
        raise Asked(fname, file_hash or "")

    file_utils.get_file = get_file
    try:
        builder = getattr(keras.applications, row.builder.rsplit(".", 1)[1])
        builder(weights="imagenet", include_top=False, input_shape=(224, 224, 3))
    except Asked as asked:
        return asked.args
    finally:
        file_utils.get_file = original
    return "", ""


def differences(row: Backbone) -> list[str]:
    keras = import_keras()
    found: list[str] = []
    small = construct(row, row.min_size)
    if small.output_shape[1] < 1:
        found.append(f"no map left at {row.min_size}")
    model = construct(row, max(row.min_size, 96))
    kinds = {type(layer) for layer in model._flatten_layers()}
    if (keras.layers.BatchNormalization in kinds) != row.batchnorm:
        found.append("BatchNorm")
    if model.output_shape[-1] != row.dims:
        found.append(f"dims {model.output_shape[-1]}")
    if row.weights_file:
        size = construct_classifier(row).input_shape[1]
        # MobileNetV3 leaves its size open and says that its weights are those of 224.
        if size != row.size and not (size is None and row.size == 224):
            found.append(f"default size {size}")
        if asked_file(row) != (row.weights_file, row.weights_hash):
            found.append(f"file {asked_file(row)}")
    set_random_weights(model, row, 0)
    coarse = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    pixels = coarse.repeat(12, axis=1).repeat(12, axis=2)
    inputs = preprocess(row.preprocessing, keras.ops.convert_to_tensor(pixels))
    maps = keras.ops.convert_to_numpy(model(inputs, training=False))
    features = maps.mean(axis=(1, 2))
    spread = features.std(axis=0).mean() / features.std()
    print(f"  features {features.mean():9.3g} +- {features.std():9.3g}, images differ {spread:.3f}")
    if not np.isfinite(features).all() or not 1e-3 < features.std() < 1e18 or spread < 0.01:
        found.append("random features")
    return found


def main(names: list[str]) -> int:
    warnings.simplefilter("ignore")
    failed = 0
    for name in names or list(BACKBONES):
        found = differences(BACKBONES[name])
        failed += bool(found)
        print(f"{name}: {'; '.join(found) or 'as the table says'}", flush=True)
        import_keras().backend.clear_session()
        gc.collect()
    print(f"{failed} of {len(names or BACKBONES)} differ")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
