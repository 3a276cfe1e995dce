"""Keys of files: read once, remembered, and never of a file that is not what it seems."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from cache.filelist import FileIndex
from pipeline.events import Event, FilesHashed, HashingPlanned
from pipeline.images import hashing
from pipeline.images.formats import Transient
from pipeline.images.hashing import hash_files, read_image, with_keys
from pipeline.images.rejects import Reject


def write(path, data, age=10.0):
    path.write_bytes(data)
    then = time.time() - age  # files just written are not remembered: they may change unnoticed
    os.utime(path, (then, then + 0.123))
    return path


def sha(data):
    return hashlib.sha256(data).digest()


def test_keys_are_aligned_and_equal_bytes_have_equal_keys(tmp_path):
    paths = [write(tmp_path / f"{i}.jpg", b"%d" % (i % 3)) for i in range(50)]
    keys = hash_files([*paths, paths[0]], FileIndex.load(tmp_path / "index"))
    assert keys == [sha(b"%d" % (i % 3)) for i in range(50)] + [sha(b"0")]


def test_an_unchanged_file_is_not_opened_again(tmp_path):
    path = write(tmp_path / "a.jpg", b"first")
    index = FileIndex.load(tmp_path / "index")
    assert hash_files([path], index) == [sha(b"first")]
    index.save()
    # The same size and times under the same inode: only opening the file could tell.
    status = path.stat()
    path.write_bytes(b"other")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert hash_files([path], FileIndex.load(tmp_path / "index")) == [sha(b"first")]
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert hash_files([path], FileIndex.load(tmp_path / "index")) == [sha(b"other")]


def test_a_relative_and_an_absolute_path_are_one_file(tmp_path, monkeypatch):
    write(tmp_path / "a.jpg", b"x")
    monkeypatch.chdir(tmp_path)
    index = FileIndex.load(tmp_path / "index")
    hash_files([Path("a.jpg")], index)
    assert len(index) == 1
    hash_files([tmp_path / "a.jpg"], index)
    assert len(index) == 1


def test_what_cannot_be_read_is_a_reject_and_nothing_blocks(tmp_path):
    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "folder.jpg").mkdir()
    write(tmp_path / "empty.jpg", b"")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    good = write(tmp_path / os.fsdecode(b"\xff.jpg"), b"good")
    bad = ["fifo.jpg", "folder.jpg", "empty.jpg", "gone.jpg", "loop.jpg"]
    paths = [*(tmp_path / name for name in bad), good]
    results = hash_files(paths, FileIndex.load(tmp_path / "index"))
    assert results[-1] == sha(b"good")
    reasons = [r.reason for r in results if isinstance(r, Reject)]
    assert reasons[0] == "is not a regular file"
    assert reasons[1] == "is not a regular file"
    assert reasons[2:4] == ["is empty", "is not there"]
    assert "symbolic links" in reasons[4]
    assert [r.path for r in results[:-1]] == paths[:-1]


def test_what_was_hashed_before_ctrl_c_is_remembered_and_the_rest_is_not_read(
    tmp_path, monkeypatch
):
    paths = [write(tmp_path / f"{i}.jpg", b"%d" % i) for i in range(20)]
    read = []
    whole = hashing._hash

    def interrupted(path):
        read.append(path)
        if path == paths[5]:
            raise KeyboardInterrupt
        return whole(path)

    monkeypatch.setattr(hashing, "_SLICE", 4)
    monkeypatch.setattr(hashing, "_hash", interrupted)
    index = FileIndex.load(tmp_path / "index")
    with pytest.raises(KeyboardInterrupt):
        hash_files(paths, index)
    assert len(index) == 5
    assert set(read) <= set(paths[:8])


def test_slices_neither_lose_nor_reorder_files(tmp_path, monkeypatch):
    monkeypatch.setattr(hashing, "_SLICE", 3)
    for count in (0, 3, 10):
        paths = [write(tmp_path / f"{i}.jpg", b"%d" % i) for i in range(count)]
        keys = hash_files(paths, FileIndex.load(tmp_path / "index"))
        assert keys == [sha(b"%d" % i) for i in range(count)]


def test_rejects_get_the_key_of_what_can_be_read(tmp_path):
    stray, empty = write(tmp_path / "stray.jpg", b"stray"), write(tmp_path / "empty.jpg", b"")
    os.mkfifo(tmp_path / "fifo.jpg")
    known = Reject(tmp_path / "known.jpg", sha(b"known"), "is cut off")
    paths = [stray, empty, tmp_path / "fifo.jpg", tmp_path / "gone.jpg"]
    rejects = [known, *(Reject(path, None, f"because of {path.name}") for path in paths)]
    index = FileIndex.load(tmp_path / "index")
    got = with_keys(rejects, index)
    keys = [sha(b"known"), sha(b"stray"), sha(b""), None, None]
    assert [(r.path, r.reason) for r in got] == [(r.path, r.reason) for r in rejects]
    assert [r.key for r in got] == keys
    assert len(index) == 1


def test_reading_by_key_refuses_other_bytes(tmp_path):
    path = write(tmp_path / "a.jpg", b"data")
    assert read_image(path, sha(b"data")) == b"data"
    assert read_image(path, None) == b"data"
    with pytest.raises(Transient, match="changed since"):
        read_image(path, sha(b"other"))
    with pytest.raises(Transient, match="not there"):
        read_image(tmp_path / "gone", None)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(Transient, match="not a regular file"):
        read_image(tmp_path / "fifo", None)


def test_a_file_too_large_for_the_memory_says_nothing_of_its_image(tmp_path, monkeypatch):
    def exhausted(*_):
        raise MemoryError

    monkeypatch.setattr(os, "fdopen", exhausted)
    with pytest.raises(Transient, match="more memory"):
        read_image(write(tmp_path / "a.jpg", b"data"), None)


def test_files_that_are_read_are_told_of_and_no_others(tmp_path: Path) -> None:
    paths = []
    for i in range(230):
        paths.append(tmp_path / f"{i}.jpg")
        paths[-1].write_bytes(b"%d" % i)
    index = FileIndex.load(tmp_path / "index")
    first: list[Event] = []
    hash_files(paths, index, first.append)
    assert first == [HashingPlanned(230), FilesHashed(100), FilesHashed(100), FilesHashed(30)]
    for path in paths:
        os.utime(path, (0, 0))
    hash_files(paths, index)
    again: list[Event] = []
    hash_files(paths, index, again.append)
    assert again == []
