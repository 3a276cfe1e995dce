"""Keys of files: read once, remembered, and never of a file that is not what it seems."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from cache.filelist import FileIndex
from pipeline.images.formats import Undecodable
from pipeline.images.hashing import hash_files, read_image
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


def test_reading_by_key_refuses_other_bytes(tmp_path):
    path = write(tmp_path / "a.jpg", b"data")
    assert read_image(path, sha(b"data")) == b"data"
    assert read_image(path, None) == b"data"
    with pytest.raises(Undecodable, match="changed since"):
        read_image(path, sha(b"other"))
    with pytest.raises(Undecodable, match="not there"):
        read_image(tmp_path / "gone", None)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(Undecodable, match="not a regular file"):
        read_image(tmp_path / "fifo", None)
