"""What a head file says of the augmented views that its head was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.config import MOST_VIEWS
from pipeline.errors import UsageError
from pipeline.images.augment import Policy


@dataclass(frozen=True)
class HeadViews:
    """The views of a head.

    Attributes
    ----------
    policy
        How they are drawn.
    count
        Rows of each image, the plain one among them; above 1.
    averaged
        Whether an image is to be labelled by the mean of the probabilities of all of them.
    """

    policy: Policy
    count: int
    averaged: bool = False

    def plain(self) -> dict[str, Any]:
        """Turn it into JSON values; `parse` is the way back."""
        return {
            "policy": self.policy.name,
            "seed": self.policy.seed,
            "count": self.count,
            "averaged": self.averaged,
        }

    @classmethod
    def parse(cls, values: dict[str, Any]) -> HeadViews:
        """Read it back, whoever wrote it.

        Raises
        ------
        ValueError
            It is not such a thing, or has a policy that this version does not know.
        """
        kinds = {"policy": str, "seed": int, "count": int, "averaged": bool}
        if {name: type(value) for name, value in values.items()} != kinds:
            raise ValueError("what it says of its views is not of the kind expected")
        if not 1 < values["count"] <= MOST_VIEWS:
            raise ValueError(f"it is for {values['count']} views, not for 2 to {MOST_VIEWS}")
        try:
            policy = Policy.parse(values["policy"].rpartition(" ")[0], values["seed"])
        except UsageError as error:
            raise ValueError(str(error)) from error
        if policy.name != values["policy"]:
            raise ValueError(f"its views {values['policy']!r:.60} are none that this version makes")
        return cls(policy, values["count"], values["averaged"])
