"""Policies of augmented views: what is drawn for view k of an image, from its key and k alone.

A draw reads bits of SHAKE-256 (FIPS 202), an extendable hash of policy, seed, key and view: no
generator of random numbers, whose stream a library may change, and no state, so that it does not
matter which other images or views are asked for.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

from pipeline.errors import UsageError
from pipeline.text import nearest

OPERATIONS = ("flip", "rotate90", "rotate", "scale", "crop", "color")
"""What a policy is made of, in the one order in which it is named and applied."""

POLICIES = {"question": ("flip", "rotate")}
"""Policies with names of their own: ``question`` is the one of the user's question, rotation by up
to 90 degrees and horizontal flips."""

RULE = "v1"
"""Name of the rules of drawing and of pixels; part of recipes, changed whenever one of them is."""

DEGREES = 90.0
"""``rotate`` turns by up to so much either way."""

ZOOM = 1.25
"""``scale`` magnifies by up to so much, or by its inverse."""

LEAST_AREA = 0.5
"""``crop`` keeps at least so much of the picture's area."""

ASPECT = 4 / 3
"""``crop`` changes the ratio of the sides by up to so much, or by its inverse."""

COLOUR = 0.3
"""``color`` changes brightness, contrast and saturation by up to so much, as parts of one."""


@dataclass(frozen=True, slots=True)
class Look:
    """What is done to a picture for one view.

    Attributes
    ----------
    flipped
        Whether left and right are exchanged.
    quarters
        Quarter turns counterclockwise, 0 to 3.
    degrees
        Further turn counterclockwise about the middle.
    box
        Left, top, right and bottom of the part that is seen, as parts of width and height; below 0
        and above 1 lies the picture's mirror image.
    brightness, contrast, saturation
        Factors of Pillow's ``ImageEnhance``; 1 changes nothing.
    """

    flipped: bool = False
    quarters: int = 0
    degrees: float = 0.0
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0


@dataclass(frozen=True, slots=True)
class Policy:
    """How views of images are drawn.

    Attributes
    ----------
    operations
        Some of `OPERATIONS`, in that order.
    seed
        Another seed draws other views.
    """

    operations: tuple[str, ...]
    seed: int = 0

    @classmethod
    def parse(cls, text: str, seed: int = 0) -> Policy:
        """Read operations and names of policies between commas, in any order.

        Raises
        ------
        UsageError
            There is no such operation or policy.
        """
        wanted: set[str] = set()
        for part in map(str.strip, text.split(",")):
            if part not in OPERATIONS and part not in POLICIES:
                raise UsageError(
                    f"there is no augmentation {part!r}{nearest(part, [*OPERATIONS, *POLICIES])}"
                )
            wanted.update(POLICIES.get(part, (part,)))
        return cls(tuple(each for each in OPERATIONS if each in wanted), seed)

    @property
    def text(self) -> str:
        """The operations between commas, as `parse` reads them."""
        return ",".join(self.operations)

    @property
    def name(self) -> str:
        """Operations and rule, for a recipe: ``flip,crop v1``."""
        return f"{self.text} {RULE}"

    def look(self, key: bytes, view: int) -> Look | None:
        """Draw what view `view` of an image is; None for view 0, the plain picture.

        Parameters
        ----------
        key
            SHA-256 of the image file's bytes.
        """
        if view == 0:
            return None
        draws = _uniform(f"{self.name}|{self.seed}|{key.hex()}|{view}", 11)
        on = self.operations
        return Look(
            flipped="flip" in on and draws[0] < 0.5,
            quarters=int(4 * draws[1]) if "rotate90" in on else 0,
            degrees=DEGREES * (2 * draws[2] - 1) if "rotate" in on else 0.0,
            box=_box(
                magnified=_ratio(ZOOM, draws[3]) if "scale" in on else 1.0,
                area=1 - (1 - LEAST_AREA) * draws[4] if "crop" in on else 1.0,
                aspect=_ratio(ASPECT, draws[5]) if "crop" in on else 1.0,
                at=(draws[6], draws[7]),
            ),
            brightness=_factor(draws[8]) if "color" in on else 1.0,
            contrast=_factor(draws[9]) if "color" in on else 1.0,
            saturation=_factor(draws[10]) if "color" in on else 1.0,
        )


def _uniform(text: str, count: int) -> list[float]:
    """Draw numbers from 0 to below 1, each of 53 bits."""
    bits = hashlib.shake_256(text.encode("ascii")).digest(8 * count)
    words = (int.from_bytes(bits[i : i + 8], "little") for i in range(0, len(bits), 8))
    return [(word >> 11) * 2.0**-53 for word in words]


def _ratio(most: float, draw: float) -> float:
    """Draw from ``1 / most`` to `most`, where a factor is as likely as its inverse."""
    return math.exp((2 * draw - 1) * math.log(most))


def _factor(draw: float) -> float:
    return 1 + COLOUR * (2 * draw - 1)


def _box(
    *, magnified: float, area: float, aspect: float, at: tuple[float, float]
) -> tuple[float, float, float, float]:
    """Place a part of the picture somewhere within it, then see less or more around its middle."""
    width = min(1.0, math.sqrt(area * aspect))
    height = min(1.0, math.sqrt(area / aspect))
    across = at[0] * (1 - width) + width / 2
    down = at[1] * (1 - height) + height / 2
    half_width, half_height = width / magnified / 2, height / magnified / 2
    return across - half_width, down - half_height, across + half_width, down + half_height
