from __future__ import annotations

import pickle
import struct
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.backbones.unpickle import UnsafeFileError, load_tensors

from .lite0_reference import checkpoint

MAGIC = 0x1950A86A20F9469CFC6C
PLATFORM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}


class Global:
    """Pickled as a reference to a global name, whatever there is behind it."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Call:
    """Pickled as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments


class Storage:
    def __init__(self, key: str, elements: Any, kind: str = "FloatStorage") -> None:
        self.pid = ("storage", Global("torch", kind), key, "cpu", elements, None)


class Writer(pickle._Pickler):  # the one in Python, whose reductions can be taken over
    def __init__(self, file: Any) -> None:
        super().__init__(file, protocol=2)

    def persistent_id(self, obj: object) -> object:
        return obj.pid if isinstance(obj, Storage) else None

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, Global):
            self.write(b"c" + f"{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, Call):
            self.save(obj.function)
            self.save(obj.arguments)
            self.write(b"R")
        else:
            super().save(obj, save_persistent_id)


REBUILD = Global("torch._utils", "_rebuild_tensor_v2")


def tensor(
    storage: Any, offset: Any = 0, shape: Any = (2, 3), strides: Any = (3, 1), *more: Any
) -> Call:
    return Call(REBUILD, storage, offset, shape, strides, False, OrderedDict(), *more)


def write(
    path: Path,
    content: Any,
    keys: Any = ("0",),
    blocks: Any = None,
    head: tuple[Any, ...] = (MAGIC, 1001, PLATFORM),
) -> Path:
    with path.open("wb") as file:
        for part in (*head, content, list(keys)):
            Writer(file).dump(part)
        for values in [np.arange(6, dtype="<f4")] if blocks is None else blocks:
            file.write(struct.pack("<q", len(values)) + values.tobytes())
    return path


def test_tensors_come_out_with_their_strides_and_offsets(tmp_path: Path) -> None:
    storage = Storage("0", 6)
    content = OrderedDict(
        plain=tensor(storage),
        turned=tensor(storage, 0, (3, 2), (1, 3)),
        last=tensor(storage, 5, (), ()),
        empty=tensor(storage, 6, (2**31, 2**31, 0), (0, 0, 1)),
    )
    found = load_tensors(write(tmp_path / "file", content))
    np.testing.assert_array_equal(found["plain"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(found["turned"], [[0, 3], [1, 4], [2, 5]])
    assert found["last"] == 5
    assert found["empty"].shape == (0,)
    assert all(value.flags.c_contiguous and value.flags.owndata for value in found.values())


def test_the_published_checkpoint_is_read_without_torch() -> None:
    found = load_tensors(checkpoint())
    assert len(found) == 296
    assert found["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert found["_fc.weight"].shape == (1000, 1280)
    assert found["_bn0.num_batches_tracked"].dtype == np.int64
    assert all(np.isfinite(value).all() for value in found.values())
    assert (found["_bn0.running_var"] >= 0).all()
    assert "torch" not in sys.modules


HOSTILE = {
    "os.system": Call(Global("os", "system"), "touch {marker}"),
    "posix.system": Call(Global("posix", "system"), "touch {marker}"),
    "eval": Call(Global("builtins", "eval"), "open('{marker}', 'w')"),
    "exec": Call(Global("__builtin__", "exec"), "open('{marker}', 'w')"),
    "open": Call(Global("io", "open"), "{marker}", "w"),
    "getattr": Call(
        Call(Global("builtins", "getattr"), Global("os", "path"), "os"), "system", "touch {marker}"
    ),
    "dotted name": Call(Global("collections", "OrderedDict.__init__.__globals__"), "x"),
    "own module": Call(Global("pipeline.backbones.unpickle", "load_tensors"), "{marker}"),
    "torch.load": Call(Global("torch", "load"), "{marker}"),
    "numpy": Call(Global("numpy.core.multiarray", "_reconstruct"), "x", (0,), b"b"),
    "called storage": Call(Global("torch", "FloatStorage"), 2**40),
}


@pytest.mark.parametrize("part", range(5))
@pytest.mark.parametrize("kind", HOSTILE)
def test_no_code_runs_and_no_other_name_is_resolved(tmp_path: Path, kind: str, part: int) -> None:
    marker = tmp_path / "marker"
    call = HOSTILE[kind]
    call = Call(
        call.function,
        *(a.format(marker=marker) if isinstance(a, str) else a for a in call.arguments),
    )
    parts: list[Any] = [MAGIC, 1001, PLATFORM, {"x": tensor(Storage("0", 6))}, ["0"]]
    parts[part] = {"x": call} if part == 3 else call
    path = tmp_path / "file"
    with path.open("wb") as file:
        for value in parts:
            Writer(file).dump(value)
        file.write(struct.pack("<q", 6) + bytes(24))
    with pytest.raises(UnsafeFileError):
        load_tensors(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"x": 1},
        {"x": [tensor(Storage("0", 6))]},
        {1: tensor(Storage("0", 6))},
        {"x": Storage("0", 6)},
        {"x": tensor(None)},
        {"x": tensor(Storage("0", 6), -1)},
        {"x": tensor(Storage("0", 6), 1)},
        {"x": tensor(Storage("0", 6), 0, (2, 3), (3, -1))},
        {"x": tensor(Storage("0", 6), 0, (2, 3), (3, 2))},
        {"x": tensor(Storage("0", 6), 0, (2, 3), (3,))},
        {"x": tensor(Storage("0", 6), 0, (2, 4), (0, 1))},
        {"x": tensor(Storage("0", 6), 0, (2**40,), (0,))},
        {"x": tensor(Storage("0", 6), 0, (1,) * 40, (1,) * 40)},
        {"x": tensor(Storage("0", 6), 2**60, (1,), (1,))},
        {"x": tensor(Storage("0", 6), 0, (2.0, 3), (3, 1))},
        {"x": tensor(Storage("0", 6), 0, (True, 3), (3, 1))},
        {"x": tensor(Storage("0", 2**50))},
        {"x": tensor(Storage("0", -6))},
        {"x": tensor(Storage("0", 5), 0, (2, 2), (2, 1))},
        {"x": tensor(Storage("1", 6))},
        {"x": tensor(Storage("0", 6)), "y": tensor(Storage("0", 6, "LongStorage"))},
        {"x": tensor(Storage("0", 6, "HalfStorage"))},
        {"x": tensor(Storage("0", "6"))},
    ],
    ids=[
        "a list", "a number", "a list of tensors", "a name that is no text", "a storage",
        "no storage", "offset below", "offset above", "stride below", "stride above",
        "a stride missing", "shape above", "endless repeats", "rank 40", "offset overflows",
        "a fraction", "a truth", "storage overflows", "storage below", "too short",
        "unknown storage", "two types", "halves", "size as text",
    ],
)  # fmt: skip
def test_what_is_no_honest_set_of_tensors_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(UnsafeFileError):
        load_tensors(write(tmp_path / "file", content))


@pytest.mark.parametrize(
    "head",
    [(MAGIC + 1, 1001, PLATFORM), (MAGIC, 1000, PLATFORM), (MAGIC, 1001, {"little_endian": False})],
)
def test_another_format_is_refused(tmp_path: Path, head: tuple[Any, ...]) -> None:
    with pytest.raises(UnsafeFileError, match="torch's old format"):
        load_tensors(write(tmp_path / "file", {}, (), (), head))


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole", {"x": tensor(Storage("0", 6))}).read_bytes()
    short = tmp_path / "short"
    for end in range(len(whole)):
        short.write_bytes(whole[:end])
        with pytest.raises(UnsafeFileError):
            load_tensors(short)


@pytest.mark.parametrize(
    "data", [b"", b"PK\x03\x04" + bytes(100), b"\x89HDF\r\n\x1a\n", b"\x80" * 99]
)
def test_bytes_that_are_no_pickle_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(UnsafeFileError):
        load_tensors(tmp_path / "file")
