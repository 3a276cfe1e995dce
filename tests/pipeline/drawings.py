"""Drawings with structure at several scales, and the copies that people make of a picture."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from pipeline.images.decode import load_rgb

T = Image.Transpose


def drawing(seed: int, width: int = 240, height: int = 200) -> Image.Image:
    """Draw a gradient with ellipses, boxes and lines, which a seed places."""
    rng = np.random.default_rng(seed)
    across, down = (np.linspace(*rng.integers(20, 110, 2), n) for n in (width, height))
    shade = (across + down[:, None]).astype(np.uint8)
    image = Image.fromarray(np.stack([shade] * 3, axis=-1))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        w, h = (int(side) for side in rng.integers(15, 90, 2))
        colour = tuple(int(c) for c in rng.integers(0, 256, 3))
        if rng.random() < 0.5:
            draw.ellipse((x - w // 2, y - h // 2, x + w // 2, y + h // 2), fill=colour)
        else:
            draw.rectangle((x - w // 2, y - h // 2, x + w // 2, y + h // 2), fill=colour)
    return image


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return load_rgb(file.getvalue()).picture.image


def scaled(image: Image.Image, factor: float) -> Image.Image:
    size = round(image.width * factor), round(image.height * factor)
    return image.resize(size, Image.Resampling.BICUBIC)


def framed(image: Image.Image) -> Image.Image:
    """Put a picture off the middle of a black page."""
    page = Image.new("RGB", (image.width * 3 // 2, image.height * 5 // 4))
    page.paste(image, (image.width // 10, image.height // 8))
    return page


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "stored again at 40": lambda image: jpeg(image, 40),
    "stored again at 90": lambda image: jpeg(image, 90),
    "half as large": lambda image: scaled(image, 0.5),
    "twice as large": lambda image: scaled(image, 2),
    "mirrored sideways": lambda image: image.transpose(T.FLIP_LEFT_RIGHT),
    "mirrored upside down": lambda image: image.transpose(T.FLIP_TOP_BOTTOM),
    "turned by 90": lambda image: image.transpose(T.ROTATE_90),
    "turned by 180": lambda image: image.transpose(T.ROTATE_180),
    "turned by 270": lambda image: image.transpose(T.ROTATE_270),
    "mirrored, turned, half as large and stored again": lambda image: jpeg(
        scaled(image.transpose(T.TRANSPOSE), 0.5), 60
    ),
    "framed": framed,
}
