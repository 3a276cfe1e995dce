"""Tensors out of a file in torch's old serialisation, without torch and without running anything.

Such a file is five pickles (magic number, protocol, platform, the object, the storages' keys) and
then, for each key in that order, the number of elements (8 bytes, little endian) and the elements.
A pickle is a program; the unpickler here resolves four names, to inert stand-ins of its own, and
refuses every other. Sizes are checked against the bytes that are there before memory is taken.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
# A hundred times the largest backbone's metadata; keeps a hostile file from taking memory.
_MAX_TENSORS = 20_000
_MAX_RANK = 8


class UnsafeFileError(ValueError):
    """The file is not a plain set of tensors; the text says what was found."""


@dataclass(frozen=True, slots=True)
class _Storage:
    key: str
    dtype: np.dtype[Any]
    elements: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _StorageType:
    """Stands where torch's class would: names a dtype and cannot be called."""

    dtype: str


class _Names(OrderedDict[str, Any]):
    """A dictionary that takes no attributes: torch puts ``_metadata`` on it, unused here."""

    def __setstate__(self, state: object) -> None:
        """Drop the state."""


def load_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Read the tensors of a torch file of the old (not zipped) kind.

    Parameters
    ----------
    path
        A file that holds one dictionary from names to dense tensors on the CPU, of 32-bit floats
        or 64-bit integers.

    Returns
    -------
    dict
        Name to array, C-contiguous, in the file's order; each owns its memory.

    Raises
    ------
    UnsafeFileError
        If the file is anything else: another format, any other object or callable in a pickle,
        a tensor that reaches beyond its storage, a storage beyond the end of the file.
    OSError
        If it cannot be read.
    """
    data = path.read_bytes()
    stream = io.BytesIO(data)
    try:
        _expect(_plain(stream), _MAGIC, "torch's magic number")
        _expect(_plain(stream), _PROTOCOL, "protocol")
        platform = _plain(stream)
        _expect(isinstance(platform, dict) and platform.get("little_endian"), True, "byte order")
        found = _Unpickler(stream).load()
        keys = _plain(stream)
    except UnsafeFileError:
        raise
    except Exception as error:  # pickle raises nearly anything on bytes that are no pickle
        raise UnsafeFileError(f"not a file of tensors in torch's old format: {error}") from error
    tensors = _checked(found)
    blocks = _storages(memoryview(data)[stream.tell() :], keys, tensors)
    return {name: _array(name, tensor, blocks) for name, tensor in tensors.items()}


class _Unpickler(pickle.Unpickler):
    """Resolves the four names of a state dictionary, and storages; nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[f"{module}.{name}"]
        except KeyError:
            raise UnsafeFileError(
                f"the file asks for {module}.{name}: only tensors are read"
            ) from None

    def persistent_load(self, pid: object) -> _Storage:
        match pid:
            case ("storage", _StorageType(dtype), str(key), str(), int(elements), None) if (
                elements >= 0
            ):
                return _Storage(key, np.dtype(dtype), elements)
        raise UnsafeFileError(f"unknown kind of storage: {str(pid)[:100]}")


class _PlainUnpickler(pickle.Unpickler):
    """Numbers, strings, lists and dictionaries."""

    def find_class(self, module: str, name: str) -> Any:
        raise UnsafeFileError(f"the file asks for {module}.{name}: only tensors are read")


def _plain(stream: io.BytesIO) -> Any:
    return _PlainUnpickler(stream).load()


def _rebuild(
    storage: object, offset: object, shape: object, strides: object, *_: object
) -> _Tensor:
    if not isinstance(storage, _Storage) or not _natural(offset):
        raise UnsafeFileError("a tensor without a storage")
    for numbers in (shape, strides):
        if not isinstance(numbers, tuple) or len(numbers) > _MAX_RANK:
            raise UnsafeFileError("a tensor whose shape is no short tuple")
        if not all(map(_natural, numbers)):
            raise UnsafeFileError("a tensor whose shape or strides are not natural numbers")
    return _Tensor(storage, offset, shape, strides)  # type: ignore[arg-type]


def _natural(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**48


_ALLOWED: Mapping[str, Callable[..., Any] | _StorageType] = {
    "collections.OrderedDict": _Names,
    "torch._utils._rebuild_tensor_v2": _rebuild,
    "torch.FloatStorage": _StorageType("<f4"),
    "torch.LongStorage": _StorageType("<i8"),
}


def _expect(found: object, expected: object, what: str) -> None:
    if type(found) is not type(expected) or found != expected:
        raise UnsafeFileError(f"not a file of tensors in torch's old format: unexpected {what}")


def _checked(found: object) -> dict[str, _Tensor]:
    if not isinstance(found, dict) or len(found) > _MAX_TENSORS:
        raise UnsafeFileError("the file does not hold one dictionary of tensors")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, _Tensor):
            raise UnsafeFileError(
                f"the file holds something that is no tensor at {str(name)[:100]!r}"
            )
    return dict(found)


def _storages(
    data: memoryview, keys: object, tensors: Mapping[str, _Tensor]
) -> dict[str, NDArray[Any]]:
    """Map each key to its elements, without a copy."""
    wanted = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise UnsafeFileError("the file has no list of storages")
    if len(keys) != len(set(keys)) or set(keys) != set(wanted):
        raise UnsafeFileError("the file's storages are not those that its tensors name")
    blocks: dict[str, NDArray[Any]] = {}
    position = 0
    for key in keys:
        storage = wanted[key]
        end = position + 8 + storage.elements * storage.dtype.itemsize
        if end > len(data):
            raise UnsafeFileError(f"the file is cut off in storage {key[:100]!r}")
        if struct.unpack_from("<q", data, position)[0] != storage.elements:
            raise UnsafeFileError(f"storage {key[:100]!r} has another length than its tensors say")
        blocks[key] = np.frombuffer(data[position + 8 : end], dtype=storage.dtype)
        position = end
    return blocks


def _array(name: str, tensor: _Tensor, blocks: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    block = blocks[tensor.storage.key]
    shape, strides = tensor.shape, tensor.strides
    if len(shape) != len(strides):
        raise UnsafeFileError(
            f"tensor {name[:100]!r} has {len(shape)} dimensions and other strides"
        )
    if block.dtype != tensor.storage.dtype:
        raise UnsafeFileError(f"tensor {name[:100]!r} gives its storage another type")
    elements = math.prod(shape)
    if not elements:
        # Its other dimensions could still be beyond what an array can have.
        return np.empty(0, block.dtype)
    # Overlapping strides could make a small file claim any amount of memory.
    if elements > block.size:
        raise UnsafeFileError(f"tensor {name[:100]!r} is larger than its storage")
    reach = tensor.offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if reach >= block.size:
        raise UnsafeFileError(f"tensor {name[:100]!r} reaches beyond its storage")
    view = np.lib.stride_tricks.as_strided(
        block[tensor.offset :],
        shape=shape,
        strides=tuple(step * block.itemsize for step in strides),
        writeable=False,
    )
    return np.array(view, order="C")
