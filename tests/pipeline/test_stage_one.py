"""What `headstart features` promises, through the command line on real files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache import FeatureStore
from pipeline import stage_one
from pipeline.extract import Job
from tests.pipeline.conftest import SMALL, Ran, paint, start

Command = Callable[..., Ran]


@pytest.fixture
def features(headstart: Command, tmp_path: Path) -> Command:
    def run(data: object, *flags: object) -> Ran:
        return headstart("features", data, *SMALL, "--out", tmp_path / "out", "--json", *flags)

    return run


def test_every_image_becomes_a_row_of_the_store(features: Command, photos: Path) -> None:
    made = features(photos).json
    assert (made["images"], made["new"], made["reused"], made["rejected"]) == (24, 24, 0, 0)
    store = FeatureStore.at(Path(made["store"]))
    assert (store.rows, store.dims) == (24, 1280)
    assert made["weights"] == "imagenet"
    assert made["precision"] == "float32"
    assert made["images_per_second"] > 0


def test_a_second_run_computes_nothing_and_builds_no_network(
    features: Command, photos: Path, tmp_path: Path
) -> None:
    features(photos)
    arguments = ["headstart", "features", str(photos), *SMALL, "--out", str(tmp_path / "out")]
    spy = (
        "import sys; from pipeline import cli\n"
        f"sys.argv = {[*arguments, '--json']!r}\n"
        "try: cli.main()\n"
        "finally: print('tensorflow' in sys.modules, file=sys.stderr)"
    )
    second = subprocess.run(
        [sys.executable, "-c", spy], capture_output=True, text=True, timeout=120, check=True
    )
    assert '"new": 0, "reused": 24' in second.stdout
    assert second.stderr == "False\n"


def test_relabelling_renaming_and_touching_recompute_nothing(
    features: Command, photos: Path
) -> None:
    features(photos)
    (photos / "red" / "0.png").rename(photos / "blue" / "moved here.png")
    (photos / "red" / "1.png").rename(photos / "red" / "renamed.png")
    os.utime(photos / "red" / "2.png", (1, 1))
    made = features(photos).json
    assert (made["images"], made["new"], made["reused"]) == (24, 0, 24)


def test_a_changed_image_is_computed_again_and_a_new_one_alone(
    features: Command, photos: Path
) -> None:
    features(photos)
    paint(photos / "red" / "0.png", seed=77)
    paint(photos / "red" / "new.png", seed=78)
    assert features(photos).json["new"] == 2


def test_equal_files_are_computed_once(features: Command, photos: Path) -> None:
    shutil.copy(photos / "red" / "0.png", photos / "blue" / "copy.png")
    made = features(photos).json
    assert (made["images"], made["new"]) == (25, 24)


def test_any_change_of_the_recipe_is_another_store(features: Command, photos: Path) -> None:
    stores = {
        features(photos, *flags).json["store"]
        for flags in [
            (),
            ("--pooling", "max"),
            ("--resize", "crop"),
            ("--size", "48"),
            ("--weights", "random"),
            ("--weights", "random", "--seed", "1"),
        ]
    }
    assert len(stores) == 6


def test_batch_size_is_no_part_of_the_recipe(features: Command, photos: Path) -> None:
    features(photos)
    assert features(photos, "--batch-size", "7").json["new"] == 0


def test_what_cannot_be_used_never_stops_a_run(features: Command, photos: Path) -> None:
    (photos / "red" / "empty.jpg").touch()
    (photos / "red" / "page.jpg").write_text("<html>not found</html>")
    whole = (photos / "blue" / "0.jpg").read_bytes()
    (photos / "blue" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "blue" / "dangling.jpg").symlink_to(photos / "nowhere")
    os.mkfifo(photos / "blue" / "pipe.jpg")
    (photos / "blue" / "notes.txt").write_text("not an image, and does not claim to be")
    ran = features(photos)
    assert ran.code == 0
    assert (ran.json["images"], ran.json["rejected"], ran.json["ignored"]) == (24, 5, 1)
    rejects = (Path(ran.json["store"]) / "rejects.jsonl").read_text()
    for name in ("empty.jpg", "page.jpg", "cut.jpg", "dangling.jpg", "pipe.jpg"):
        assert name in rejects
    again = features(photos, "--strict")
    assert again.code == 2
    assert again.json["new"] == 0
    assert (Path(ran.json["store"]) / "rejects.jsonl").read_text() == rejects


def test_random_weights_are_called_random_everywhere(headstart: Command, photos: Path) -> None:
    ran = headstart(
        "features", photos, *SMALL, "--weights", "random", "--out", photos.parent / "out"
    )
    assert ran.code == 0
    assert "RANDOM weights" in ran.out


@pytest.mark.parametrize("stop", ["SIGINT", "SIGTERM"])
def test_an_interrupted_run_keeps_what_is_done(
    stop: str, tmp_path: Path, headstart: Command
) -> None:
    for i in range(40):
        paint(tmp_path / "many" / "a" / f"{i}.png", seed=i)
    arguments = ("features", tmp_path / "many", *SMALL, "--out", tmp_path / "out", "--json")
    # The signal comes after the fifth batch, long before a commit is due.
    at_the_fifth_batch = f"""
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from pipeline import cli
from pipeline.events import BatchDone
from pipeline.report.progress import ProgressReport
seen, show = [], ProgressReport.__call__
def observe(self, event):
    show(self, event)
    seen.append(isinstance(event, BatchDone))
    if sum(seen) == 5:
        os.kill(os.getpid(), signal.{stop})
ProgressReport.__call__ = observe
sys.argv = {["headstart", *map(str, arguments), "--batch-size", "2"]!r}
cli.main()
"""
    run = subprocess.run(
        [sys.executable, "-c", at_the_fifth_batch], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 130, run.stderr
    assert "the next run goes on" in run.stderr
    assert "Traceback" not in run.stderr
    rest = headstart(*arguments).json
    assert (rest["new"], rest["reused"]) == (30, 10)


def test_what_cannot_be_decoded_is_not_read_again(
    features: Command, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (photos / "blue" / "0.jpg").read_bytes()
    cut = photos / "blue" / "cut.jpg"
    cut.write_bytes(whole[: len(whole) // 2])
    os.utime(cut, (1, 1))
    features(photos)
    read: list[Path] = []
    honest = stage_one.extract

    def watched(job: Job) -> Any:
        read.extend(source for source in job.sources if isinstance(source, Path))
        return honest(job)

    monkeypatch.setattr(stage_one, "extract", watched)
    again = features(photos).json
    assert (again["images"], again["rejected"]) == (24, 1)
    assert len(read) == 24
    assert cut not in read


def test_a_stray_image_bans_no_other_file_with_its_bytes(features: Command, photos: Path) -> None:
    shutil.copy(photos / "red" / "0.png", photos / "cover.png")
    (photos / "blue" / "3.jpg").rename(photos / "todo.jpg")
    for _ in range(2):
        made = features(photos).json
        assert (made["images"], made["rejected"]) == (23, 2)
    (photos / "todo.jpg").rename(photos / "blue" / "3.jpg")
    (photos / "cover.png").unlink()
    made = features(photos).json
    assert (made["images"], made["rejected"]) == (24, 0)


def test_a_file_that_changed_unseen_is_known_again_on_the_next_run(
    features: Command, photos: Path
) -> None:
    image = photos / "red" / "0.png"
    os.utime(image, (1, 1))
    features(photos)
    other = paint(photos.parent / "other.png", seed=500).read_bytes()
    size = image.stat().st_size
    with image.open("r+b") as file:  # the same size, times and inode: what bit rot leaves
        file.write(other[:size].ljust(size, b"\0"))
    os.utime(image, (1, 1))
    assert features(photos, "--pooling", "max").json["rejected"] == 1
    healed = features(photos, "--pooling", "max").json
    (*_, last) = (Path(healed["store"]) / "rejects.jsonl").read_text().splitlines()
    assert "cut off" in json.loads(last)["reason"]


def test_features_that_are_not_finite_are_never_kept(
    features: Command, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.engines.keras_engine import KerasEngine

    honest = KerasEngine.__call__

    def broken(self: KerasEngine, images: np.ndarray) -> tuple[np.ndarray, ...]:
        rows = honest(self, images)
        rows[0][0, 7] = np.inf
        return rows

    monkeypatch.setattr(KerasEngine, "__call__", broken)
    made = features(photos).json
    assert (made["new"], made["rejected"]) == (23, 1)
    for block in FeatureStore.at(Path(made["store"])).blocks():
        assert np.isfinite(block.features).all()


def test_a_killed_run_goes_on_from_its_last_shard(tmp_path: Path, headstart: Command) -> None:
    for i in range(400):
        paint(tmp_path / "many" / "a" / f"{i}.png", seed=i)
    arguments = ("features", tmp_path / "many", *SMALL, "--engine", "keras", "--json", "--out")
    run = start(*arguments, tmp_path / "out", "--batch-size", "2", "--commit-seconds", "0")
    store = wait_for_a_shard(tmp_path / "out")
    run.kill()
    run.communicate(timeout=60)
    kept = FeatureStore.at(store).rows
    assert 0 < kept < 400
    assert headstart(*arguments, tmp_path / "out").json["reused"] == kept
    undisturbed = headstart(*arguments, tmp_path / "other").json
    a, b = FeatureStore.at(store), FeatureStore.at(Path(undisturbed["store"]))
    for block in b.blocks():
        # The batches were cut elsewhere, so sums may round differently, but no more than that.
        np.testing.assert_allclose(a.read(block.keys), block.features, rtol=1e-4, atol=1e-5)


def wait_for_a_shard(out: Path) -> Path:
    """Wait until a running extraction has committed its first shard; return the store."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for shard in out.glob("features/*/shards/*.h5"):
            return shard.parent.parent
        time.sleep(0.01)
    raise AssertionError("no shard was committed within a minute")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--backbone", "resnet5"), "resnet50"),
        (("--backbone", "efficientnet-lite0", "--size", "1"), "size"),
        (("--weights", "no such file.h5"), "no such file.h5"),
        (("--size", "0"), "'--size'"),
        (("--resize", "crpo"), "'--resize'"),
        (("--no-such-flag",), "--no-such-flag"),
    ],
)
def test_wrong_use_gets_one_sentence_and_exit_code_2(
    flags: tuple[str, ...], sentence: str, headstart: Command, photos: Path
) -> None:
    ran = headstart("features", photos, "--out", photos.parent / "out", *flags)
    assert ran.code == 2
    assert sentence in ran.err
    assert ran.err.count("\n") == 1
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("data", ["", " ", "no such folder"])
def test_data_that_are_not_there_leave_no_trace(
    data: str, headstart: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = headstart("features", data, *SMALL, "--out", "out")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert not (tmp_path / "out").exists()


def test_where_memory_runs_out_the_way_out_is_told(
    features: Command, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(job: Job) -> None:
        raise MemoryError

    monkeypatch.setattr(stage_one, "extract", exhausted)
    ran = features(photos)
    assert ran.code == 2
    assert "--batch-size" in ran.err


def test_strict_says_why_it_fails(features: Command, photos: Path) -> None:
    (photos / "red" / "empty.png").touch()
    ran = features(photos, "--strict")
    assert (ran.code, ran.json["rejected"]) == (2, 1)
    assert "1 file could not be used" in ran.err


def test_an_output_folder_that_cannot_be_written_is_told_at_once(
    headstart: Command, photos: Path
) -> None:
    (photos.parent / "file").touch()
    ran = headstart("features", photos, *SMALL, "--out", photos.parent / "file" / "out")
    assert ran.code == 2
    assert "--out" in ran.err


def test_missing_imagenet_weights_stop_a_run_before_any_image_is_read(
    headstart: Command, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(photos.parent / "keras"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    ran = headstart("features", photos, "--out", photos.parent / "out")
    assert ran.code == 2
    for remedy in ("--weights", "--backbone efficientnet-lite0"):
        assert remedy in ran.err
    assert not (photos.parent / "out" / "files").exists()
