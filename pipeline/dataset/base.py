"""What a dataset is, and what one must have before heads can be trained on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

from pipeline.errors import UsageError
from pipeline.images.rejects import Reject
from pipeline.text import plural

Split = Literal["train", "val", "test"]

SPLITS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Names of folders, and values of a column ``split``, in lower case, and the split each means."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Dataset:
    """A list of images and what is known of each; all tuples are aligned with ``paths``.

    Attributes
    ----------
    name
        Name for people: of the folder, of the file without its suffix, or ``"digits"``.
    paths
        The image files.
    labels
        Class of each, or None where there are no classes.
    groups
        What must not be torn apart by folds and holdout (a patient, a scene), or None.
    splits
        ``"train"``, ``"val"`` or ``"test"``, or None where the data come unsplit.
    ignored
        How many files were passed over because they are no images and do not claim to be.
    rejects
        Files that claim to be images and cannot be used.
    """

    name: str
    paths: tuple[Path, ...]
    labels: tuple[str, ...] | None
    groups: tuple[str, ...] | None = None
    splits: tuple[Split, ...] | None = None
    ignored: int = 0
    rejects: tuple[Reject, ...] = ()

    def take(self, positions: Iterable[int]) -> Dataset:
        """Return the dataset with only the images at these positions, in this order."""
        chosen = list(positions)
        return replace(
            self,
            paths=tuple(self.paths[i] for i in chosen),
            labels=_taken(self.labels, chosen),
            groups=_taken(self.groups, chosen),
            splits=_taken(self.splits, chosen),
        )


def require_labels(dataset: Dataset, folds: int = 5) -> None:
    """Check that heads can be trained on a dataset and compared by folds.

    Images of the split ``"test"`` do not count. Where there is a split ``"val"`` it stands for
    the folds, and each class needs one image to train on; else each needs ``folds``.

    Raises
    ------
    UsageError
        There are no labels, there is one class only, or a class has too few images.
    """
    name = dataset.name
    if dataset.labels is None:
        raise UsageError(
            f"{name} has no labels, and heads need them: put the images of each class into a "
            "folder of its own, or list them in a CSV with the columns path and label"
        )
    classes = sorted(set(dataset.labels))
    if len(classes) < 2:
        found = f"one class only, {classes[0]!r}" if classes else "no images"
        raise UsageError(f"{name} has {found}; heads need images of at least two classes")
    splits = dataset.splits or ("train",) * len(dataset.labels)
    needed = 1 if "val" in splits else folds
    counts = Counter(c for c, s in zip(dataset.labels, splits, strict=True) if s == "train")
    few = [(counts[c], c) for c in classes if counts[c] < needed]
    if few:
        count, label = min(few)
        more = plural(len(few) - 1, "more class has", "more classes have")
        others = f" ({more} too few)" if len(few) > 1 else ""
        if needed == 1:
            raise UsageError(
                f"class {label!r} of {name} has no image in the training split{others}: "
                "add some, or leave the class out"
            )
        raise UsageError(
            f"class {label!r} of {name} has {plural(count, 'image')} to train on, fewer than the "
            f"{folds} folds{others}: add images, use fewer folds (--folds), or leave the class out"
        )


def _taken(values: Sequence[T] | None, positions: list[int]) -> tuple[T, ...] | None:
    return None if values is None else tuple(values[i] for i in positions)
