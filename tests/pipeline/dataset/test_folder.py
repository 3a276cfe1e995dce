"""Datasets from folders, the demo, and the sentences for what cannot be one."""

import os

import pytest
from PIL import Image

from pipeline.dataset import Dataset, load_dataset, require_labels
from pipeline.dataset.digits import DIGITS, render_digits
from pipeline.errors import UsageError


def tree(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\x89PNG\r\n\x1a\n")


def load(root, out=None):
    return load_dataset(str(root), out or root.parent / "nowhere")


def test_the_first_folder_is_the_class_however_deep_an_image_lies(tmp_path):
    tree(tmp_path, "cat/a.png", "cat/2020/may/b.png", "dog/c.png", "dog/notes.txt/d")
    (tmp_path / "empty class").mkdir()
    data = load(tmp_path)
    assert data.labels == ("cat", "cat", "dog", "dog")
    assert [p.name for p in data.paths] == ["b.png", "a.png", "c.png", "d"]
    assert (data.name, data.splits, data.groups) == (tmp_path.name, None, None)


def test_split_folders_above_the_classes_are_splits(tmp_path):
    names = ["Train/cat/a.png", "Train/dog/b.png", "validation/cat/x/c.png", "test/dog/d.png"]
    tree(tmp_path, *names)
    data = load(tmp_path)
    seen = zip(data.labels, data.splits, [p.name for p in data.paths], strict=True)
    assert sorted(seen) == [
        ("cat", "train", "a.png"),
        ("cat", "val", "c.png"),
        ("dog", "test", "d.png"),
        ("dog", "train", "b.png"),
    ]


@pytest.mark.parametrize("word", ["val", "valid", "validation", "VAL"])
def test_every_word_for_validation_is_understood(tmp_path, word):
    tree(tmp_path, "training/a/1.png", f"{word}/a/2.png", "testing/a/3.png")
    assert set(load(tmp_path).splits) == {"train", "val", "test"}


def test_a_class_may_be_called_like_a_split(tmp_path):
    tree(tmp_path, "train/a.png", "bus/b.png")
    assert load(tmp_path).labels == ("bus", "train")


def test_splits_beside_other_folders_are_refused(tmp_path):
    tree(tmp_path, "train/cat/a.png", "test/cat/b.png", "extra/cat/c.png")
    with pytest.raises(UsageError, match=r"splits \(test, train\) beside others \(extra\)"):
        load(tmp_path)


def test_a_flat_folder_has_no_labels(tmp_path):
    tree(tmp_path, "a.png", "b.png")
    assert load(tmp_path).labels is None
    with pytest.raises(UsageError, match="has no labels"):
        require_labels(load(tmp_path))


def test_flat_split_folders_have_splits_and_no_labels(tmp_path):
    tree(tmp_path, "train/a.png", "test/b.png")
    assert (load(tmp_path).labels, load(tmp_path).splits) == (None, ("test", "train"))


@pytest.mark.parametrize("stray", ["stray.png", "test/stray.png"])
def test_images_beside_the_class_folders_are_rejects(tmp_path, stray):
    tree(tmp_path, "train/cat/a.png", "test/dog/b.png", stray)
    data = load(tmp_path)
    assert len(data.paths) == len(data.splits) == 2
    assert [(r.path, r.reason) for r in data.rejects] == [
        (tmp_path / stray, "lies beside the class folders, in none of them")
    ]


def test_the_output_inside_the_data_is_no_class(tmp_path, monkeypatch):
    tree(tmp_path, "cat/a.png", "dog/b.png", "runs/digits/0/1.png", "features/x.png")
    assert load(tmp_path, tmp_path / "runs").labels == ("cat", "dog", "features")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/digits/0/1.png").rename(tmp_path / "runs/1.png")
    assert load_dataset(".", tmp_path).labels == ("cat", "dog", "runs")


def test_a_relative_folder_gives_the_same_classes(tmp_path, monkeypatch):
    tree(tmp_path, "cat/a.png", "dog/b.png")
    monkeypatch.chdir(tmp_path / "cat")
    for data in ("..", "../", "../../" + tmp_path.name + "//", "../cat/.."):
        assert load_dataset(data, tmp_path / "out").labels == ("cat", "dog")


def test_class_names_that_are_not_utf8_are_fit_for_json_and_screens(tmp_path):
    tree(tmp_path, os.fsdecode(b"caf\xe9/a.png"), "tea/b.png")
    assert load(tmp_path).labels == ("caf\\xe9", "tea")


def test_no_such_folder_names_the_near_ones(tmp_path):
    (tmp_path / "flowers").mkdir()
    with pytest.raises(UsageError, match=r"there is no .*flwers; did you mean flowers\?"):
        load(tmp_path / "flwers")
    with pytest.raises(UsageError, match="no folder"):
        load(tmp_path / "x" / "y")


def test_a_file_that_is_no_table_is_refused(tmp_path):
    (tmp_path / "a.xlsx").write_bytes(b"")
    with pytest.raises(UsageError, match="a CSV or Parquet file"):
        load(tmp_path / "a.xlsx")


def test_a_folder_without_usable_images_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UsageError, match=r"holds no images \(1 other file ignored"):
        load(tmp_path)
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    with pytest.raises(UsageError, match=r"1 rejected, such as .*gone.jpg, is a link"):
        load(tmp_path)


def dataset(labels, splits=None):
    return Dataset("pets", tuple(labels), tuple(labels), splits=splits)


def test_one_class_only_is_refused_for_heads():
    with pytest.raises(UsageError, match="one class only, 'a'"):
        require_labels(dataset("aaaaaa"))


def test_a_class_with_fewer_images_than_folds_is_named_with_its_count():
    require_labels(dataset("aaaaabbbbb"))
    with pytest.raises(UsageError, match=r"class 'b' of pets has 4 images to train on.* 5 folds"):
        require_labels(dataset("aaaaabbbb"))
    require_labels(dataset("aaabbb"), folds=3)
    with pytest.raises(UsageError, match=r"'c' .* 1 image .*\(1 more class has too few\)"):
        require_labels(dataset("aaaaabbbbc"))


def test_test_images_do_not_count_and_a_validation_split_replaces_the_folds():
    test = ("train",) * 9 + ("test",)
    with pytest.raises(UsageError, match="'b' of pets has 4 images"):
        require_labels(dataset("aaaaabbbbb", test))
    require_labels(dataset("abab", ("train", "train", "val", "val")))
    with pytest.raises(UsageError, match="'b' of pets has no image in the training split"):
        require_labels(dataset("abab", ("train", "val", "train", "val")))


def test_taking_some_images_keeps_what_is_known_of_each():
    data = Dataset("d", ("p", "q", "r"), ("a", "b", "c"), ("g", "h", "i"), ("train", "val", "test"))
    taken = data.take([2, 0])
    assert (taken.paths, taken.labels) == (("r", "p"), ("c", "a"))
    assert (taken.groups, taken.splits) == (("i", "g"), ("test", "train"))
    assert Dataset("d", ("p",), None).take([0]).labels is None


def test_the_demo_is_rendered_once_and_completed_after_an_interruption(tmp_path):
    first = load_dataset("digits", tmp_path)
    assert len(first.paths) == DIGITS
    assert (first.name, set(first.labels)) == ("digits", set("0123456789"))
    with Image.open(first.paths[0]) as image:
        assert (image.mode, image.size) == ("L", (64, 64))
    states = {p: p.stat().st_mtime_ns for p in first.paths}
    lost = first.paths[700]
    content = lost.read_bytes()
    lost.unlink()
    render_digits(tmp_path)
    assert lost.read_bytes() == content
    again = load_dataset("digits", tmp_path)
    assert again.paths == first.paths
    assert [p for p in again.paths if p.stat().st_mtime_ns != states[p]] == [lost]


def test_a_demo_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="the demo cannot be written"):
        load_dataset("digits", tmp_path / "file")
