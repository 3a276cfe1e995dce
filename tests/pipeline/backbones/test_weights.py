from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pytest

from pipeline.backbones import backbone, resolve_weights
from pipeline.errors import UsageError, WeightsUnavailable


def test_unreachable_imagenet_weights_stop_at_once_with_the_remedies(keras_home: Path) -> None:
    began = time.monotonic()
    with pytest.raises(WeightsUnavailable) as raised:
        resolve_weights(backbone("resnet50"))
    assert time.monotonic() - began < 3
    text = str(raised.value)
    for part in (
        "ImageNet weights of resnet50",
        "once with a network",
        "--weights FILE",
        "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "--backbone efficientnet-lite0",
        "--weights random",
    ):
        assert part in text
    assert list((keras_home / "models").iterdir()) == []


def test_a_damaged_file_in_keras_cache_is_not_used_and_not_touched(keras_home: Path) -> None:
    file = keras_home / "models" / backbone("resnet50").weights_file
    file.write_bytes(b"half a download")
    with pytest.raises(WeightsUnavailable, match="is damaged"):
        resolve_weights(backbone("resnet50"))
    assert file.read_bytes() == b"half a download"


def test_a_file_in_keras_cache_is_taken_and_hashed(keras_home: Path) -> None:
    # Keras states no hash for this one, so any bytes will do here.
    file = keras_home / "models" / backbone("mobilenet").weights_file
    file.write_bytes(b"weights")
    weights = resolve_weights(backbone("mobilenet"), "imagenet", seed=3)
    assert (weights.source, weights.path, weights.seed) == ("imagenet", file, 0)
    assert weights.digest == hashlib.sha256(b"weights").hexdigest()


def test_lite0_brings_its_weights_and_their_published_digest() -> None:
    weights = resolve_weights(backbone("efficientnet-lite0"))
    assert weights.path is not None
    # The file's name ends in the first digits of its SHA-256, as torch's published files do.
    assert weights.digest.startswith(weights.path.stem.rsplit("-", 1)[1])


def test_a_file_is_known_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"1")
    (tmp_path / "b.h5").write_bytes(b"1")
    first, second = (
        resolve_weights(backbone("resnet50"), str(tmp_path / name)) for name in ("a.h5", "b.h5")
    )
    assert first.source == "file"
    assert first.digest == second.digest == hashlib.sha256(b"1").hexdigest()


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    for place in (tmp_path / "none.h5", tmp_path):
        with pytest.raises(UsageError, match=r"no weight file .*imagenet, random or the path"):
            resolve_weights(backbone("resnet50"), str(place))


def test_random_weights_are_named_by_backbone_and_seed() -> None:
    digests = {
        resolve_weights(backbone(name), "random", seed).digest
        for name in ("resnet50", "vgg16")
        for seed in (0, 1)
    }
    assert len(digests) == 4
    assert resolve_weights(backbone("vgg16"), "random", 1).digest in digests
    with pytest.raises(UsageError, match="negative"):
        resolve_weights(backbone("vgg16"), "random", -1)
