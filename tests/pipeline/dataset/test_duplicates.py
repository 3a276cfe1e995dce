"""Which images are one picture, and which are not."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cache import FeatureStore
from pipeline.assemble import FACTS_RECIPE
from pipeline.dataset.duplicates import BOUND, Duplicates, find_duplicates, near_groups
from pipeline.images.facts import facts_of
from pipeline.images.picture import PillowPicture
from pipeline.images.spectrum import SIDE, similarity, spectrum_of, unit
from tests.pipeline.drawings import COPIES, drawing, jpeg


def keys_of(count: int) -> np.ndarray:
    digests = b"".join(hashlib.sha256(bytes([i])).digest() for i in range(count))
    return np.frombuffer(digests, np.uint8).reshape(-1, 32)


def duplicates_of(
    images: list[Image.Image], place: Path, keys: np.ndarray | None = None
) -> Duplicates:
    keys = keys_of(len(images)) if keys is None else keys
    store = FeatureStore.open(place, FACTS_RECIPE)
    store.append(
        keys, np.stack([facts_of(PillowPicture(image), "RGB", "PNG").pack() for image in images])
    )
    return find_duplicates(keys, store)


@pytest.mark.parametrize("copy", COPIES)
def test_copies_are_with_their_originals_and_nothing_else_is(copy: str, tmp_path: Path) -> None:
    originals = [drawing(seed) for seed in range(12)]
    found = duplicates_of([*originals, *map(COPIES[copy], originals)], tmp_path)
    assert len(np.unique(found.near)) == 12
    assert (found.near[:12] == found.near[12:]).all()
    assert found.distance.min() == 0
    assert found.distance.max() < 1 - BOUND
    assert len(np.unique(found.file)) == 24
    assert found.relations(found.pictures()).tolist() == ["near"] * 24


def test_the_same_pixels_in_another_file_are_told_from_near_ones(tmp_path: Path) -> None:
    image = drawing(1)
    images = [image, image.copy(), jpeg(image, 80), drawing(2)]
    found = duplicates_of(images, tmp_path)
    assert found.relations(found.pictures()).tolist() == ["pixels", "pixels", "near", ""]


def test_equal_files_are_exact_whatever_else_they_are(tmp_path: Path) -> None:
    keys = keys_of(2)
    duplicates_of([drawing(1), drawing(2)], tmp_path, keys)
    found = find_duplicates(keys[[0, 1, 0]], FeatureStore.open(tmp_path, FACTS_RECIPE))
    assert found.relations(found.pictures()).tolist() == ["exact", "", "exact"]


def test_the_users_groups_are_a_relation_of_what_is_no_duplicate(tmp_path: Path) -> None:
    found = duplicates_of([drawing(1), drawing(1), drawing(2), drawing(3)], tmp_path)
    groups = np.array([0, 0, 0, 3])
    assert found.relations(groups).tolist() == ["pixels", "pixels", "user", ""]


def test_flat_pictures_are_duplicates_by_their_pixels_alone(tmp_path: Path) -> None:
    flat = [Image.new("RGB", (90, 60), (grey,) * 3) for grey in (0, 0, 128, 255)]
    found = duplicates_of([*flat, drawing(1)], tmp_path)
    assert len(np.unique(found.near)) == 5
    assert found.relations(found.pictures()).tolist() == ["pixels", "pixels", "", "", ""]


def test_images_without_facts_are_like_none(tmp_path: Path) -> None:
    keys = keys_of(5)
    duplicates_of([drawing(1), drawing(1)], tmp_path, keys[:2])
    found = find_duplicates(keys[[0, 1, 2, 3, 2]], FeatureStore.open(tmp_path, FACTS_RECIPE))
    assert found.relations(found.pictures()).tolist() == ["pixels", "pixels", "exact", "", "exact"]
    none = find_duplicates(keys[2:4], FeatureStore.open(tmp_path, FACTS_RECIPE))
    assert none.relations(none.pictures()).tolist() == ["", ""]


def test_the_order_of_the_images_changes_no_group(tmp_path: Path) -> None:
    images = [COPIES[c](drawing(s)) for s in range(4) for c in list(COPIES)[:6]]
    first = duplicates_of(images, tmp_path)
    order = np.random.default_rng(0).permutation(len(images))
    other = find_duplicates(keys_of(24)[order], FeatureStore.open(tmp_path, FACTS_RECIPE))
    assert (other.near == first.near[order]).all()
    assert (other.distance == first.distance[order]).all()


def chain(length: int) -> np.ndarray:
    """Spectra of pictures that fade from one drawing to another, and on to a third ..."""
    grey = [
        np.asarray(drawing(seed).convert("L").resize((SIDE, SIDE)), float)
        for seed in range(length // 20 + 2)
    ]
    steps = [divmod(i, 20) for i in range(length)]
    faded = [grey[k] * (1 - s / 20) + grey[k + 1] * s / 20 for k, s in steps]
    return np.stack([spectrum_of(np.rint(each).astype(np.uint8)) for each in faded])


def test_a_chain_becomes_groups_of_which_none_holds_what_is_far_from_its_reference() -> None:
    spectra = chain(200)
    rows = unit(spectra)
    assert (similarity(rows[1:], rows[:-1]) > 0.95).mean() > 0.9, "each is like the next"
    group, correlation = near_groups([spectra])
    assert similarity(rows, rows[group]).min() >= BOUND - 1e-5
    np.testing.assert_allclose(correlation, similarity(rows, rows[group]), atol=1e-5)
    # As many at least as there are drawings to fade between, far fewer than there are pictures.
    assert 10 <= len(np.unique(group)) < 100


def test_crowds_of_like_pictures_are_a_group_each() -> None:
    rng = np.random.default_rng(0)
    grey = [np.asarray(drawing(s).convert("L").resize((SIDE, SIDE)), float) for s in range(3)]
    noisy = [grey[i % 3] + rng.normal(0, 3, (SIDE, SIDE)) for i in range(1500)]
    spectra = np.stack([spectrum_of(np.clip(each, 0, 255).astype(np.uint8)) for each in noisy])
    group, _ = near_groups([spectra])
    assert (group == np.arange(1500) % 3).all()


def test_a_blank_page_a_hundred_thousand_times_is_no_work() -> None:
    """All pairs of these would be five billion."""
    page = np.tile(
        spectrum_of(np.asarray(drawing(0).convert("L").resize((SIDE, SIDE)))), (10**5, 1)
    )
    assert (near_groups([page])[0] == 0).all()
    blank = np.zeros_like(page)
    assert (near_groups([blank])[0] == np.arange(10**5)).all()
