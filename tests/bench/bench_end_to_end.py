"""From JPEG files to stored features: Headstart, its peers, and the bare network of each.

In turn, round by round: the same files, the same weights. Before anything is timed, each network's
features are compared with those of Keras on the same pixels.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.bench import ours, peers
from tests.bench.common import SIZES, Flags, flags, in_turn, rate, ratio, report, write_photos
from tests.bench.plot import bars

Network = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
Candidate = tuple[Network, Callable[[Path], float]]
_OURS_WITHIN = {"float32": peers.FLOAT32, "bfloat16": peers.BFLOAT16}


def agrees(name: str, network: Network, backbone: str, tolerance: float) -> bool:
    """Compare features with Keras' on the same pixels, and say how far they are."""
    _, model = peers.reference(backbone)
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (peers.BATCH, *model.input_shape[1:]), np.uint8)
    expected = model.predict(pixels, verbose=0)
    error = float(np.linalg.norm(network(pixels) - expected) / np.linalg.norm(expected))
    print(f"{name:<32} features differ from Keras' by {error:.1e}, allowed {tolerance:.0e}")
    return error <= tolerance


def candidates(chosen: Flags) -> dict[str, Candidate]:
    """Build all that can be built: bare network, and the rate from a folder of files."""
    found: dict[str, Candidate] = {}
    for name, offer in ours.installed(chosen).items():
        made = ours.make(name, offer)
        within = _OURS_WITHIN[name.split()[-1]]
        if made and agrees(name, made.network, chosen.backbone, within):
            found[name] = (made.network, made.images_per_second)
    for name, peer_offer in peers.OFFERS.items():
        obstacle = peer_offer.obstacle(chosen.backbone)
        if obstacle:
            print(f"left out: {name} {obstacle}")
            continue
        peer = peer_offer.make(chosen.backbone)
        if agrees(name, peer.network, chosen.backbone, peer.tolerance):
            found[name] = (peer.network, _end_to_end(peer))
    return found


def _end_to_end(peer: peers.Peer) -> Callable[[Path], float]:
    def measure(folder: Path) -> float:
        with tempfile.TemporaryDirectory() as out:
            return rate(lambda: peer.extract(folder, Path(out) / "x.npy"), len(peers.files(folder)))

    return measure


def measure(
    chosen: Flags, found: Mapping[str, Candidate], shape: tuple[int, int]
) -> dict[str, tuple[float, ...]]:
    """Measure images/s from files of one size, and of bare networks (``"<name>, bare"``)."""
    size = peers.reference(chosen.backbone)[1].input_shape[1:]
    rng = np.random.default_rng(2)
    pixels = rng.integers(0, 256, (max(peers.BATCH, chosen.images // 2), *size), np.uint8)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_photos(folder, shape, chosen.images)
        works: dict[str, Callable[[], float]] = {}
        for name, (network, from_files) in found.items():
            works[name] = partial(from_files, folder)
            works[f"{name}, bare"] = partial(rate, partial(network, pixels), len(pixels))
        if not chosen.quick:
            in_turn(works, 1)  # whatever is done once is done now
        return in_turn(works, chosen.rounds)


def main() -> None:
    chosen = flags(__doc__)
    found = candidates(chosen)
    sizes = {"480x640": SIZES["480x640"]} if chosen.quick else SIZES
    rows: list[list[object]] = []
    for files, shape in sizes.items():
        measured = measure(chosen, found, shape)
        best = max(
            (n for n in found if n.startswith("headstart")),
            key=lambda name: statistics.median(measured[name]),
        )
        for name in found:
            end, bare = measured[name], measured[f"{name}, bare"]
            medians = (statistics.median(end), statistics.median(bare))
            rows.append([files, name, *medians, ratio(end, bare), ratio(measured[best], end)])
    columns = ("files", "who", "images/s", "bare network", "of bare", "best of ours / this")
    report(chosen, "end_to_end", columns, rows)
    bars(chosen.out / "end_to_end.png", rows)


if __name__ == "__main__":
    main()
