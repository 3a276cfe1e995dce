"""From JPEG files to stored features: Headstart, its peers, and the bare network of each.

In turn, round by round: the same files, the same weights. Before anything is timed, each network's
features are compared with those of Keras on the same pixels. Headstart takes all of the files, a
peer as many whole batches as last some seconds, which a warming round tells.

of bare             share of the rate of the network alone, on pixels in memory
of bare + decoding  share of the rate at which the cores could do both and nothing else, where
                    decoding is ours, by all cores
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.assemble import assemble
from pipeline.config import usable_cores
from pipeline.images.decode import decode_all
from tests.bench import ours, peer_libraries, peers
from tests.bench.common import (
    SIZES,
    Flags,
    configured,
    flags,
    in_turn,
    rate,
    ratio,
    report,
    write_photos,
)
from tests.bench.plot import bars

_BARE_IMAGES = 64
_OURS = "headstart"
_SECONDS = 4.0
_COLUMNS = (
    "files",
    "who",
    "images",
    "images/s",
    "bare network",
    "of bare",
    "of bare + decoding",
    "best of ours / this",
)
_OURS_WITHIN = {"float32": peers.FLOAT32, "bfloat16": peers.BFLOAT16}

Network = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True)
class Candidate:
    """A bare network, who else has this very one, and images/s from a folder of files."""

    network: Network
    network_of: str
    from_files: Callable[[Path], float]


@dataclass(frozen=True)
class Measured:
    """Images/s of one candidate in each round: from files, of the bare network, and decoding."""

    images: int
    end: Sequence[float]
    bare: Sequence[float]
    decoding: Sequence[float]

    @property
    def both(self) -> Sequence[float]:
        """Images/s if the cores did nothing but run the network and decode."""
        return [1 / (1 / b + 1 / d) for b, d in zip(self.bare, self.decoding, strict=True)]


def agrees(name: str, network: Network, chosen: Flags, tolerance: float) -> bool:
    """Compare features with Keras' on the same pixels, and say how far they are."""
    _, model = peers.reference(chosen.backbone)
    pixels = _pixels(chosen, peers.BATCH)
    expected = model.predict(pixels, verbose=0)
    error = float(np.linalg.norm(network(pixels) - expected) / np.linalg.norm(expected))
    print(f"{name:<32} features differ from Keras' by {error:.1e}, allowed {tolerance:.0e}")
    return error <= tolerance


def candidates(chosen: Flags) -> dict[str, Candidate]:
    """Build all that can be built."""
    found: dict[str, Candidate] = {}
    for name, offer in ours.installed(chosen).items():
        made = ours.make(name, offer)
        if made and agrees(name, made.network, chosen, _OURS_WITHIN[name.split()[-1]]):
            found[name] = Candidate(made.network, name, made.images_per_second)
    for name, peer_offer in (peers.OFFERS | peer_libraries.OFFERS).items():
        obstacle = peer_offer.obstacle(chosen.backbone)
        if obstacle:
            print(f"left out: {name} {obstacle}")
            continue
        peer = peer_offer.make(chosen.backbone)
        if agrees(name, peer.network, chosen, peer.tolerance):
            found[name] = Candidate(peer.network, peer.network_of or name, _end_to_end(peer))
    return found


def measure(
    chosen: Flags, found: Mapping[str, Candidate], shape: tuple[int, int]
) -> dict[str, Measured]:
    """Measure every candidate on files of one size."""
    pixels = _pixels(chosen, _BARE_IMAGES)
    with tempfile.TemporaryDirectory() as place:
        photos = write_photos(Path(place, "all"), shape, chosen.images)
        counts = how_many(chosen, found, photos)
        works: dict[str, Callable[[], float]] = {"decoding": partial(decoding, chosen, photos)}
        for name, made in found.items():
            works[name] = partial(made.from_files, first(photos, counts[name]))
            bare = partial(rate, partial(made.network, pixels), len(pixels))
            works.setdefault(f"{made.network_of}, bare", bare)
        rounds = in_turn(works, chosen.rounds)
    decoded = rounds["decoding"]
    return {
        name: Measured(counts[name], rounds[name], rounds[f"{made.network_of}, bare"], decoded)
        for name, made in found.items()
    }


def how_many(
    chosen: Flags, found: Mapping[str, Candidate], photos: Sequence[Path]
) -> dict[str, int]:
    """Choose how many files each takes; by the way, whatever is done once is done."""
    counts = dict.fromkeys(found, len(photos))
    if chosen.quick:
        return counts
    few = first(photos, peers.BATCH)
    for name, made in found.items():
        batches = math.ceil(made.from_files(few) * _SECONDS / peers.BATCH)
        if not name.startswith(_OURS):
            counts[name] = min(batches * peers.BATCH, len(photos))
    return counts


def first(photos: Sequence[Path], count: int) -> Path:
    """Return a folder that has the first of these files and no others."""
    everything = photos[0].parents[1]
    folder = everything.with_name(str(count))
    for photo in photos[:count]:
        link = folder / photo.relative_to(everything)
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.hardlink_to(photo)
    return folder


def decoding(chosen: Flags, photos: Sequence[Path]) -> float:
    """Measure images/s of our decoder and resizing, by as many threads as there are cores."""
    resize = assemble(configured(chosen.backbone, "keras", "float32")).resize

    def decode(path: Path) -> None:
        decode_all(path.read_bytes(), (resize,))

    with ThreadPoolExecutor(usable_cores()) as pool:
        return rate(lambda: list(pool.map(decode, photos)), len(photos))


def table(files: str, measured: Mapping[str, Measured]) -> list[list[object]]:
    """Make a row a candidate: medians of the rates, and of each round's ratios."""
    best = max(
        (m for name, m in measured.items() if name.startswith(_OURS)),
        key=lambda m: statistics.median(m.end),
    )
    return [
        [
            files,
            name,
            m.images,
            statistics.median(m.end),
            statistics.median(m.bare),
            ratio(m.end, m.bare),
            ratio(m.end, m.both),
            ratio(best.end, m.end),
        ]
        for name, m in measured.items()
    ]


def main() -> None:
    chosen = flags(__doc__)
    found = candidates(chosen)
    sizes = {"480x640": SIZES["480x640"]} if chosen.quick else SIZES
    rows = [
        row for files, shape in sizes.items() for row in table(files, measure(chosen, found, shape))
    ]
    report(chosen, "end_to_end", _COLUMNS, rows)
    bars(chosen.out / "end_to_end.png", [dict(zip(_COLUMNS, row, strict=True)) for row in rows])


def _end_to_end(peer: peers.Peer) -> Callable[[Path], float]:
    def measure(folder: Path) -> float:
        with tempfile.TemporaryDirectory() as out:
            return rate(lambda: peer.extract(folder, Path(out) / "x.npy"), len(peers.files(folder)))

    return measure


def _pixels(chosen: Flags, count: int) -> NDArray[np.uint8]:
    size = peers.reference(chosen.backbone)[1].input_shape[1:]
    return np.random.default_rng(1).integers(0, 256, (count, *size), np.uint8)


if __name__ == "__main__":
    main()
