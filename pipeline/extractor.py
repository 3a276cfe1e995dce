"""`FeatureExtractor`: stage one as a scikit-learn transformer."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from cache import FileIndex
from pipeline.assemble import Assembly, assemble
from pipeline.config import DEFAULT_BACKBONE, BackboneConfig
from pipeline.engines.base import Output
from pipeline.engines.pooling import dims_of
from pipeline.errors import UsageError
from pipeline.extract import Job, extract
from pipeline.images.batches import Source
from pipeline.images.colour import to_rgb
from pipeline.images.formats import Undecodable
from pipeline.images.hashing import hash_files
from pipeline.images.rejects import Reject
from pipeline.lanes import Network

if TYPE_CHECKING:
    from pipeline.engines.base import Engine


class FeatureExtractor(TransformerMixin, BaseEstimator):
    """Turn images into rows of features with a frozen, pretrained backbone, through the cache.

    Every image is computed once per recipe, whichever estimator, fold or process asks for it, so
    that a search over heads, or over `pooling`, pays for the network once.

    Parameters
    ----------
    backbone, weights, seed, size, resize, pooling, batch_size, engine, precision
        As the flags of ``headstart features``.
    out
        Folder of the cache; the command line's default, so both share their rows.

    Attributes
    ----------
    recipe_ : str
        SHA-256 digest of the recipe, 64 hex digits: what makes these features these.
    precision_ : str
        What the network computes in, fixed by `fit`: it is the same on every machine after that.
    """

    def __init__(
        self,
        backbone: str = DEFAULT_BACKBONE,
        *,
        weights: str = "imagenet",
        seed: int = 0,
        size: int | None = None,
        resize: str = "stretch",
        pooling: str = "avg",
        batch_size: int | None = None,
        engine: str = "auto",
        precision: str = "auto",
        out: str | os.PathLike[str] = "runs",
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.seed = seed
        self.size = size
        self.resize = resize
        self.pooling = pooling
        self.batch_size = batch_size
        self.engine = engine
        self.precision = precision
        self.out = out

    def fit(self, X: Any, y: Any = None) -> Self:
        """Check the parameters and find the weights; the backbone is frozen, nothing is learned.

        Raises
        ------
        UsageError
            A parameter is out of range, or the weights cannot be found.
        """
        recipe = self._assembly(self.precision).recipe
        self.recipe_, self.precision_ = recipe.digest, recipe.precision
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Return the features of `X`, computing those that the cache lacks.

        Parameters
        ----------
        X
            n images: paths, PIL images, or uint8 arrays ``(height, width)`` or
            ``(height, width, 3)``, in any sequence; an array ``(n, height, width, 3)`` as well.

        Returns
        -------
        ndarray of float32, shape (n, dims)

        Raises
        ------
        UsageError
            An image cannot be used: rows cannot be left out here, so the image is named.
        """
        check_is_fitted(self)
        assembly = self._assembly(self.precision_)
        sources, keys = self._sources(X)
        store, facts = assembly.stores(Path(self.out))
        store.check()
        facts.check()
        done = extract(
            Job(
                sources=sources,
                keys=keys,
                networks=(
                    Network(
                        outputs=(Output(assembly.recipe.layer, self.pooling),),
                        stores=(store,),
                        resize=assembly.resize,
                        make_engine=lambda outputs, images: self._engine_of(assembly),
                        batch_size=assembly.batch_size,
                    ),
                ),
                facts=facts,
            )
        )
        if done.failures:
            position, error = done.failures[0]
            raise UsageError(f"image {position} ({_name(sources[position])}): {error}")
        return np.require(store.read(keys), np.float32, "W")

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return ``<backbone>_<pooling>_<i>`` for each of the dims columns."""
        check_is_fitted(self)
        names = [f"{self.backbone}_{self.pooling}_{i}" for i in range(self._n_features_out)]
        return np.array(names, dtype=object)

    @property
    def _n_features_out(self) -> int:
        assembly = self._assembly(self.precision_)
        known = dims_of(assembly.backbone, self.pooling) or assembly.stores(Path(self.out))[0].dims
        return known or self._engine_of(assembly).dims[0]

    def __sklearn_is_fitted__(self) -> bool:
        """Tell whether `fit` was called."""
        return hasattr(self, "recipe_")

    def __sklearn_tags__(self) -> Any:
        """Say that inputs are not numeric matrices."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.no_validation = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Leave the network behind: it is rebuilt where it is needed."""
        return {name: value for name, value in super().__getstate__().items() if name != "_built"}

    def _assembly(self, precision: str) -> Assembly:
        return assemble(
            BackboneConfig(
                backbone=self.backbone, weights=self.weights, seed=self.seed, size=self.size,
                resize=self.resize, pooling=self.pooling, batch_size=self.batch_size,
                engine=self.engine, precision=precision,
            )
        )  # fmt: skip

    def _engine_of(self, assembly: Assembly) -> Engine:
        """Return the network, built only where it is not the one built last."""
        wanted = (assembly.recipe.digest, assembly.choice.engine, assembly.batch_size)
        built = getattr(self, "_built", None)
        if built is None or built[0] != wanted:
            self._built = built = (wanted, assembly.engine(Path(self.out)))
        return built[1]

    def _sources(self, X: Any) -> tuple[list[Source], NDArray[np.uint8]]:
        """Return each image as a file or as bytes, with its key."""
        items = [_source(item) for item in _items(X)]
        if not items:
            raise UsageError("no images to transform: X is empty")
        paths = [item for item in items if isinstance(item, Path)]
        index = FileIndex.load(Path(self.out) / "files" / "extractor")
        try:
            hashed = iter(hash_files(paths, index))
        finally:
            index.save()
        keys = [
            next(hashed) if isinstance(item, Path) else hashlib.sha256(item).digest()
            for item in items
        ]
        for position, key in enumerate(keys):
            if isinstance(key, Reject):
                raise UsageError(f"image {position} ({_name(items[position])}): {key.reason}")
        joined = b"".join(key for key in keys if isinstance(key, bytes))
        return items, np.frombuffer(joined, np.uint8).reshape(-1, 32)


def _items(X: Any) -> Iterable[Any]:
    """Return the images of `X` one by one, whatever holds them."""
    if isinstance(X, str | bytes | os.PathLike):
        raise UsageError(f"X is one path ({os.fsdecode(X)!s}); give a sequence of images: [path]")
    if hasattr(X, "to_numpy"):
        X = X.to_numpy()
    if isinstance(X, np.ndarray) and X.dtype != np.uint8:
        return X.ravel()  # a column of paths or of PIL images
    return X  # type: ignore[no-any-return]


def _source(item: Any) -> Source:
    """Return a path as it is, and an image in memory as a lossless file."""
    if isinstance(item, str | os.PathLike):
        return Path(item)
    from PIL import Image, ImageOps

    try:
        if isinstance(item, np.ndarray) and item.dtype == np.uint8:
            item = Image.fromarray(item)
        if not isinstance(item, Image.Image):
            raise TypeError(f"a {type(item).__name__} is none")
        upright = to_rgb(ImageOps.exif_transpose(item))
    except (OSError, TypeError, ValueError, Undecodable) as error:
        raise UsageError(f"X must hold paths, PIL images or uint8 arrays: {error}") from error
    # Level 0 stores instead of compressing: the bytes, and so the key, depend on no zlib version.
    buffer = io.BytesIO()
    upright.save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


def _name(source: Source) -> str:
    return str(source) if isinstance(source, Path) else "in memory"
