"""efficientnet-lite0 and its checkpoint's own classifier on photographs of ImageNet classes.

``python tests/bench/lite0_top5.py FOLDER``: pictures below it whose names begin with a class that
ImageNet has (fruit, vegetables) are scored: how many have their class in the top 1, and top 5.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.backbones import backbone, resolve_weights
from pipeline.backbones.unpickle import load_tensors
from pipeline.engines.keras_engine import KerasEngine

# What a file's name says, and the ImageNet classes that are right for it. Corn is two of them: the
# plant's name and its ear.
CLASSES = {
    "cabbage": {936},
    "broccoli": {937},
    "cauliflower": {938},
    "zucchini": {939},
    "cucumber": {943},
    "artichoke": {944},
    "bell pepper": {945},
    "capsicum": {945},
    "mushroom": {947},
    "granny smith": {948},
    "strawberry": {949},
    "orange": {950},
    "lemon": {951},
    "fig": {952},
    "pineapple": {953},
    "banana": {954},
    "jackfruit": {955},
    "custard apple": {956},
    "pomegranate": {957},
    "sweet corn": {987, 998},
    "corn": {987, 998},
}
BATCH = 32


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        plain = image.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
    return np.asarray(plain)


def named(path: Path) -> str | None:
    """Return the class that a file's name begins with."""
    name = path.stem.lower().replace("_", " ").replace("-", " ")
    return next((known for known in CLASSES if name.startswith(known)), None)


def main(folder: Path) -> int:
    row = backbone("efficientnet-lite0")
    weights = resolve_weights(row)
    assert weights.path is not None
    tensors = load_tensors(weights.path)
    engine = KerasEngine(row, weights, size=224, batch_size=BATCH)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and named(path))
    counts = {name: np.zeros(3, int) for name in CLASSES}
    for start in range(0, len(files), BATCH):
        batch = files[start : start + BATCH]
        (features,) = engine(np.stack([pixels(path) for path in batch]))
        scores = features @ tensors["_fc.weight"].T + tensors["_fc.bias"]
        for path, order in zip(batch, np.argsort(scores, axis=1)[:, ::-1], strict=True):
            name = named(path)
            assert name is not None
            right = [int(label) in CLASSES[name] for label in order[:5]]
            counts[name] += (1, right[0], any(right))
            if not right[0]:
                print(f"  {path.name}: {order[:5].tolist()}")
    for name, (total, first, fifth) in counts.items():
        if total:
            print(f"{name}: {total} pictures, top 1 {first}, top 5 {fifth}")
    total, first, fifth = sum(counts.values(), np.zeros(3, int))
    print(f"all: {total} pictures, top 1 {first}, top 5 {fifth}")
    return int(total == 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
