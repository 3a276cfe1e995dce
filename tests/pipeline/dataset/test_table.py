"""Datasets from CSV and Parquet: what is read, and a sentence for each thing that is wrong."""

import builtins
import hashlib
import math
import os

import pytest

from pipeline.dataset import load_dataset
from pipeline.errors import UsageError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    for name in "abc":
        (tmp_path / "images" / f"{name}.jpg").write_bytes(b"x")
    return tmp_path


def csv(folder, text, encoding="utf-8"):
    file = folder / "table.csv"
    file.write_bytes(text.encode(encoding))
    return load_dataset(str(file), folder / "out")


def parquet(folder, **columns):
    import pyarrow
    import pyarrow.parquet

    file = folder / "table.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    return load_dataset(str(file), folder / "out")


def test_columns_are_read_and_paths_are_relative_to_the_file(folder):
    absolute = folder / "images/c.jpg"
    lines = ["path,label,group,split,note", "images/a.jpg,cat,g1,train,x"]
    lines += ["images/b.jpg, dog ,g2,Validation,", f'"{absolute}","a ""b"", c",g2,test,y', ""]
    data = csv(folder, "\r\n".join(lines))
    assert data.paths == (folder / "images/a.jpg", folder / "images/b.jpg", absolute)
    assert data.labels == ("cat", "dog", 'a "b", c')
    assert data.groups == ("g1", "g2", "g2")
    assert data.splits == ("train", "val", "test")
    assert (data.name, data.rejects) == ("table", ())


def test_a_byte_order_mark_is_no_part_of_the_first_column(folder):
    assert csv(folder, "path,label\nimages/a.jpg,ü\n", "utf-8-sig").labels == ("ü",)


def test_a_table_of_paths_alone_has_no_labels(folder):
    data = csv(folder, "path\nimages/a.jpg\nimages/a.jpg\n")
    assert (len(data.paths), data.labels, data.groups, data.splits) == (2, None, None, None)


def test_names_with_newlines_work(folder):
    (folder / "new\nline.jpg").write_bytes(b"x")
    assert csv(folder, 'path,label\n"new\nline.jpg",a\n').paths == (folder / "new\nline.jpg",)


def test_paths_that_lead_to_no_file_are_rejects_and_the_rest_stays_aligned(folder):
    os.mkfifo(folder / "fifo.jpg")
    (folder / "empty.jpg").write_bytes(b"")
    rows = [
        "gone.jpg,a",
        "images/a.jpg,b",
        "fifo.jpg,c",
        "images,d",
        "images/b.jpg,e",
        "empty.jpg,f",
    ]
    data = csv(folder, "path,label\n" + "\n".join(rows))
    assert data.labels == ("b", "e")
    assert [(r.path.name, r.reason) for r in data.rejects] == [
        ("gone.jpg", "is not there"),
        ("fifo.jpg", "is a FIFO, not a file"),
        ("images", "is a folder, not a file"),
        ("empty.jpg", "is empty"),
    ]
    nothing = hashlib.sha256(b"").digest()
    assert [r.key for r in data.rejects] == [None, None, None, nothing]


WRONG = {
    "no column path": (
        "file,label\nimages/a.jpg,x\n",
        "no column 'path'; its columns are: file, label",
    ),
    "nothing": ("", "no column 'path'; its columns are: none"),
    "no label": ("path,label\nimages/a.jpg,x\nimages/b.jpg,\n", "line 3: no label"),
    "short row": ("path,label\nimages/a.jpg\n", "line 2: no label"),
    "no path": ("path,label\n ,x\n", "line 2: no path"),
    "no group": ("path,group\nimages/a.jpg, \n", "line 2: no group"),
    "odd split": ("path,split\nimages/a.jpg,dev\n", "line 2: split 'dev' is none of"),
    "NUL": ("path\nimages/\0.jpg\n", "NUL"),
    "quotes": ('path,label\n"images/a.jpg"x,y\n', "line 2: not valid CSV"),
    "open quote": ('path,label\n"images/a.jpg,y\n', "not valid CSV"),
    "no rows": ("path,label\n", "holds no images"),
    "only rejects": ("path\ngone.jpg\n", r"1 rejected, such as .*gone\.jpg, is not there"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_in_a_sentence(folder, name):
    text, sentence = WRONG[name]
    with pytest.raises(UsageError, match=sentence):
        csv(folder, text)


def test_a_csv_that_is_not_utf8_is_refused(folder):
    with pytest.raises(UsageError, match="not UTF-8"):
        csv(folder, "path,label\nimages/a.jpg,ü\n", "latin-1")


def test_parquet_gives_what_csv_gives(folder):
    paths = ["images/a.jpg", "images/b.jpg", "gone.jpg"]
    data = parquet(
        folder, path=paths, label=[3, 7, 7], split=["train", "test", "val"], x=[[], [], []]
    )
    assert data.labels == ("3", "7")
    assert data.splits == ("train", "test")
    assert len(data.rejects) == 1


@pytest.mark.parametrize("missing", [None, math.nan])
def test_a_missing_label_in_parquet_is_named_by_its_row(folder, missing):
    with pytest.raises(UsageError, match="row 2: no label"):
        parquet(folder, path=["images/a.jpg", "images/b.jpg"], label=[1.5, missing])


def test_parquet_without_paths_or_that_is_none_is_refused(folder):
    with pytest.raises(UsageError, match="no column 'path'; its columns are: label"):
        parquet(folder, label=["a"])
    (folder / "x.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(UsageError, match="cannot be read as Parquet"):
        load_dataset(str(folder / "x.parquet"), folder)


def test_the_missing_extra_is_named(folder, monkeypatch):
    real = builtins.__import__

    def without_pyarrow(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    (folder / "x.parquet").write_bytes(b"PAR1")
    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    with pytest.raises(UsageError, match=r"pip install 'headstart\[parquet\]'"):
        load_dataset(str(folder / "x.parquet"), folder)
