"""A picture of how far the data lie from each BatchNorm layer, drawn with Pillow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from pipeline.batchnorm import LayerShift

_WIDTH, _HEIGHT = 1200, 560
_LEFT, _RIGHT, _TOP, _BOTTOM = 90, 30, 80, 90
_INK, _GRID, _MEAN, _MIDDLE = "#222222", "#dddddd", "#c0392b", "#2471a3"
_LEAST = 1e-3  # what is nearer is drawn here


def draw_layers(path: Path, layers: Sequence[LayerShift], title: str) -> None:
    """Write a PNG with the distance of each layer, on a logarithmic scale, in the network's order.

    Parameters
    ----------
    path
        What has this name is replaced; its folder is made.
    layers
        At least one.
    title
        What was measured.

    Raises
    ------
    OSError
        It cannot be written.
    """
    largest = max(each.distance for each in layers)
    decades = range(-3, max(1, math.ceil(math.log10(max(largest, _LEAST)))) + 1)
    image = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    _frame(draw, decades, title)
    step = (_WIDTH - _LEFT - _RIGHT) / len(layers)
    middles = []
    for position, each in enumerate(layers):
        x = _LEFT + step * (position + 0.5)
        top = _y(each.distance, decades)
        draw.rectangle((x - 0.3 * step, top, x + 0.3 * step, _HEIGHT - _BOTTOM), fill=_MEAN)
        middles.append((x, _y(each.median, decades)))
    draw.line(middles, fill=_MIDDLE, width=3)
    _ends(draw, layers)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def _y(distance: float, decades: range) -> float:
    part = (math.log10(max(distance, _LEAST)) - decades[0]) / (decades[-1] - decades[0])
    return _HEIGHT - _BOTTOM - part * (_HEIGHT - _TOP - _BOTTOM)


def _frame(draw: ImageDraw.ImageDraw, decades: range, title: str) -> None:
    small, large = (ImageFont.load_default(size) for size in (15, 20))
    draw.text((_LEFT, 14), title, _INK, large)
    told = "Jeffreys divergence between the images' statistics and the stored ones"
    draw.text((_LEFT, 46), f"{told}:", _INK, small)
    at = _LEFT + draw.textlength(f"{told}:  ", small)
    draw.text((at, 46), "mean of the channels", _MEAN, small)
    at += draw.textlength("mean of the channels   ", small)
    draw.text((at, 46), "channel in the middle", _MIDDLE, small)
    for decade in decades:
        y = _y(10.0**decade, decades)
        draw.line((_LEFT, y, _WIDTH - _RIGHT, y), fill=_INK if decade == 0 else _GRID)
        draw.text((_LEFT - 10, y), f"{10.0**decade:g}", _INK, small, anchor="rm")


def _ends(draw: ImageDraw.ImageDraw, layers: Sequence[LayerShift]) -> None:
    """Name the first and the last layer, and the one that is farthest."""
    small = ImageFont.load_default(15)
    y = _HEIGHT - _BOTTOM + 12
    draw.text((_LEFT, y), f"first: {layers[0].name}", _INK, small)
    draw.text((_WIDTH - _RIGHT, y), f"last: {layers[-1].name}", _INK, small, anchor="ra")
    farthest = max(layers, key=lambda each: each.distance)
    told = f"farthest: {farthest.name}, {farthest.distance:.3g}"
    draw.text((_LEFT, y + 28), told, _INK, small)
