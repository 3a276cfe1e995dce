"""A dataset from a tree of folders: one per class, with or without train/val/test above them."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from pipeline.dataset.base import SPLITS, Dataset, Split
from pipeline.errors import UsageError
from pipeline.images.find import find_images
from pipeline.images.rejects import Reject

_OUTPUT = ("converted", "digits", "features", "files", "heads", "images")


def load_folder(root: Path, out: Path | None) -> Dataset:
    """List the images of a folder.

    The first folder below the root (below train, val or test) is the class, however deep an image
    lies in it. Where no image lies in such a folder there are no labels. Where some do, those
    that do not are rejects: nothing says what they are.

    Parameters
    ----------
    root
        The folder.
    out
        The program's own output, left out where it lies inside of ``root``.

    Raises
    ------
    UsageError
        The folder cannot be read, or has both split folders and others at its top.
    """
    try:
        found = find_images(root, _output_within(root, out))
    except OSError as error:
        raise UsageError(f"the folder {root} cannot be read: {error.strerror}") from error
    parts = _folders(root, found.files)
    splits = _splits(root, parts)
    above = 0 if splits is None else 1
    labelled = [len(p) > above for p in parts]
    name = root.name or root.resolve().name
    if not any(labelled):
        kept = list(range(len(parts)))
        labels, strays = None, []
    else:
        kept = [i for i, has_class in enumerate(labelled) if has_class]
        labels = tuple(_text(parts[i][above]) for i in kept)
        reason = "lies beside the class folders, in none of them"
        strays = [
            Reject(path, None, reason)
            for path, has_class in zip(found.files, labelled, strict=True)
            if not has_class
        ]
    return Dataset(
        name=_text(name),
        paths=tuple(found.files[i] for i in kept),
        labels=labels,
        splits=None if splits is None else tuple(splits[i] for i in kept),
        ignored=found.ignored,
        rejects=(*found.rejects, *strays),
    )


def _output_within(root: Path, out: Path | None) -> tuple[Path, ...]:
    """Return the program's output folders; only its own where it shares the data's folder."""
    if out is None:
        return ()
    if out.exists() and out.samefile(root):
        return tuple(out / name for name in _OUTPUT)
    return (out,)


def _folders(root: Path, files: tuple[Path, ...]) -> list[tuple[str, ...]]:
    """Return the folders between the root and each file; the same tuple for files of one folder."""
    known: dict[str, tuple[str, ...]] = {}
    result = []
    for file in files:
        folder = os.fspath(file).rpartition(os.sep)[0]
        if (parts := known.get(folder)) is None:
            parts = known[folder] = file.parent.relative_to(root).parts
        result.append(parts)
    return result


def _splits(root: Path, parts: list[tuple[str, ...]]) -> list[Split] | None:
    """Return each image's split where the tree's top is made of splits."""
    tops = {p[0] for p in parts if p}
    known = {top for top in tops if top.lower() in SPLITS}
    if not known:
        return None
    if known == tops:
        # Images beside the split folders are in no class folder either, so they end as strays.
        return [SPLITS[p[0].lower()] if p else "train" for p in parts]
    if len({SPLITS[top.lower()] for top in known}) > 1:
        others = ", ".join(sorted(_text(top) for top in tops - known)[:3])
        raise UsageError(
            f"{root} has folders for splits ({', '.join(sorted(known))}) beside others ({others}): "
            "keep one kind there"
        )
    return None  # a class may well be called "train"


@cache
def _text(name: str) -> str:
    """Make a name fit for screens and JSON: bytes that are not UTF-8 are escaped."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
