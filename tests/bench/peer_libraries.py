"""Libraries from PyPI that make features of image folders, as their documentation uses them.

All of them run any torch module, so each gets the network that `peers` has for torch, weights and
all; how fast that is alone is torch's figure. What is theirs is how files are read, decoded and
batched, and how the network is called.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.config import usable_cores
from tests.bench.common import in_batches
from tests.bench.peers import BATCH, Offer, Peer, files, torch_network, torch_peer


def thingsvision(backbone: str) -> Peer:
    """thingsvision: batches decoded in the main thread, features taken by a hook."""
    import torch

    transforms = _import_torchvision().transforms
    vars(np).setdefault("AxisError", np.exceptions.AxisError)  # where NumPy 1 had it
    from thingsvision import get_extractor_from_model
    from thingsvision.utils.data import DataLoader, ImageDataset

    module = "0"  # hooks go by the names of submodules, and the whole network has none
    with _silence():
        extractor = get_extractor_from_model(
            torch.nn.Sequential(torch_network(backbone)),
            device="cpu",
            backend="pt",
            preprocess=transforms.Compose([_resize(transforms), _to_floats]),
        )

    def network(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
        with extractor.batch_extraction(module, output_type="ndarray") as extraction:
            return extraction.extract_batch(batch, flatten_acts=True)

    def extract(folder: Path, out: Path) -> None:
        with _silence():
            images = ImageDataset(
                str(folder), str(out.parent), "pt", transforms=extractor.get_transformations()
            )
            batches = DataLoader(images, BATCH, "pt")
            rows = extractor.extract_features(batches, module, flatten_acts=True)
        np.save(out, rows)

    return Peer(lambda x: in_batches(network, x, BATCH), extract, network_of="torch")


def clip_retrieval(backbone: str) -> Peer:
    """The reader of clip-retrieval, a DataLoader, before torch's network in place of CLIP."""
    transforms = _import_torchvision().transforms
    reader = _submodule("clip_retrieval", "clip_inference/reader.py")
    pixels = transforms.Compose([_as_rgb, _resize(transforms), transforms.PILToTensor()])
    torch = torch_peer(backbone, bfloat16=False)

    def extract(folder: Path, out: Path) -> None:
        batches = reader.FilesReader(
            lambda keys: keys, pixels, None, folder, BATCH, usable_cores(), enable_text=False
        )
        with _silence():  # it pins memory, of which torch says that there is no GPU for it
            images = (batch["image_tensor"].permute(0, 2, 3, 1).numpy() for batch in batches)
            np.save(out, np.concatenate([torch.network(batch) for batch in images]))

    return Peer(torch.network, extract, network_of="torch")


def embetter(backbone: str) -> Peer:
    """embetter: a pipeline of scikit-learn; all images are decoded, then run one by one."""
    import torch
    from sklearn.pipeline import make_pipeline

    _import_torchvision()
    import timm
    from embetter.vision import ImageLoader, TimmEncoder

    def headstart_resnet50(**_: Any) -> Any:
        network = torch_network(backbone)
        network.pretrained_cfg = {
            "mean": (0.0, 0.0, 0.0),  # from 0...1 back to 0...255
            "std": (1 / 255, 1 / 255, 1 / 255),
            "crop_pct": 1.0,
            "crop_mode": "squash",
        }
        return network

    timm.models.register_model(headstart_resnet50)
    encoder = TimmEncoder(headstart_resnet50.__name__)
    pipeline = make_pipeline(ImageLoader(), encoder)

    def network(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
        return np.array([encoder.model(x[None]).squeeze(0).detach().numpy() for x in images])

    def extract(folder: Path, out: Path) -> None:
        np.save(out, pipeline.fit_transform(files(folder)))

    return Peer(network, extract, network_of="torch")


OFFERS: dict[str, Offer] = {
    "thingsvision": Offer(
        ("torch", "torchvision", "thingsvision", "torchtyping", "numba"),
        thingsvision,
        ("resnet50",),
    ),
    "clip-retrieval's reader": Offer(
        ("torch", "torchvision", "clip_retrieval"), clip_retrieval, ("resnet50",)
    ),
    "embetter": Offer(("torch", "torchvision", "timm", "embetter"), embetter, ("resnet50",)),
}


def _import_torchvision() -> Any:
    """Import torchvision, also beside a torch for processors alone, for which PyPI has none.

    It then cannot load its compiled operators, which nobody here calls, and fails over the names
    of two.
    """
    import torch

    with contextlib.suppress(RuntimeError):
        import torchvision

        return torchvision
    for name in ("nms", "qnms"):
        schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        torch.library.define(f"torchvision::{name}", schema)
    import torchvision

    return torchvision


def _submodule(package: str, path: str) -> ModuleType:
    """Load one module of a package without running the package, which imports what is not there."""
    folder = importlib.util.find_spec(package).submodule_search_locations[0]
    spec = importlib.util.spec_from_file_location(Path(path).stem, Path(folder, path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _resize(transforms: Any) -> Any:
    return transforms.Resize((224, 224), transforms.InterpolationMode.BICUBIC)


def _as_rgb(image: Image.Image) -> Image.Image:
    return image.convert("RGB")


def _to_floats(image: Image.Image) -> Any:
    import torch

    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep progress bars and remarks out of the tables."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
