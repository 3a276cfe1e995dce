"""The list of rejects: what a line holds, round trips, and that it does not grow by repetition."""

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.images.rejects import Reject, read_rejects, write_rejects

KEY = bytes(range(32))


def test_a_line_holds_path_hash_reason_and_time(tmp_path):
    file = write_rejects(tmp_path, [Reject(Path("a/b.jpg"), KEY, "is cut off")])
    (line,) = file.read_text("ascii").splitlines()
    entry = json.loads(line)
    assert entry.pop("when").endswith("+00:00")
    assert entry == {"path": "a/b.jpg", "hash": KEY.hex(), "reason": "is cut off"}


def test_names_that_are_not_utf8_are_readable_and_exact(tmp_path):
    reject = Reject(Path(os.fsdecode(b"caf\xe9\n.jpg")), None, "is empty")
    file = write_rejects(tmp_path, [reject])
    assert json.loads(file.read_bytes())["path"] == "caf\\xe9\n.jpg"
    assert read_rejects(tmp_path) == (reject,)


def test_the_same_reject_is_not_added_again_but_a_new_reason_is(tmp_path):
    first = [Reject(Path("a"), KEY, "is cut off"), Reject(Path("b"), None, "is a FIFO")]
    file = write_rejects(tmp_path, first)
    before = file.read_bytes()
    write_rejects(tmp_path, [*first, *first])
    assert file.read_bytes() == before
    write_rejects(tmp_path, [Reject(Path("a"), KEY, "is HTML")])
    assert file.read_bytes().startswith(before)
    assert len(read_rejects(tmp_path)) == 3


def test_lines_that_make_no_sense_are_kept_and_passed_over(tmp_path):
    file = tmp_path / "rejects.jsonl"
    file.write_bytes(b'{"path": 3}\nnonsense\n[1]\n{"path": "x", "hash": "zz", "reason": ""}\n{"pa')
    reject = Reject(Path("a"), None, "is empty")
    write_rejects(tmp_path, [reject])
    assert read_rejects(tmp_path) == (reject,)
    assert file.read_bytes().startswith(b'{"path": 3}\nnonsense\n')


def test_nothing_is_written_for_no_rejects(tmp_path):
    assert not write_rejects(tmp_path / "new", []).exists()
    assert read_rejects(tmp_path / "new") == ()


def test_a_failed_write_leaves_the_old_list_and_no_litter(tmp_path):
    write_rejects(tmp_path, [Reject(Path("a"), None, "is empty")])
    before = (tmp_path / "rejects.jsonl").read_bytes()
    with pytest.raises(TypeError):
        write_rejects(tmp_path, [Reject(Path("b"), None, object())])
    assert (tmp_path / "rejects.jsonl").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["rejects.jsonl"]


def test_the_list_has_the_umasks_mode_and_the_umask_is_not_touched(tmp_path, monkeypatch):
    def touched(_):
        raise AssertionError("the umask belongs to all threads")

    (tmp_path / "ordinary").touch()
    monkeypatch.setattr(os, "umask", touched)
    file = write_rejects(tmp_path, [Reject(Path("a"), KEY, "is cut off")])
    assert file.stat().st_mode == (tmp_path / "ordinary").stat().st_mode


ODD = st.binary(min_size=1, max_size=60).filter(lambda b: not re.search(rb"[\0/]|^\.$", b))


@given(
    st.lists(st.builds(Reject, ODD.map(os.fsdecode).map(Path), st.none() | st.just(KEY), st.text()))
)
def test_every_reject_survives_the_round_trip(tmp_path_factory, rejects):
    folder = tmp_path_factory.mktemp("list")
    write_rejects(folder, rejects)
    assert read_rejects(folder) == tuple(dict.fromkeys(rejects))
