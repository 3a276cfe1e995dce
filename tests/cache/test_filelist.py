"""An unchanged file is known without being opened; what might have changed is not."""

import os
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache import CacheError, FileIndex
from cache.filelist import _pack, _parse

DIGEST = bytes(range(32))
HOUR = 3600 * 10**9


def remember(index, file, digest=DIGEST, scanned_ns=None):
    index.put(os.fsencode(file), file.stat(), digest, scanned_ns or time.time_ns())


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "image.jpg"
    path.write_bytes(b"1234")
    then = time.time_ns() - HOUR + 123
    os.utime(path, ns=(then, then))
    return path


def test_an_unchanged_file_is_known_across_processes(tmp_path, file):
    index = FileIndex.load(tmp_path / "files" / "index")
    assert index.get(os.fsencode(file), file.stat()) is None
    remember(index, file)
    index.save()
    again = FileIndex.load(tmp_path / "files" / "index")
    assert again.get(os.fsencode(file), file.stat()) == DIGEST
    assert [each.name for each in (tmp_path / "files").iterdir()] == ["index"]


def test_any_change_of_the_file_is_seen(tmp_path, file):
    index = FileIndex.load(tmp_path / "index")
    remember(index, file)
    stat = file.stat()
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert index.get(os.fsencode(file), file.stat()) is None
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert index.get(os.fsencode(file), file.stat()) == DIGEST
    file.write_bytes(b"12345")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert index.get(os.fsencode(file), file.stat()) is None
    other = tmp_path / "other"
    other.write_bytes(b"4321")
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(file)
    assert index.get(os.fsencode(file), file.stat()) is None


@pytest.mark.parametrize(
    "fraction, age, known",
    [
        (123, 0, False),
        (123, 10_000_000, False),
        (123, 30_000_000, True),
        (0, 30_000_000, False),
        (0, 1_900_000_000, False),
        (0, 2_100_000_000, True),
        (123, -HOUR, False),
    ],
)
def test_a_file_modified_about_when_it_was_scanned_is_hashed_again(
    tmp_path, file, fraction, age, known
):
    index = FileIndex.load(tmp_path / "index")
    remember(index, file)
    modified = 1_700_000_000 * 10**9 + fraction
    os.utime(file, ns=(modified, modified))
    remember(index, file, scanned_ns=modified + age)
    assert (index.get(os.fsencode(file), file.stat()) == DIGEST) == known
    assert len(index) == known


@pytest.mark.parametrize("damage", [b"", b"x", b"\0" * 100, "flip", "cut", "longer"])
def test_a_damaged_index_is_an_empty_one(tmp_path, file, damage):
    path = tmp_path / "index"
    index = FileIndex.load(path)
    remember(index, file)
    index.save()
    data = path.read_bytes()
    flipped = data[:40] + bytes([data[40] ^ 1]) + data[41:]
    path.write_bytes(
        {"flip": flipped, "cut": data[:-1], "longer": data + b"\0"}.get(damage, damage)
    )
    again = FileIndex.load(path)
    assert len(again) == 0
    remember(again, file)
    again.save()
    assert len(FileIndex.load(path)) == 1


def test_an_index_that_is_no_file_is_an_empty_one(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    assert len(FileIndex.load(tmp_path / "fifo")) == 0
    assert len(FileIndex.load(tmp_path)) == 0


def test_nothing_new_writes_nothing(tmp_path, file):
    path = tmp_path / "index"
    FileIndex.load(path).save()
    assert not path.exists()
    index = FileIndex.load(path)
    remember(index, file)
    index.save()
    before = path.stat()
    again = FileIndex.load(path)
    remember(again, file)
    again.save()
    assert path.stat() == before


def test_an_index_that_cannot_be_written_is_told(tmp_path, file):
    index = FileIndex.load(file / "below" / "index")
    remember(index, file)
    with pytest.raises(CacheError, match="Not a directory"):
        index.save()


numbers = st.integers(0, 2**63 - 1)
entries = st.tuples(numbers, numbers, numbers, st.binary(min_size=32, max_size=32))


@given(st.dictionaries(st.binary(max_size=20), entries, max_size=5))
def test_any_paths_and_numbers_survive_the_round_trip(content):
    assert _parse(_pack(content)) == content


def test_a_hundred_thousand_unchanged_files_are_fast_and_none_is_opened(tmp_path, file):
    stat = file.stat()
    index = FileIndex.load(tmp_path / "index")
    paths = [b"/data/class-%d/%d.jpg" % (i % 10, i) for i in range(100_000)]
    for path in paths:
        index.put(path, stat, DIGEST, time.time_ns())
    index.save()
    opened = []
    auditing = True

    def audit(event: str, args: tuple[object, ...]) -> None:
        if auditing and event == "open":
            opened.append(args[0])

    sys.addaudithook(audit)  # stays, and does nothing any more once this is over
    start = time.perf_counter()
    again = FileIndex.load(tmp_path / "index")
    assert all(again.get(path, stat) == DIGEST for path in paths)
    again.save()
    seconds = time.perf_counter() - start
    auditing = False
    assert [os.fspath(each) for each in opened] == [str(tmp_path / "index")]
    assert seconds < 2
