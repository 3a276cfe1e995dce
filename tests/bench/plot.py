"""The picture of the end-to-end benchmark; nothing is drawn where matplotlib is not installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def bars(file: Path, rows: Sequence[Sequence[Any]]) -> None:
    """Draw images/s as bars and each bare network as a line across, one panel a file size.

    Parameters
    ----------
    file
        The PNG file to write.
    rows
        File size, name, images/s from files, images/s of the bare network, and more.
    """
    if importlib.util.find_spec("matplotlib") is None:
        print("left out: the plot, which needs matplotlib: run it by `make bench`")
        return
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    sizes = list(dict.fromkeys(row[0] for row in rows))
    figure, panels = plt.subplots(
        1, len(sizes), sharey=True, squeeze=False, layout="constrained", figsize=(4 * len(sizes), 4)
    )
    for panel, size in zip(panels[0], sizes, strict=True):
        here = [row for row in rows if row[0] == size][::-1]
        colours = ["tab:blue" if row[1].startswith("headstart") else "tab:gray" for row in here]
        drawn = panel.barh([row[1] for row in here], [row[2] for row in here], color=colours)
        panel.bar_label(drawn, fmt="%.0f", label_type="center", color="white")
        for place, row in enumerate(here):
            panel.plot([row[3]] * 2, [place - 0.4, place + 0.4], color="black")
        panel.set(title=f"{size} JPEG files", xlabel="images/s; line: bare network")
        panel.margins(x=0.15)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=120)
    plt.close(figure)
    print(f"drawn in {file}")
