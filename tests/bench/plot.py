"""The picture of the end-to-end benchmark; nothing is drawn where matplotlib is not installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def bars(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw images/s as bars and each bare network as a line across, one panel a file size.

    Parameters
    ----------
    file
        The PNG file to write.
    rows
        ``"files"`` (their size), ``"who"``, and in images/s ``"images/s"`` and ``"bare network"``.
    """
    if importlib.util.find_spec("matplotlib") is None:
        print("left out: the plot, which needs matplotlib: run it by `make bench`")
        return
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    sizes = list(dict.fromkeys(row["files"] for row in rows))
    tallest = max(sum(row["files"] == size for row in rows) for size in sizes)
    figure, panels = plt.subplots(
        1,
        len(sizes),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
        figsize=(2.5 + 3.5 * len(sizes), 1.2 + 0.36 * tallest),
    )
    for panel, size in zip(panels[0], sizes, strict=True):
        _panel(panel, [row for row in rows if row["files"] == size][::-1])
        panel.set_title(f"{size} JPEG files", loc="left")
    figure.supxlabel(
        "images/s from files to features, of those of the bare network (line)", size="medium"
    )
    figure.savefig(file, dpi=150)
    plt.close(figure)
    print(f"drawn in {file}")


def _panel(panel: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    colours = ["tab:blue" if row["who"].startswith("headstart") else "tab:gray" for row in rows]
    rates = [row["images/s"] for row in rows]
    panel.barh([row["who"] for row in rows], rates, color=colours)
    for place, row in enumerate(rows):
        end, bare = row["images/s"], row["bare network"]
        panel.plot([bare, bare], [place - 0.4, place + 0.4], color="black")
        panel.annotate(
            f"{end:.0f} of {bare:.0f}",
            (max(end, bare), place),  # so that no label lies on a line
            (4, 0),
            textcoords="offset points",
            va="center",
        )
    panel.margins(x=0.25, y=0.02)
    panel.spines[["top", "right"]].set_visible(False)
