"""Fault 5: stores that somebody made to harm whoever opens them.

Each is opened, checked, read and verified in a process of little memory and time, whose every
opening of a file and start of a program is watched (`sys.addaudithook`).
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import random
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from cache import CacheError, FeatureStore
from cache.header import BLOCK, Header, pack, parse
from cache.shard import row_crcs
from tests.torture.children import limited
from tests.torture.world import FOREIGN, Budget, Tally, World, scratch, seeded

# Of memory and of CPU, for one store.
PEAK = 200 << 20
SECONDS = 5.0
_SECRET = b"this must not be read"


class Host:
    """A store of four good rows, and a good shard of other rows to make hostile ones from.

    `others` are rows that are right and that a case has added: bytes of each by its key.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.world = World(4, 300)
        self.more = World(1004, 300)
        self.others: dict[bytes, bytes] = {}
        store = FeatureStore.open(root / "store", self.world.recipe)
        self.world.append(store, range(4))
        self.folder, self.shards = store.folder, store.folder / "shards"
        path = self.more.append(
            FeatureStore.open(root / "more", self.world.recipe), range(1000, 1004)
        )
        self.data, self.path = path.read_bytes(), path
        self.header = parse(self.data[:BLOCK])
        self.secret = root / "secret.h5"
        with h5py.File(self.secret, "w") as file:
            file["features"] = np.frombuffer(_SECRET, np.uint8)

    def put(self, body: bytes, header: Header, *, hole: int = 0) -> Path:
        """Put a shard with a right checksum and a right name among the shards."""
        data = pack(header) + body
        digest = hashlib.sha256(data).hexdigest()
        name = f"{header.recipe.hex()[:8]}-{header.rows}-{digest[:32]}.h5"
        path = self.shards / name
        path.write_bytes(data)
        if hole:
            os.truncate(path, hole)
        return path

    def forge(self, **fields: int) -> Path:
        """Put a shard whose header says something else."""
        return self.put(self.data[BLOCK:], dataclasses.replace(self.header, **fields))

    def around(self, make: Callable[[h5py.File], None]) -> Path:
        """Put a shard whose header is right, and whose HDF5 structures are of our making."""
        inner = self.root / "inner.h5"
        with h5py.File(inner, "w", libver="earliest", userblock_size=BLOCK) as file:
            make(file)
        rest = inner.read_bytes()[BLOCK:]
        rest += bytes(-len(rest) % BLOCK)
        rows = np.arange(1000, 1004)
        keys, features = self.more.keys[rows], self.more.features[rows]
        views = np.zeros(4, np.uint32)
        crcs = row_crcs(keys, views, features, self.header.recipe)
        parts = [array.tobytes() for array in (features, keys, views, crcs)]
        at, places = BLOCK + len(rest), []
        for part in parts:
            places.append(at)
            at += len(part) + -len(part) % BLOCK
        body = rest + b"".join(part + bytes(-len(part) % BLOCK) for part in parts)
        header = dataclasses.replace(
            self.header,
            **dict(zip(("features_at", "key_at", "view_at", "crc_at"), places, strict=True)),
            length=BLOCK + len(body),
        )
        whole, digest = bytes(BLOCK) + body, hashlib.sha256()
        for start, stop in header.rest_extents:
            digest.update(whole[start:stop])
        return self.put(body, dataclasses.replace(header, rest=digest.digest()))

    def recipe(self, text: bytes) -> None:
        (self.folder / "recipe.json").write_bytes(text)


def _offsets(host: Host) -> None:
    """Headers with a right checksum and offsets that overlap, overflow or leave the file."""
    header = host.header
    for name in ("features_at", "key_at", "view_at", "crc_at"):
        for value in (0, BLOCK, header.features_at, header.length, 2**63, 2**64 - BLOCK, 2**40):
            if value != getattr(header, name):
                host.forge(**{name: value})


def _counts(host: Host) -> None:
    """Headers with a right checksum and 8 PiB of rows, or none."""
    for rows in (0, 5, 2**31, 2**53, 2**64 - 1):
        host.forge(rows=rows)
    for dims in (0, 299, 301, 2**51, 2**62, 2**64 - 1):
        host.forge(dims=dims)
    for length in (0, BLOCK, 2**63, host.header.length + 1):
        host.forge(length=length)


def _sparse(host: Host) -> None:
    """Files that are holes: gigabytes of keys, or one row of 64 MiB, that take no room."""
    rows = 1 << 27
    places = {"features_at": BLOCK, "key_at": BLOCK + rows * 4}
    places["view_at"] = places["key_at"] + rows * 32
    places["crc_at"] = places["view_at"] + rows * 4
    end = places["crc_at"] + rows * 4
    header = dataclasses.replace(host.header, rows=rows, dims=1, length=end, **places)
    host.put(b"", dataclasses.replace(header, rest=hashlib.sha256().digest()), hole=end)
    wide = (1 << 26) // 4
    places = {"key_at": BLOCK, "view_at": 2 * BLOCK, "crc_at": 3 * BLOCK, "features_at": 4 * BLOCK}
    end = 4 * BLOCK + (1 << 26)
    rest = bytes((BLOCK - 32) + 2 * (BLOCK - 4))
    header = dataclasses.replace(host.header, rows=1, dims=wide, length=end, **places)
    body = host.more.keys[1000].tobytes().ljust(3 * BLOCK, b"\0")
    host.put(body, dataclasses.replace(header, rest=hashlib.sha256(rest).digest()), hole=end)


def _much_rest(host: Host) -> None:
    """A gigabyte that belongs to no dataset."""
    host.put(
        host.data[BLOCK:],
        dataclasses.replace(host.header, length=host.header.length + (1 << 30)),
        hole=host.header.length + (1 << 30),
    )


def _external_link(host: Host) -> None:
    host.around(lambda file: _link(file, h5py.ExternalLink(str(host.secret), "features")))


def _soft_link(host: Host) -> None:
    host.around(lambda file: _link(file, h5py.SoftLink("/features")))


def _link(file: h5py.File, link: object) -> None:
    for name in ("features", "key", "view", "crc"):
        file[name] = link


def _external_storage(host: Host) -> None:
    def make(file: h5py.File) -> None:
        outside = [("/etc/passwd", 0, 4800)]
        file.create_dataset("features", (4, 300), "<f4", external=outside)

    host.around(make)


def _virtual(host: Host) -> None:
    def make(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((4, 300), "<f4")
        layout[:] = h5py.VirtualSource(str(host.secret), "features", (4, 300))
        file.create_virtual_dataset("features", layout)

    host.around(make)


def _filters(host: Host) -> None:
    """A dataset whose filter (of a number nobody has) would be looked for as a plugin."""

    def make(file: h5py.File) -> None:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk((4, 300))
        plan.set_filter(32_123, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((4, 300))
        h5py.h5d.create(file.id, b"features", h5py.h5t.IEEE_F32LE, space, plan)

    host.around(make)


def _petabytes(host: Host) -> None:
    def make(file: h5py.File) -> None:
        file.create_dataset("features", (2**50, 2), "<f4", chunks=(1, 2))

    host.around(make)


def _odds(host: Host) -> None:
    """HDF5 structures that are fine and show other rows than the header does."""

    def make(file: h5py.File) -> None:
        file["features"] = np.zeros((4, 300), "<f4")
        file["key"] = np.zeros((4, 32), np.uint8)
        file["view"] = file["crc"] = np.zeros(4, "<u4")

    host.around(make)


def _noise(host: Host) -> None:
    """HDF5 structures that are noise under a right digest."""
    noise = random.Random(0).randbytes
    host.around(lambda file: file.attrs.__setitem__("x", np.frombuffer(noise(999), np.uint8)))
    start = host.header.rest_extents[0][0]
    for size in (8, 100, 600):
        data = bytearray(host.data)
        data[start : start + size] = noise(size)
        digest = hashlib.sha256()
        for low, high in host.header.rest_extents:
            digest.update(data[low:high])
        host.put(bytes(data[BLOCK:]), dataclasses.replace(host.header, rest=digest.digest()))


def _sparse_file(host: Host) -> None:
    """A file of 16 GiB that takes no room, under a name that nobody has."""
    _sparse_at(16 << 30)(host.shards / f"{host.world.recipe.digest[:8]}-4-{'0' * 32}.h5")


def _sparse_in_the_way(host: Host) -> None:
    """A file of 16 GiB that takes no room, under the name that the next shard gets."""
    store = FeatureStore.open(host.root / "beside", host.world.recipe)
    _sparse_at(16 << 30)(host.shards / host.more.append(store, range(4, 8)).name)


def _good_start_then_holes(host: Host) -> None:
    """A good shard, grown to 16 GiB without taking more room."""
    path = host.shards / host.path.name
    path.write_bytes(host.data)
    os.truncate(path, 16 << 30)


def _colliding(host: Host) -> None:
    """65 536 good rows whose keys differ in the top four bits of each 64-bit word alone.

    Multiplied by an odd number, such words still differ in their top bits alone, so that sums of
    them have sixteen values, whatever the numbers are.
    """
    n = np.arange(1 << 16, dtype=np.uint64)
    words = np.full((len(n), 4), 7, np.uint64)
    for column in range(4):
        words[:, column] += ((n >> np.uint64(4 * column)) & np.uint64(15)) << np.uint64(60)
    keys = words.view(np.uint8)
    features = np.zeros((len(n), host.world.dims), np.float32)
    features[:, 0] = n
    path = FeatureStore.open(host.root / "beside", host.world.recipe).append(keys, features)
    path.rename(host.shards / path.name)
    host.others = {k.tobytes(): f.tobytes() for k, f in zip(keys, features, strict=True)}


def _strange_files(host: Host) -> None:
    """What is no file under the names of shards: nothing of it may be opened or waited for."""
    names = iter(f"{host.world.recipe.digest[:8]}-4-{n:032x}.h5" for n in range(100))
    outside = host.root / host.path.name
    outside.write_bytes(host.data)
    (host.shards / host.path.name).symlink_to(outside)
    for target in ("/dev/zero", "/proc/self/mem", "/nowhere", str(host.shards), "."):
        (host.shards / next(names)).symlink_to(target)
    os.mkfifo(host.shards / next(names))
    (host.shards / next(names)).mkdir()
    here = Path.cwd()
    os.chdir(host.shards)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(next(names))
    os.chdir(here)
    for kind, major, minor in (
        (stat.S_IFCHR, 1, 5),
        (stat.S_IFCHR, 1, 8),
        (stat.S_IFCHR, 5, 2),
        (stat.S_IFBLK, 7, 0),
    ):
        try:
            os.mknod(host.shards / next(names), kind | 0o600, os.makedev(major, minor))
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EACCES):
                raise


def _strange_names(host: Host) -> None:
    recipe = host.world.recipe.digest[:8]
    for name in (b"\xff\xfe.h5", b"a\nb.h5", b".h5", b"-.h5", b"%s-%s-0.h5" % (b"0", b"9" * 200)):
        Path(os.fsdecode(os.fsencode(host.shards) + b"/" + name)).write_bytes(host.data)
    (host.shards / f"{recipe}-{'9' * 200}-{'0' * 32}.h5").write_bytes(host.data)


def _many(host: Host) -> None:
    for n in range(5000):
        (host.shards / f"{n}.h5").touch()


def _nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def _with_digest(fields: bytes) -> bytes:
    canonical = json.dumps(json.loads(fields), sort_keys=True, separators=(",", ":")).encode()
    digest = hashlib.sha256(canonical).hexdigest().encode()
    return b'{"recipe":' + fields + b',"digest":"' + digest + b'"}'


RECIPES: dict[str, bytes] = {
    "nothing": b"",
    "deep": _nested(500_000),
    "deep recipe": b'{"recipe":' + _nested(100_000) + b',"digest":""}',
    "large": b'{"recipe":"' + b"x" * (1 << 20) + b'"}',
    "many lists": b"[" + b"[]," * 340_000 + b"[]]",
    "large number": b'{"recipe":{"version":' + b"9" * 100_000 + b',"dtype":"float32"},"digest":""}',
    "infinite": b'{"recipe":{"version":1,"dtype":"float32","x":Infinity},"digest":1}',
    "no text": b"\xff\xfe\x00" * 1000,
    "a number": b"7",
    "wrong types": b'{"recipe":{"version":[],"dtype":{}},"digest":{}}',
    "future": b'{"recipe":{"version":2,"dtype":"float32"},"digest":""}',
}


def _recipes(name: str) -> Callable[[Host], None]:
    return lambda host: host.recipe(RECIPES[name])


def deep_field(depth: int) -> bytes:
    """Return a recipe of a known kind, digest right, one of whose fields is nested deeply."""
    fields = json.loads(FOREIGN.canonical()) | {"backbone": "?"}
    text = json.dumps(fields).encode().replace(b'"?"', _nested(depth))
    return _with_digest(text)


def _recipe_is(make: Callable[[Path], None]) -> Callable[[Host], None]:
    def put(host: Host) -> None:
        (host.folder / "recipe.json").unlink()
        make(host.folder / "recipe.json")

    return put


def _memory(text: bytes) -> Callable[[Host], None]:
    return lambda host: (host.folder / "checked.json").write_bytes(text) and None


def _sparse_at(size: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.touch()
        os.truncate(path, size)

    return make


def _part_is(part: str, make: Callable[[Path], None]) -> Callable[[Host], None]:
    def put(host: Host) -> None:
        path = host.folder / part
        if path.is_dir():
            path.rename(host.root / f"real {part}")
        make(path)

    return put


CASES: dict[str, Callable[[Host], None]] = {
    "offsets": _offsets,
    "counts": _counts,
    "sparse shards": _sparse,
    "a gigabyte of rest": _much_rest,
    "a sparse file of 16 GiB": _sparse_file,
    "a sparse file in the way": _sparse_in_the_way,
    "a shard grown to 16 GiB": _good_start_then_holes,
    "keys that collide": _colliding,
    "external link": _external_link,
    "soft link to itself": _soft_link,
    "external storage": _external_storage,
    "virtual dataset": _virtual,
    "unknown filter": _filters,
    "8 PiB dataset": _petabytes,
    "HDF5 at odds with the header": _odds,
    "HDF5 of noise": _noise,
    "strange files": _strange_files,
    "strange names": _strange_names,
    "5000 empty shards": _many,
    **{f"recipe: {name}": _recipes(name) for name in RECIPES},
    **{
        f"recipe: field {depth} deep": lambda host, depth=depth: host.recipe(deep_field(depth))
        for depth in (200, 400)
    },
    "recipe: FIFO": _recipe_is(os.mkfifo),
    "recipe: folder": _recipe_is(os.mkdir),
    "recipe: link": _recipe_is(lambda path: path.symlink_to("/etc/passwd")),
    "recipe: sparse terabyte": _recipe_is(_sparse_at(1 << 40)),
    "memory: infinite": _memory(b'{"a":[Infinity,1,1,1]}'),
    "memory: not a number": _memory(b'{"a":[NaN,1,1,1]}'),
    "memory: deep": _memory(_nested(400_000)),
    "memory: many lists": _memory(b"[" + b"[]," * 1_000_000 + b"[]]"),
    "memory: large number": _memory(b'{"a":[' + b"9" * 100_000 + b",1,1,1]}"),
    "memory: sparse terabyte": _part_is("checked.json", _sparse_at(1 << 40)),
    "memory: sparse 256 MiB": _part_is("checked.json", _sparse_at(256 << 20)),
    "memory: FIFO": _part_is("checked.json", os.mkfifo),
    "memory: folder": _part_is("checked.json", os.mkdir),
    "memory: link": _part_is("checked.json", lambda path: path.symlink_to("/etc/passwd")),
    "shards: link": _part_is("shards", lambda path: path.symlink_to("/tmp")),
    "shards: FIFO": _part_is("shards", os.mkfifo),
    "quarantine: link": _part_is("quarantine", lambda path: path.symlink_to("/tmp")),
    "quarantine: FIFO": _part_is("quarantine", os.mkfifo),
    "tmp: link": _part_is("tmp", lambda path: path.symlink_to("/tmp")),
    "tmp: FIFO": _part_is("tmp", os.mkfifo),
}

_FORBIDDEN = ("os.exec", "os.fork", "os.system", "subprocess", "pickle", "socket", "ctypes.dlopen")


def probe(host: Host, inside: Path) -> tuple[str, list[str], int]:
    """Open, check, read, verify: (what became of it, what it should not have done, bad rows)."""
    watched: list[str] = []
    root = os.path.realpath(inside)
    system = (sys.prefix, sys.base_prefix, "/proc/", "/sys/", str(Path(__file__).parents[2]))

    def watch(event: str, args: tuple[object, ...]) -> None:
        if event.startswith(_FORBIDDEN):
            watched.append(f"{event} {args}"[:200])
        elif event == "open" and isinstance(args[0], (str, bytes, os.PathLike)):
            path = os.fsdecode(args[0])
            real = os.path.realpath(path)
            # The folders above are synced.
            if not real.startswith((root, *system)) and not f"{root}/".startswith(f"{real}/"):
                watched.append(f"open {path}")

    sys.addaudithook(watch)
    try:
        store = FeatureStore.at(inside)
        store.check()
        missing = store.missing(host.world.keys)
        if host.others:
            store.missing(np.frombuffer(b"".join(host.others), np.uint8).reshape(-1, 32))
        own = store.digest == host.world.recipe.digest  # else its rows are another store's
        wrong = len(missing) if own else 0
        if not len(missing):
            wrong += int((store.read(host.world.keys) != host.world.features).any(axis=1).sum())
        for block in store.blocks():
            for key, row in zip(block.keys, block.features, strict=True):
                other = host.others.get(key.tobytes())
                if other is not None:
                    wrong += row.tobytes() != other
                    continue
                number = host.more.number.get(key.tobytes(), -1)
                wrong += number < 0 or not np.array_equal(row, host.more.features[number])
        findings = store.verify()
        try:
            host.more.append(store, range(4, 8))
        except CacheError as error:
            return f"no append: {error}", watched, wrong
        return f"opened, {len(findings)} findings", watched, wrong
    except CacheError as error:
        return f"refused: {error}", watched, 0


def attack(root: Path, name: str, tally: Tally) -> tuple[int, float]:
    """Make one hostile store and open it; return the bytes and the CPU seconds that took."""
    host = Host(root)
    CASES[name](host)
    tally.tried += 1
    tally.states += 1
    result, peak, seconds = limited(lambda: probe(host, host.folder))
    if not isinstance(result, tuple):
        tally.tell(f"{name}: {result!r:.300}", unclear=1)
        return peak, seconds
    _, watched, wrong = result
    if wrong:
        tally.tell(f"{name}: rows are lost or wrong", misread=wrong)
    if watched:
        tally.tell(f"{name}: it did {watched[:2]}", unclear=1)
    if peak > PEAK:
        tally.tell(f"{name}: it took {peak >> 20} MiB", unclear=1)
    if seconds > SECONDS:
        tally.tell(f"{name}: it took {seconds:.1f} s of CPU", unclear=1)
    return peak, seconds


def run(tally: Tally, budget: Budget, seed: int) -> None:
    """Open each hostile store once, in a random order, as long as there is a budget."""
    order = seeded(seed, "hostile").sample(sorted(CASES), len(CASES))
    peak, slowest = 0, 0.0
    while tally.tried < len(order) and budget.allows(tally.tried):
        with scratch() as root:
            took = attack(root, order[tally.tried], tally)
        peak, slowest = max(peak, took[0]), max(slowest, took[1])
    tally.share = tally.tried / len(CASES)
    done = f"{tally.tried} of {len(CASES)} stores"
    tally.notes.append(f"{done}; at most {peak >> 20} MiB and {slowest:.1f} s of CPU")
