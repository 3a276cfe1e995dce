"""What augmented views promise: each follows from key, policy, seed and number alone."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.config import DEFAULT_AUGMENT
from pipeline.errors import UsageError
from pipeline.images.augment import (
    ASPECT,
    COLOUR,
    DEGREES,
    LEAST_AREA,
    OPERATIONS,
    ZOOM,
    Look,
    Policy,
)
from pipeline.images.batches import ViewPlan, decoded_batches
from pipeline.images.decode import decode, decode_views
from pipeline.images.resize import Resize
from pipeline.images.views import seen

KEY = hashlib.sha256(b"an image").digest()
EVERYTHING = Policy(OPERATIONS)


def photo(seed: int = 0, width: int = 60, height: int = 40) -> bytes:
    """Encode a smooth picture with something to see in each corner."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


def smooth(side: int = 64, seed: int = 0) -> Image.Image:
    return Image.open(io.BytesIO(photo(seed, side, side))).convert("RGB")


keys = st.binary(min_size=32, max_size=32)
views = st.integers(1, 2**32 - 1)
policies = st.sets(st.sampled_from(OPERATIONS), min_size=1).map(lambda s: Policy.parse(",".join(s)))


@given(policies, keys, views, st.integers(0, 2**32 - 1))
def test_what_is_drawn_stays_in_the_ranges_that_are_told(
    policy: Policy, key: bytes, view: int, seed: int
) -> None:
    look = Policy(policy.operations, seed).look(key, view)
    assert look is not None
    on = policy.operations
    assert look.flipped in ((False, True) if "flip" in on else (False,))
    assert look.quarters in (range(4) if "rotate90" in on else (0,))
    assert abs(look.degrees) <= (DEGREES if "rotate" in on else 0)
    for factor in (look.brightness, look.contrast, look.saturation):
        assert abs(factor - 1) <= (COLOUR if "color" in on else 0)
    left, top, right, bottom = look.box
    most = ZOOM if "scale" in on else 1.0
    least = LEAST_AREA if "crop" in on else 1.0
    slack = 1e-9
    assert least / most**2 - slack <= (right - left) * (bottom - top) <= most**2 + slack
    assert 1 / ASPECT - slack <= (right - left) / (bottom - top) <= ASPECT + slack
    beyond = (most - 1) / 2 + slack
    assert min(left, top) >= -beyond
    assert max(right, bottom) <= 1 + beyond


@given(keys, views)
def test_a_view_is_drawn_from_key_policy_seed_and_number(key: bytes, view: int) -> None:
    look = EVERYTHING.look(key, view)
    assert look == Policy.parse(",".join(reversed(OPERATIONS))).look(key, view)
    others = (
        Policy(OPERATIONS, 1).look(key, view),
        Policy(OPERATIONS[1:]).look(key, view),
        EVERYTHING.look(key, view + 1),
        EVERYTHING.look(hashlib.sha256(key).digest(), view),
    )
    assert look not in others


def test_what_is_drawn_is_the_same_for_ever() -> None:
    """Stores outlive versions of this program: other numbers need another name of the rule."""
    drawn = Policy.parse(DEFAULT_AUGMENT, seed=7).look(KEY, 3)
    assert drawn is not None
    assert (drawn.flipped, drawn.quarters, drawn.degrees) == GOLDEN[:3]
    np.testing.assert_allclose(drawn.box, GOLDEN[3], rtol=1e-12)
    colour = (drawn.brightness, drawn.contrast, drawn.saturation)
    np.testing.assert_allclose(colour, GOLDEN[4], rtol=1e-12)
    assert Policy.parse(DEFAULT_AUGMENT).name == "flip,scale,crop,color v1"


GOLDEN = (
    False,
    0,
    0.0,
    (0.10867984119443896, 0.018487133707608405, 0.8822584235031379, 0.892592404701837),
    (1.1980822469523114, 1.1533428673055746, 1.1789388440919506),
)


def test_equal_policies_have_one_name() -> None:
    assert Policy.parse("crop, flip,crop") == Policy.parse("flip,crop")
    assert Policy.parse("question").text == "flip,rotate"
    assert Policy.parse("question,rotate90").text == "flip,rotate90,rotate"


@pytest.mark.parametrize(
    ("text", "told"),
    [("flop", "flip"), ("colour", "color"), ("rotate45", "rotate"), ("", "did you"), ("a,", "did")],
)
def test_an_unknown_operation_is_refused_with_the_nearest_right_name(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        Policy.parse(text)


def test_view_0_is_the_plain_picture() -> None:
    resize = Resize(16, 16)
    ((plain,),) = decode_views(photo(), (resize,), [EVERYTHING.look(KEY, 0)])
    np.testing.assert_array_equal(plain.pixels, decode(photo(), resize).pixels)


@pytest.mark.parametrize("mode", ["stretch", "crop", "pad"])
def test_a_view_depends_on_no_other_view_and_no_other_size(mode: str) -> None:
    looks = [EVERYTHING.look(KEY, view) for view in range(6)]
    sizes = (Resize(16, 16, mode), Resize(24, 24, mode))
    together = decode_views(photo(), sizes, looks)
    for look, (small, large) in zip(looks, together, strict=True):
        ((alone,),) = decode_views(photo(), sizes[:1], [look])
        np.testing.assert_array_equal(alone.pixels, small.pixels)
        assert (small.pixels.shape, large.pixels.shape) == ((16, 16, 3), (24, 24, 3))
        assert not small.pixels.flags.writeable
        assert small.facts == together[0][0].facts, "facts are those of the plain picture"
    assert len({small.pixels.tobytes() for small, _ in together}) == len(looks)


def test_flips_and_quarter_turns_are_those_of_the_pixels() -> None:
    image = smooth(64)
    plain = seen(image, Look(), (32, 32))
    np.testing.assert_array_equal(seen(image, Look(flipped=True), (32, 32)), plain[:, ::-1])
    for quarters in range(4):
        turned = seen(image, Look(quarters=quarters), (32, 32))
        # Scaling rounds between its two directions, of which a turn exchanges the order.
        np.testing.assert_allclose(turned.astype(int), np.rot90(plain, quarters), atol=1)


def test_a_free_turn_goes_the_way_of_a_quarter_turn_and_mirrors_the_corners() -> None:
    image = smooth(64)
    plain = seen(image, Look(), (32, 32)).astype(int)
    quarter = seen(image, Look(degrees=90.0), (32, 32)).astype(int)
    assert np.abs(quarter - np.rot90(plain)).max() <= 2
    there, back = seen(image, Look(degrees=30.0), (64, 64)), Look(degrees=-30.0)
    again = seen(Image.fromarray(there), back, (32, 32)).astype(int)
    assert np.abs(again - plain)[8:24, 8:24].max() <= 12
    white = Image.new("RGB", (64, 64), (255, 255, 255))
    assert seen(white, Look(degrees=45.0), (32, 32)).min() == 255, "no corner is filled with black"


def test_a_wider_view_shows_the_mirror_image_beyond_the_edge() -> None:
    image = smooth(64)
    wide = seen(image, Look(box=(-0.125, -0.125, 1.125, 1.125)), (80, 80)).astype(int)
    whole = np.asarray(image).astype(int)
    np.testing.assert_allclose(wide[8:72, 8:72], whole, atol=1)
    np.testing.assert_allclose(wide[8:72, :8], whole[:, 7::-1], atol=1)


def test_a_picture_of_any_shape_has_views() -> None:
    for width, height in ((1, 1), (400, 1), (1, 300)):
        looks = [EVERYTHING.look(KEY, view) for view in range(1, 20)]
        for (view,) in decode_views(photo(0, width, height), (Resize(8, 8),), looks):
            assert view.pixels.shape == (8, 8, 3)


def test_batches_hold_the_views_that_are_wanted_of_each_source() -> None:
    sources = [photo(0), b"no image", photo(2)]
    resize, first = Resize(8, 8), np.array([0, 2, 4, 5])
    plan = ViewPlan(EVERYTHING, first, np.array([0, 3, 1, 2, 3], np.uint32))
    (batch,) = decoded_batches(sources, None, (resize,), batch_size=4, workers=2, views=plan)
    assert batch.positions == (0, 1, 4)
    assert [position for position, _ in batch.failures] == [2, 3]
    key = hashlib.sha256(sources[2]).digest()
    ((view,),) = decode_views(sources[2], (resize,), [EVERYTHING.look(key, 3)])
    np.testing.assert_array_equal(batch.images[2][0].pixels, view.pixels)
