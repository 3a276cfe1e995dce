"""From a decoded picture to the pixels of its views.

A view is made of the picture at twice the side of the network's input, resized as the plain picture
is: so views cost the same whatever the size of the file, and lose no sharpness to speak of. What a
turn or a wider view has beyond the edge is the picture's mirror image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from pipeline.images.augment import Look
from pipeline.images.picture import Picture
from pipeline.images.resize import Resize, resized

_TURNS = {
    1: Image.Transpose.ROTATE_90,
    2: Image.Transpose.ROTATE_180,
    3: Image.Transpose.ROTATE_270,
}


def views_of(
    picture: Picture, resizes: Sequence[Resize], looks: Sequence[Look | None]
) -> Iterator[tuple[NDArray[np.uint8], ...]]:
    """Make the views of a picture, one after the other.

    Parameters
    ----------
    picture
        Decoded once for all of them.
    resizes
        Sizes of the results, and the ways to them.
    looks
        What is done for each view; None for the plain picture.

    Yields
    ------
    tuple of ndarray
        A view of each size: uint8 ``(height, width, 3)``, read-only.
    """
    large: dict[Resize, Image.Image] = {}
    for look in looks:
        if look is None:
            yield tuple(resized(picture, resize) for resize in resizes)
            continue
        for resize in resizes:
            if resize not in large:
                twice = replace(resize, height=2 * resize.height, width=2 * resize.width)
                large[resize] = Image.fromarray(resized(picture, twice))
        yield tuple(seen(large[r], look, (r.width, r.height)) for r in resizes)


def seen(image: Image.Image, look: Look, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Look at an image.

    Parameters
    ----------
    image
        Mode RGB.
    look
        How.
    size
        Width and height of the result.

    Returns
    -------
    ndarray
        uint8 ``(height, width, 3)``, read-only.
    """
    if look.flipped:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if look.quarters:
        image = image.transpose(_TURNS[look.quarters])
    if look.degrees:
        image = _turned(image, look.degrees)
    image = _part(image, look.box, size)
    image = ImageEnhance.Brightness(image).enhance(look.brightness)
    image = ImageEnhance.Contrast(image).enhance(look.contrast)
    image = ImageEnhance.Color(image).enhance(look.saturation)
    pixels = np.asarray(image)
    pixels.flags.writeable = False
    return pixels


def _part(
    image: Image.Image, box: tuple[float, float, float, float], size: tuple[int, int]
) -> Image.Image:
    """Scale a part of an image, antialiased; it may reach over the edge."""
    width, height = image.size
    left, top, right, bottom = (
        part * side for part, side in zip(box, (width, height) * 2, strict=True)
    )
    beyond = math.ceil(max(0.0, -left, -top, right - width, bottom - height))
    if beyond:
        image = _mirrored(image, beyond)
    edges = left + beyond, top + beyond, right + beyond, bottom + beyond
    return image.resize(size, Image.Resampling.BICUBIC, box=_within(edges, image.size))


def _within(
    box: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Take off what rounding put over the edge, which Pillow refuses."""
    left, top, right, bottom = box
    return max(0.0, left), max(0.0, top), min(right, float(size[0])), min(bottom, float(size[1]))


def _turned(image: Image.Image, degrees: float) -> Image.Image:
    """Turn an image counterclockwise about its middle; its size stays."""
    width, height = image.size
    # As far as a corner of the longer side may reach, and what the filter sees around it.
    beyond = math.ceil((math.hypot(width, height) - min(width, height)) / 2) + 2
    around = _mirrored(image, beyond)
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    across, down = around.width / 2, around.height / 2
    # Where a pixel of the result is in the image; Pillow turns the same way, with y downwards.
    places = (
        *(cos, -sin, across - (cos * width - sin * height) / 2),
        *(sin, cos, down - (sin * width + cos * height) / 2),
    )
    # At twice the size that is wanted bilinear is sharp enough, and takes half of bicubic's time.
    bilinear = Image.Resampling.BILINEAR
    return around.transform((width, height), Image.Transform.AFFINE, places, bilinear)


def _mirrored(image: Image.Image, beyond: int) -> Image.Image:
    """Continue an image by so many pixels of its mirror image on every side."""
    edges = ((beyond, beyond), (beyond, beyond), (0, 0))
    return Image.fromarray(np.pad(np.asarray(image), edges, mode="symmetric"))
