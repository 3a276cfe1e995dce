"""What extraction promises for several networks at once, with networks that cost nothing."""

from __future__ import annotations

import hashlib
import io
import threading
import tracemalloc
from collections import namedtuple
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cache import CacheError, FeatureRecipe, FeatureStore
from pipeline.assemble import FACTS_RECIPE
from pipeline.engines.base import Output
from pipeline.errors import UsageError
from pipeline.events import BatchDone, Event, ExtractionPlanned, RowsKept
from pipeline.extract import Job, extract
from pipeline.images import batches
from pipeline.images.augment import Policy
from pipeline.images.decode import decode_views
from pipeline.images.resize import Resize
from pipeline.lanes import Network

BATCH = 4


class Means:
    """An engine whose rows are the mean colour; ``max`` pooling gives the largest value."""

    precision, name = "float32", "means"

    def __init__(self, outputs: Sequence[Output], batch_size: int = BATCH) -> None:
        self.outputs, self.batch_size = tuple(outputs), batch_size
        self.batches: list[int] = []
        self.dims = (3,) * len(outputs)

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
        self.batches.append(len(images))
        pools: dict[str, Callable[..., np.ndarray]] = {"avg": np.mean, "max": np.max}
        return tuple(pools[o.pooling](images, axis=(1, 2)).astype(np.float32) for o in self.outputs)


class Bench:
    """Stores, and networks that note what is asked of them."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.engines: list[Means] = []
        self.told: list[int] = []
        self.liked = 0
        self.facts = FeatureStore.open(out / "images", FACTS_RECIPE)
        self.events: list[Event] = []

    def store(self, size: int, pooling: str, augment: str = "none") -> FeatureStore:
        recipe = FeatureRecipe(
            backbone="means", weights="0" * 64, pooling=pooling, size=size, augment=augment,
            resize="stretch-bicubic", decode="d", preprocessing="none", precision="float32",
        )  # fmt: skip
        return FeatureStore.open(self.out / "features", recipe)

    def network(self, size: int, *poolings: str, policy: Policy | None = None) -> Network:
        def make(outputs: Sequence[Output], images: int) -> Means:
            self.engines.append(Means(outputs, self.liked or BATCH))
            self.told.append(images)
            return self.engines[-1]

        return Network(
            outputs=tuple(Output("top", pooling) for pooling in poolings),
            stores=tuple(self.store(size, pooling) for pooling in poolings),
            resize=Resize(size, size),
            make_engine=make,
            batch_size=BATCH,
            augmented=tuple(self.store(size, p, policy.name) for p in poolings) if policy else (),
        )

    def job(self, sources: Sequence[bytes], *networks: Network, **more: object) -> Job:
        digests = b"".join(hashlib.sha256(source).digest() for source in sources)
        return Job(
            sources=sources,
            keys=np.frombuffer(digests, np.uint8).reshape(-1, 32),
            networks=networks,
            facts=self.facts,
            **({"observe": self.events.append} | more),  # type: ignore[arg-type]
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 9, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of results of each decoding."""
    results: list[int] = []
    honest = batches.decode_all

    def decode_all(data: bytes, resizes: Sequence[Resize]) -> object:
        results.append(len(resizes))
        return honest(data, resizes)

    monkeypatch.setattr(batches, "decode_all", decode_all)
    return results


def test_each_image_is_decoded_once_for_all_networks(bench: Bench, counted: list[int]) -> None:
    sources = [picture(i) for i in range(10)]
    job = bench.job(sources, bench.network(8, "avg", "max"), bench.network(6, "avg"))
    done = extract(job)
    assert (done.new, done.reused, done.failures) == (10, 0, ())
    assert [(s.new, s.reused) for s in done.stores] == [(10, 0)] * 3
    assert counted == [2] * 10
    assert [e.batches for e in bench.engines] == [[4, 4, 2]] * 2
    for store, size, pool in zip(job.stores, (8, 8, 6), (np.mean, np.max, np.mean), strict=True):
        (row,) = store.read(job.keys[3:4])
        small = Image.open(io.BytesIO(sources[3])).resize((size, size), Image.Resampling.BICUBIC)
        np.testing.assert_allclose(row, pool(np.asarray(small), axis=(0, 1)), rtol=1e-6)


def test_networks_with_inputs_of_one_size_share_a_resizing(
    bench: Bench, counted: list[int]
) -> None:
    extract(bench.job([picture(0)], bench.network(8, "avg"), bench.network(8, "max")))
    assert counted == [1]


def test_only_what_a_store_lacks_is_computed(bench: Bench, counted: list[int]) -> None:
    sources = [picture(i) for i in range(9)]
    extract(bench.job(sources[:6], bench.network(8, "avg")))
    extract(bench.job(sources[:3], bench.network(6, "avg")))
    counted.clear()
    bench.engines.clear()
    done = extract(bench.job(sources, bench.network(8, "avg"), bench.network(6, "avg", "max")))
    assert [(s.new, s.reused) for s in done.stores] == [(3, 6), (6, 3), (9, 0)]
    assert (done.new, done.reused) == (9, 0)
    assert len(counted) == 9
    batches_by_network = {len(e.outputs): e.batches for e in bench.engines}
    assert batches_by_network == {1: [3], 2: [4, 4, 1]}


def test_an_output_that_no_image_lacks_is_not_asked_of_the_network(bench: Bench) -> None:
    sources = [picture(i) for i in range(5)]
    extract(bench.job(sources, bench.network(8, "avg")))
    done = extract(bench.job(sources, bench.network(8, "avg", "max")))
    assert bench.engines[1].outputs == (Output("top", "max"),)
    assert (done.new, [s.new for s in done.stores]) == (5, [0, 5])


def test_lost_facts_need_no_network(bench: Bench) -> None:
    sources = [picture(i) for i in range(5)]
    extract(bench.job(sources, bench.network(8, "avg")))
    for shard in (bench.facts.folder / "shards").iterdir():
        shard.unlink()
    bench.facts.refresh()
    done = extract(bench.job(sources, bench.network(8, "avg")))
    assert (done.new, done.reused, bench.facts.rows) == (0, 5, 5)
    assert len(bench.engines) == 1


def test_batches_are_full_whatever_cannot_be_decoded(bench: Bench) -> None:
    sources = [picture(i) if i % 3 else b"no image %d" % i for i in range(18)]
    done = extract(bench.job(sources, bench.network(8, "avg")))
    assert [i for i, _ in done.failures] == list(range(0, 18, 3))
    assert bench.engines[0].batches == [4, 4, 4]
    counts = [(e.images, e.rejected) for e in bench.events if isinstance(e, BatchDone)]
    assert np.sum(counts, axis=0).tolist() == [12, 6]


def test_the_batches_after_the_first_are_as_large_as_the_engine_likes_them(bench: Bench) -> None:
    bench.liked = 3 * BATCH
    done = extract(bench.job([picture(i) for i in range(33)], bench.network(6, "avg")))
    assert bench.told == [33]
    assert bench.engines[0].batches == [BATCH, 3 * BATCH, 3 * BATCH, 33 - 7 * BATCH]
    assert done.new == 33


def test_the_share_of_time_that_the_network_was_busy_is_told(bench: Bench) -> None:
    done = extract(bench.job([picture(i) for i in range(33)], bench.network(6, "avg")))
    assert 0 < done.busy <= 1
    again = extract(bench.job([picture(i) for i in range(33)], bench.network(6, "avg")))
    assert again.busy == 0


def test_a_failure_does_not_hold_on_to_the_bytes_of_its_file(bench: Bench) -> None:
    done = extract(bench.job([b"no image at all"], bench.network(8, "avg")))
    ((_, error),) = done.failures
    assert error.__traceback__ is error.__cause__ is error.__context__ is None


def test_rows_that_are_not_finite_are_kept_from_their_store_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Means.__call__

    def broken(self: Means, images: np.ndarray) -> tuple[np.ndarray, ...]:
        rows = honest(self, images)
        rows[-1][0, 1] = np.nan
        return rows

    monkeypatch.setattr(Means, "__call__", broken)
    done = extract(bench.job([picture(0), picture(1)], bench.network(8, "avg", "max")))
    assert [(s.new, s.unfit) for s in done.stores] == [(2, ()), (1, (0,))]
    assert [i for i, _ in done.failures] == [0]


def test_what_is_told_as_kept_is_on_the_disk(bench: Bench) -> None:
    network = bench.network(8, "avg")
    told = 0

    def observe(event: Event) -> None:
        nonlocal told
        if isinstance(event, RowsKept):
            told += event.rows
            assert FeatureStore.at(network.stores[0].folder).rows >= told

    sources = [picture(i) for i in range(10)]
    extract(bench.job(sources, network, observe=observe, commit_seconds=0.0))
    assert told == 10


def test_rows_are_counted_where_an_image_has_several(bench: Bench) -> None:
    sources = [picture(i) for i in range(6)]
    extract(bench.job(sources[:2], bench.network(8, "avg")))
    assert bench.events[0] == ExtractionPlanned(new=2, reused=0)
    bench.events.clear()
    job = bench.job([*sources, b"no image"], bench.network(8, "avg"), bench.network(6, "avg"))
    extract(job)
    assert bench.events[0] == ExtractionPlanned(new=12, reused=2, unit="rows")
    counts = [(e.images, e.rejected) for e in bench.events if isinstance(e, BatchDone)]
    assert np.sum(counts, axis=0).tolist() == [10, 2]


def test_an_interrupt_keeps_what_was_told_as_done(bench: Bench) -> None:
    networks = bench.network(8, "avg"), bench.network(6, "avg")
    done = 0

    def observe(event: Event) -> None:
        nonlocal done
        if isinstance(event, BatchDone):
            done += event.images
            if done >= 8:
                raise KeyboardInterrupt

    job = bench.job([picture(i) for i in range(40)], *networks, observe=observe)
    with pytest.raises(KeyboardInterrupt):
        extract(job)
    assert sum(FeatureStore.at(store.folder).rows for store in job.stores) >= 8


def test_a_network_that_fails_ends_the_run_and_what_came_before_is_kept(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Means.__call__

    def failing(self: Means, images: np.ndarray) -> tuple[np.ndarray, ...]:
        if len(self.batches) == 2:
            raise RuntimeError("out of memory on the device")
        return honest(self, images)

    monkeypatch.setattr(Means, "__call__", failing)
    network = bench.network(8, "avg")
    with pytest.raises(RuntimeError, match="out of memory"):
        extract(bench.job([picture(i) for i in range(40)], network))
    assert FeatureStore.at(network.stores[0].folder).rows == 8


def test_a_failed_commit_ends_the_run_and_names_the_file(bench: Bench) -> None:
    network = bench.network(8, "avg")
    tmp = network.stores[0].folder / "tmp"
    tmp.rmdir()
    tmp.write_text("in the way")
    with pytest.raises(CacheError, match=str(network.stores[0].folder)):
        extract(bench.job([picture(i) for i in range(8)], network, commit_seconds=0.0))


def test_memory_does_not_grow_with_the_number_of_images(bench: Bench) -> None:
    def peak(count: int) -> int:
        keys = np.random.default_rng(count).integers(0, 256, (count, 32), np.uint8)
        job = Job(
            sources=[picture(0)] * count,
            keys=keys,
            networks=(bench.network(64, "avg"),),
            facts=bench.facts,
        )
        tracemalloc.start()
        extract(job)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(40)  # what is imported and cached on first use
    few, many = 200, 1000
    grown = (peak(many) - peak(few)) / (many - few)
    assert grown < 1500, "bytes an image: keys, plan and the rows of 30 s; its pixels are 12 288"


def test_decoding_stays_a_few_batches_ahead_of_the_network(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, counted: list[int]
) -> None:
    honest, go, seen = Means.__call__, threading.Event(), []

    def slow(self: Means, images: np.ndarray) -> tuple[np.ndarray, ...]:
        go.wait(60)
        return honest(self, images)

    def observe(event: Event) -> None:
        if isinstance(event, BatchDone):
            seen.append(len(counted))

    monkeypatch.setattr(Means, "__call__", slow)
    threading.Timer(0.2, go.set).start()
    extract(bench.job([picture(i) for i in range(100)], bench.network(8, "avg"), observe=observe))
    assert seen[0] <= 8 * BATCH, "two in flight, one on its way, and what is decoded ahead"


POLICY = Policy.parse("flip,crop,color")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of views of each decoding."""
    results: list[int] = []
    honest = batches.decode_views

    def decode_views(data: bytes, resizes: Sequence[Resize], looks: Sequence[object]) -> object:
        results.append(len(looks))
        return honest(data, resizes, looks)  # type: ignore[arg-type]

    monkeypatch.setattr(batches, "decode_views", decode_views)
    return results


def with_views(bench: Bench, sources: Sequence[bytes], views: int, *poolings: str) -> Job:
    network = bench.network(8, *(poolings or ("avg",)), policy=POLICY)
    return bench.job(sources, network, policy=POLICY, views=views)


def test_an_image_is_decoded_once_for_all_its_views(bench: Bench, seen: list[int]) -> None:
    sources = [picture(i) for i in range(5)]
    job = with_views(bench, sources, 4, "avg", "max")
    done = extract(job)
    assert (done.new, done.reused, seen) == (5, 0, [4] * 5)
    assert [(s.new, s.reused) for s in done.stores] == [(5, 0), (5, 0), (15, 0), (15, 0)]
    assert bench.events[0] == ExtractionPlanned(new=40, reused=0, unit="rows")
    assert sum(e.images for e in bench.events if isinstance(e, BatchDone)) == 40
    assert [e.batches for e in bench.engines] == [[4] * 5], "views fill batches like images"


def test_plain_pictures_and_views_lie_in_stores_of_their_own(bench: Bench) -> None:
    job = with_views(bench, [picture(0), picture(1)], 3)
    extract(job)
    plain, augmented = job.stores
    assert (plain.rows, augmented.rows) == (2, 4)
    for number, source in enumerate(job.sources):
        key = job.keys[number]
        assert isinstance(source, bytes)
        looks = [POLICY.look(key.tobytes(), view) for view in range(3)]
        pixels = [one.pixels for (one,) in decode_views(source, (Resize(8, 8),), looks)]
        rows = [plain.read(key[None]), *(augmented.read(key[None], [k]) for k in (1, 2))]
        for row, look in zip(rows, pixels, strict=True):
            np.testing.assert_allclose(row[0], look.mean(axis=(0, 1)), rtol=1e-6)


def test_more_views_and_more_images_compute_what_is_not_there(
    bench: Bench, seen: list[int]
) -> None:
    sources = [picture(i) for i in range(6)]
    extract(with_views(bench, sources[:4], 4))
    seen.clear()
    done = extract(with_views(bench, sources[:4], 8))
    assert [(s.new, s.reused) for s in done.stores] == [(0, 4), (4 * 4, 4 * 3)]
    assert seen == [4] * 4
    done = extract(with_views(bench, sources, 8))
    assert [(s.new, s.reused) for s in done.stores] == [(2, 4), (2 * 7, 4 * 7)]
    assert (done.new, done.reused) == (2, 4)
    seen.clear()
    assert [s.new for s in extract(with_views(bench, sources, 3)).stores] == [0, 0]
    assert seen == []


def test_view_k_is_the_same_whatever_else_is_asked(bench: Bench, tmp_path: Path) -> None:
    sources = [picture(i) for i in range(3)]
    for views in (3, 6):
        extract(with_views(bench, sources, views))
    other = Bench(tmp_path / "other")
    extract(with_views(other, [*sources[::-1], picture(9)], 6, "max", "avg"))
    keys = with_views(bench, sources, 1).keys
    stores = [b.store(8, "avg", POLICY.name) for b in (bench, other)]
    for view in range(1, 6):
        one, two = (store.read(keys, [view] * 3) for store in stores)
        np.testing.assert_array_equal(one, two)


def test_an_image_that_cannot_be_decoded_fails_once_and_its_rows_count(bench: Bench) -> None:
    done = extract(with_views(bench, [b"no image", picture(0)], 4))
    assert [position for position, _ in done.failures] == [0]
    counts = [(e.images, e.rejected) for e in bench.events if isinstance(e, BatchDone)]
    assert np.sum(counts, axis=0).tolist() == [4, 4]


def test_a_view_that_is_not_finite_fails_its_image(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Means.__call__

    def broken(self: Means, images: np.ndarray) -> tuple[np.ndarray, ...]:
        rows = honest(self, images)
        rows[0][1:3] = np.nan
        return rows

    monkeypatch.setattr(Means, "__call__", broken)
    done = extract(with_views(bench, [picture(0)], 4))
    assert [(s.new, s.unfit) for s in done.stores] == [(1, ()), (1, (0,))]
    assert [position for position, _ in done.failures] == [0]


def test_an_interrupt_among_views_keeps_what_was_told_as_done(bench: Bench) -> None:
    done = 0

    def observe(event: Event) -> None:
        nonlocal done
        if isinstance(event, BatchDone):
            done += event.images
            if done >= 10:
                raise KeyboardInterrupt

    sources = [picture(i) for i in range(20)]
    job = with_views(bench, sources, 5)
    with pytest.raises(KeyboardInterrupt):
        extract(replace(job, observe=observe))
    kept = sum(FeatureStore.at(store.folder).rows for store in job.stores)
    assert kept >= 10
    again = extract(with_views(bench, sources, 5))
    assert sum(s.new for s in again.stores) == 100 - kept


def test_lost_facts_need_no_view(bench: Bench, seen: list[int]) -> None:
    sources = [picture(i) for i in range(3)]
    extract(with_views(bench, sources, 3))
    for shard in (bench.facts.folder / "shards").iterdir():
        shard.unlink()
    bench.facts.refresh()
    seen.clear()
    done = extract(with_views(bench, sources, 3))
    assert (done.new, done.reused, bench.facts.rows, seen) == (0, 3, 3, [1] * 3)


def test_too_small_a_disk_is_told_before_a_row_is_computed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [picture(i) for i in range(6)]
    extract(bench.job(sources, bench.network(8, "avg")))
    free = namedtuple("free", "free")
    # Seven views of six images, of three numbers of four bytes.
    least = 7 * 6 * 3 * 4
    monkeypatch.setattr("pipeline.extract.shutil.disk_usage", lambda _: free(least - 1))
    with pytest.raises(UsageError, match=r"42 rows take 504 bytes, .* has 503 bytes left"):
        extract(with_views(bench, sources, 8))
    assert bench.engines[-1].batches == []
    assert bench.store(8, "avg").rows == 6
    monkeypatch.setattr("pipeline.extract.shutil.disk_usage", lambda _: free(least))
    assert extract(with_views(bench, sources, 8)).stores[1].new == 42
