"""What HDF5 shows otherwise than our reader is found, and no other file is opened for it."""

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from cache import FeatureStore
from cache.header import BLOCK, pack, parse
from cache.shard import rest_digest, shard_name


@pytest.fixture
def shard(store, rows_of):
    rows = rows_of(6, 1024)
    return store.append(rows.keys, rows.features)


def sealed(path, store):
    """Give a changed file a right header and a right name, as somebody who means harm would."""
    with path.open("r+b") as file:
        header = replace(parse(file.read(BLOCK)), length=path.stat().st_size)
        header = replace(header, rest=rest_digest(file.fileno(), header))
        file.seek(0)
        file.write(pack(header))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return path.rename(path.with_name(shard_name(store.recipe, header.rows, digest)))


def only_finding(store):
    again = FeatureStore.at(store.folder)
    assert again.check() == [], "our own reader has nothing against it"
    (finding,) = again.verify()
    return finding.problem


def test_a_shard_that_both_show_alike_has_no_finding(store, shard):
    assert store.verify() == []


def test_the_check_of_digests_alone_does_not_load_hdf5(store, shard, python):
    reader = python(
        "store = store_in(args[0]); assert store.check() == []\nassert 'h5py' not in sys.modules\n"
        "assert store.verify() == []\nassert 'h5py' in sys.modules",
        store.folder.parent,
    )
    _, errors = reader.communicate(timeout=60)
    assert reader.returncode == 0, errors


def _rename(file):
    file.move("features", "traits")


def _swap(file):
    file.move("view", "x")
    file.move("crc", "view")
    file.move("x", "crc")


def _group(file):
    file.move("view", "kept")
    file.create_group("view")


def _other_shape(file):
    file.move("view", "kept")
    file["view"] = np.zeros(7, "<u4")


def _other_dtype(file):
    file.move("view", "kept")
    file["view"] = np.zeros(6, "<i4")


def _other_place(file):
    file.move("view", "kept")
    views = file["kept"][:]
    file["view"] = views


def _soft(file):
    file.move("view", "kept")
    file["view"] = h5py.SoftLink("/crc")


def _external_link(file):
    file.move("view", "kept")
    file["view"] = h5py.ExternalLink(os.environ["HEADSTART_LURE"], "/view")


def _external_storage(file):
    file.move("view", "kept")
    file.create_dataset(
        "view", (6,), "<u4", external=[(os.environ["HEADSTART_LURE"], 0, h5py.h5f.UNLIMITED)]
    )


def _virtual(file):
    file.move("view", "kept")
    layout = h5py.VirtualLayout((6,), "<u4", maxshape=(None,))
    space = h5py.h5s.create_simple((6,), (h5py.h5s.UNLIMITED,))
    space.select_hyperslab((0,), (1,), block=(h5py.h5s.UNLIMITED,))
    source = h5py.VirtualSource(os.environ["HEADSTART_LURE"], "view", (6,), maxshape=(None,))
    layout[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
    file.create_virtual_dataset("view", layout)


def _chunked(file):
    file.move("view", "kept")
    views = file["kept"][:]
    file.create_dataset("view", data=views, chunks=(2,), compression="gzip")


def _huge(file):
    file.move("view", "kept")
    file.create_dataset("view", (1 << 50,), "<u4", chunks=(1 << 20,))


CHANGES = [
    (_rename, "there is none"),
    (_swap, "it begins at"),
    (_group, "it is no dataset"),
    (_other_shape, "its shape is"),
    (_other_dtype, "its numbers are not"),
    (_other_place, "it begins at"),
    (_soft, "it is a link"),
    (_external_link, "it is a link"),
    (_external_storage, "external files"),
    (_virtual, "it is not contiguous"),
    (_chunked, "it is not contiguous"),
    (_huge, "it is not contiguous"),
]


@pytest.mark.parametrize("change, said", CHANGES)
def test_another_structure_under_right_digests_is_found(
    store, shard, tmp_path, monkeypatch, change, said
):
    monkeypatch.setenv("HEADSTART_LURE", str(tmp_path / "lure.h5"))
    with h5py.File(shard, "r+") as file:
        change(file)
    sealed(shard, store)
    assert said in only_finding(store)


def test_structures_of_noise_under_right_digests_are_found(store, shard):
    data = bytearray(shard.read_bytes())
    rng = np.random.default_rng(0)
    data[BLOCK : BLOCK + 8 + 40] = rng.integers(0, 256, 48, np.uint8).tobytes()
    shard.write_bytes(data)
    sealed(shard, store)
    assert "HDF5 does not read it" in only_finding(store)


@pytest.mark.parametrize("change", [_external_link, _external_storage, _virtual])
def test_no_other_file_is_opened_for_a_hostile_one(
    store, shard, tmp_path, monkeypatch, python, change
):
    lure = tmp_path / "lure.h5"
    with h5py.File(lure, "w") as file:
        file["view"] = np.zeros(6, "<u4")
    monkeypatch.setenv("HEADSTART_LURE", str(lure))
    with h5py.File(shard, "r+") as file:
        change(file)
    hostile = sealed(shard, store)
    verify = (
        "from pathlib import Path; from cache import FeatureStore\n"
        f"(finding,) = FeatureStore.at(Path({str(store.folder)!r})).verify()"
    )
    assert str(lure) not in opened_by(verify, python, tmp_path)
    # The lure is a working one: whoever reads the dataset opens it.
    naive = f"import h5py; h5py.File({str(hostile)!r})['view'][:]"
    assert str(lure) in opened_by(naive, python, tmp_path)


def opened_by(text, python, tmp_path):
    """What strace shows a process to open, libraries in C included."""
    log = tmp_path / "opened"
    trace = ["strace", "-f", "-e", "trace=open,openat,openat2", "-o", str(log)]
    if not shutil.which("strace") or subprocess.run([*trace, "true"], check=False).returncode:
        pytest.skip("needs strace, and the right to use it, to see what is opened")
    started = python(f"os.execvp('strace', {[*trace, sys.executable, '-c', text]!r})")
    _, errors = started.communicate(timeout=60)
    assert started.returncode == 0, errors
    return log.read_text()


def test_a_filter_plugin_is_not_loaded(store, shard, tmp_path, python, monkeypatch):
    if not shutil.which("gcc"):
        pytest.skip("needs a C compiler to make a plugin")
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    source = tmp_path / "plugin.c"
    source.write_text(
        "#include <fcntl.h>\n__attribute__((constructor)) static void ran(void)\n"
        f'{{ open("{tmp_path}/ran", O_CREAT | O_WRONLY, 0644); }}\n'
        "int H5PLget_plugin_type(void) { return 0; }\n"
        "const void *H5PLget_plugin_info(void) { return 0; }\n"
    )
    library = plugins / "libplugin.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    with h5py.File(shard, "r+") as file:
        file.move("view", "kept")
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk((2,))
        plan.set_filter(32111, h5py.h5z.FLAG_OPTIONAL, (1,))
        space = h5py.h5s.create_simple((6,))
        view = h5py.h5d.create(file.id, b"view", h5py.h5t.STD_U32LE, space, plan)
        view.write_direct_chunk((0,), bytes(8))
    hostile = sealed(shard, store)
    monkeypatch.setenv("HDF5_PLUGIN_PATH", str(plugins))
    text = "store = store_in(args[0]); (finding,) = store.verify(); print(finding.problem)"
    said, errors = python(text, store.folder.parent).communicate(timeout=60)
    assert "it is not contiguous" in said, errors
    assert not (tmp_path / "ran").exists()
    # The lure is a working one: whoever reads the dataset runs the plugin.
    naive = f"import h5py\ntry: h5py.File({str(hostile)!r})['view'][:]\nexcept OSError: pass"
    python(naive).communicate(timeout=60)
    assert (tmp_path / "ran").exists()


def test_repair_moves_what_fails_and_the_rows_are_missing(store, rows_of):
    rows = rows_of(10)
    store.append(rows.keys[:5], rows.features[:5])
    bad = store.append(rows.keys[5:], rows.features[5:])
    assert store.check() == []
    before = bad.stat()
    data = bytearray(bad.read_bytes())
    data[-1] ^= 1
    bad.write_bytes(data)
    os.utime(bad, ns=(before.st_atime_ns, before.st_mtime_ns))
    (told,) = store.verify()
    assert told.moved_to is None
    assert bad.exists()
    (moved,) = store.verify(repair=True)
    assert moved.moved_to.parent == store.folder / "quarantine"
    assert not bad.exists()
    assert store.missing(rows.keys).tolist() == [5, 6, 7, 8, 9]
    store.append(rows.keys[5:], rows.features[5:])
    assert store.verify(repair=True) == []
    assert np.array_equal(FeatureStore.at(store.folder).read(rows.keys), rows.features)


def test_where_nothing_can_be_moved_repair_tells_and_goes_on(store, shard, monkeypatch):
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    (finding,) = FeatureStore.at(store.folder).verify(repair=True)
    assert finding.moved_to is None
    assert shard.exists()
