"""What `FeatureExtractor` promises as a scikit-learn transformer over the cache.

scikit-learn's generic suite feeds numeric matrices; these tests stand for it, one name a promise.
"""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from cache import FeatureStore
from pipeline import FeatureExtractor
from pipeline.errors import UsageError


@pytest.fixture
def paths(photos: Path) -> list[str]:
    return sorted(str(path) for path in photos.rglob("*.*"))


@pytest.fixture
def extractor(tmp_path: Path) -> FeatureExtractor:
    return FeatureExtractor("efficientnet-lite0", size=32, out=tmp_path / "out")


def rows_in(out: Path) -> int:
    return sum(FeatureStore.at(f.parent).rows for f in out.glob("features/*/recipe.json"))


def test_paths_become_rows_in_their_order(extractor: FeatureExtractor, paths: list[str]) -> None:
    rows = extractor.fit_transform(paths)
    assert (rows.shape, rows.dtype) == ((24, 1280), np.float32)
    np.testing.assert_array_equal(extractor.transform(paths[::-1]), rows[::-1])


def test_paths_pil_images_and_arrays_of_the_same_pixels_give_the_same_features(
    extractor: FeatureExtractor, paths: list[str]
) -> None:
    images = [Image.open(path).convert("RGB") for path in paths]
    arrays = np.stack([np.asarray(image) for image in images])
    rows = extractor.fit_transform(paths)
    for same in (images, arrays, list(arrays), np.array(paths)[:, None], map(Path, paths)):
        # Equal to rounding: other images filled the batches.
        np.testing.assert_allclose(extractor.transform(same), rows, rtol=1e-4, atol=1e-5)


def test_every_image_is_computed_once_whoever_asks(
    extractor: FeatureExtractor, paths: list[str], tmp_path: Path
) -> None:
    extractor.fit_transform(paths)
    clone(extractor).fit(paths).transform(paths)
    assert rows_in(tmp_path / "out") == 24


def test_clone_and_parameters(extractor: FeatureExtractor) -> None:
    parameters = extractor.get_params()
    copied = clone(extractor)
    assert copied.get_params() == parameters
    assert copied.set_params(pooling="max").pooling == "max"
    assert extractor.pooling == "avg"
    with pytest.raises(ValueError, match="Invalid parameter"):
        extractor.set_params(colour="red")


def test_fit_changes_no_parameter_and_can_be_repeated(
    extractor: FeatureExtractor, paths: list[str]
) -> None:
    before = copy.deepcopy(extractor.get_params())
    first = extractor.fit(paths).transform(paths)
    np.testing.assert_array_equal(extractor.fit(paths[:3]).transform(paths), first)
    assert extractor.get_params() == before


def test_pickle_carries_the_choices_and_not_the_network(
    extractor: FeatureExtractor, paths: list[str]
) -> None:
    rows = extractor.fit_transform(paths)
    pickled = pickle.dumps(extractor)
    assert len(pickled) < 10_000
    np.testing.assert_array_equal(pickle.loads(pickled).transform(paths), rows)


def test_feature_names_tell_backbone_and_pooling(
    extractor: FeatureExtractor, paths: list[str]
) -> None:
    names = extractor.fit(paths).get_feature_names_out()
    assert len(names) == len(set(names)) == 1280
    assert names[7] == "efficientnet-lite0_avg_7"
    flat = clone(extractor).set_params(pooling="flatten").fit(paths)
    assert len(flat.get_feature_names_out()) == flat.transform(paths[:1]).shape[1]


def test_set_output_gives_frames_with_those_names(
    extractor: FeatureExtractor, paths: list[str]
) -> None:
    frame = extractor.set_output(transform="pandas").fit_transform(paths)
    assert list(frame.columns) == list(extractor.get_feature_names_out())
    assert len(frame) == 24


def test_transform_before_fit_is_refused(extractor: FeatureExtractor, paths: list[str]) -> None:
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        extractor.transform(paths)


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        ("one path", "sequence"),
        ([], "empty"),
        ([3.5], "float"),
        (["no such file.jpg"], "no such file.jpg"),
        (np.zeros((2, 4, 4, 3)), "float"),
    ],
)
def test_what_cannot_be_transformed_is_named(
    images: Any, sentence: str, extractor: FeatureExtractor
) -> None:
    with pytest.raises(UsageError, match=sentence):
        extractor.fit(images).transform(images)


def test_an_image_that_cannot_be_decoded_is_named(
    extractor: FeatureExtractor, tmp_path: Path
) -> None:
    page = tmp_path / "page.jpg"
    page.write_text("<html>")
    with pytest.raises(UsageError, match=r"page\.jpg"):
        extractor.fit([page]).transform([page])


def test_wrong_parameters_are_refused_in_fit(extractor: FeatureExtractor) -> None:
    for wrong in ({"backbone": "resnet5"}, {"pooling": "mean"}, {"size": 1}, {"resize": "squash"}):
        with pytest.raises(UsageError):
            clone(extractor).set_params(**wrong).fit(["x.jpg"])


def test_a_grid_search_over_pooling_and_c_computes_each_image_once_a_pooling(
    extractor: FeatureExtractor, paths: list[str], tmp_path: Path
) -> None:
    labels = [Path(path).parent.name for path in paths]
    search = GridSearchCV(
        make_pipeline(extractor, LogisticRegression(max_iter=1000)),
        {
            "featureextractor__pooling": ["avg", "max"],
            "logisticregression__C": [0.01, 1.0],
        },
        cv=3,
    ).fit(paths, labels)
    assert search.best_score_ > 0.9
    assert rows_in(tmp_path / "out") == 48


def test_a_pipeline_on_paths_works_in_cross_validation(
    extractor: FeatureExtractor, paths: list[str]
) -> None:
    labels = [Path(path).parent.name for path in paths]
    pipeline = make_pipeline(extractor, LogisticRegression(max_iter=1000))
    assert cross_val_score(pipeline, paths, labels, cv=3).mean() > 0.9
