"""Finding images: what counts as one, what is told as a reject, and that nothing hangs."""

import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.images.find import find_images
from pipeline.images.formats import claims_image, sniff

PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)


def write(root, name, data=PNG):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def names(found, root):
    return [str(path.relative_to(root)) for path in found.files]


def test_images_are_known_by_name_or_by_their_first_bytes(tmp_path):
    kept = ["a.JPG", "b/c/d.webp", "photo.jpg?itok=x", "suffixless", "wrong.dat", "x.heic"]
    for name in kept:
        write(tmp_path, name)
    for name in ("Thumbs.db", "notes.txt", "BMW.dat", "c.txt"):
        write(tmp_path, name, b"BM are two letters, and this is text")
    found = find_images(tmp_path)
    assert names(found, tmp_path) == sorted(kept)
    assert found.ignored == 4
    assert found.rejects == ()


def test_hidden_and_system_entries_are_ignored_and_counted(tmp_path):
    write(tmp_path, ".hidden.jpg")
    write(tmp_path, ".cache/a.jpg")
    write(tmp_path, "__MACOSX/._a.jpg")
    write(tmp_path, "seen.jpg")
    found = find_images(tmp_path)
    assert names(found, tmp_path) == ["seen.jpg"]
    assert found.ignored == 3


def test_odd_names_are_found(tmp_path):
    odd = [b"with space.jpg", b"new\nline.jpg", b"\xff\xfe.jpg", b"\xe9t\xe9", b"?.jpg"]
    odd += [b"x" * 251 + b".jpg", "ü漢字.png".encode()]
    for name in odd:
        write(tmp_path, os.fsdecode(name))
    found = find_images(tmp_path)
    assert [os.fsencode(path.name) for path in found.files] == sorted(odd)


def test_what_is_no_file_is_a_reject_and_is_never_opened(tmp_path):
    os.mkfifo(tmp_path / "fifo.jpg")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    (tmp_path / "null.jpg").symlink_to(os.devnull)
    (tmp_path / "piped.jpg").symlink_to("fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "socket.jpg"))
    found = find_images(tmp_path)
    reasons = {reject.path.name: reject.reason for reject in found.rejects}
    assert reasons == {
        "fifo.jpg": "is a FIFO, not a file",
        "gone.jpg": "is a link that leads nowhere",
        "null.jpg": "is a device, not a file",
        "piped.jpg": "is a FIFO, not a file",
        "self.jpg": "is a link that leads nowhere",
        "socket.jpg": "is a socket, not a file",
    }
    assert found.files == ()
    assert found.ignored == 3


def test_links_to_files_and_folders_are_followed(tmp_path):
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    write(elsewhere, "b.jpg")
    write(data, "a.jpg")
    (data / "link.jpg").symlink_to(elsewhere / "b.jpg")
    (data / "folder").symlink_to(elsewhere)
    assert names(find_images(data), data) == ["a.jpg", "folder/b.jpg", "link.jpg"]


def test_loops_of_links_end_and_an_image_keeps_its_own_folder(tmp_path):
    for name in "abcdefgh":
        write(tmp_path, f"{name}/{name}.jpg")
        for other in "abcdefgh":
            (tmp_path / name / f"0-{other}").symlink_to(tmp_path / other)
        (tmp_path / name / "up").symlink_to(tmp_path)
    assert names(find_images(tmp_path), tmp_path) == [f"{n}/{n}.jpg" for n in "abcdefgh"]


def test_the_output_of_earlier_runs_is_left_out(tmp_path):
    write(tmp_path, "cats/a.jpg")
    write(tmp_path, "runs/digits/0/0001.png")
    found = find_images(tmp_path, skip=(tmp_path / "runs", tmp_path / "never"))
    assert names(found, tmp_path) == ["cats/a.jpg"]


def test_a_root_that_is_not_there_raises(tmp_path):
    with pytest.raises(FileNotFoundError):
        find_images(tmp_path / "nowhere")


@given(st.text(max_size=12), st.sampled_from([".jpg", ".JPEG", ".Png", ".tif"]))
def test_a_claim_needs_a_stem_and_survives_a_query(stem, suffix):
    stem = stem.replace("?", "") + "x"
    assert claims_image(stem + suffix)
    assert claims_image(stem + suffix + "?width=20.5")
    assert not claims_image(suffix)


@given(st.binary(max_size=40))
def test_sniffing_takes_any_bytes(head):
    assert sniff(head) in {None, "JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"}
