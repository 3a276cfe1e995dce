"""The contract of the store."""

import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest

from cache import CacheError, FeatureStore, MissingRows, RecipeError

dtypes = pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])


@dtypes
@pytest.mark.parametrize("views", [None, "several"])
def test_rows_come_back_in_the_order_asked_for(tmp_path, recipe_of, rows_of, dtype, views):
    store = FeatureStore.open(tmp_path, recipe_of(dtype))
    rows = rows_of(60, dtype=dtype)
    numbers = None if views is None else np.arange(60, dtype=np.uint32) % 3
    keys = rows.keys if views is None else np.repeat(rows.keys[:20], 3, axis=0)
    for part in (slice(0, 10), slice(10, 45), slice(45, 60)):
        store.append(keys[part], rows.features[part], None if views is None else numbers[part])
    order = np.random.default_rng(1).permutation(60)
    again = FeatureStore.at(store.folder)
    for each in (store, again):
        asked = None if views is None else numbers[order]
        found = each.read(keys[order], asked)
        assert found.dtype == dtype
        assert np.array_equal(found, rows.features[order])
        assert (each.rows, each.shards, each.dims, each.digest) == (60, 3, 8, store.recipe.digest)
        assert each.nbytes == sum(file.stat().st_size for file in store.folder.rglob("*.h5"))
    assert again.recipe == store.recipe


def test_an_empty_store_has_nothing_and_lacks_everything(store, rows_of):
    rows = rows_of(5)
    assert (store.rows, store.shards, store.nbytes, store.dims) == (0, 0, 0, None)
    assert store.missing(rows.keys).tolist() == [0, 1, 2, 3, 4]
    assert store.read(rows.keys[:0]).shape == (0, 0)
    assert list(store.blocks()) == []
    assert store.check() == []


def test_asking_for_no_rows_gives_none_of_the_right_width(store, rows_of):
    rows = rows_of(5)
    store.append(rows.keys, rows.features)
    assert store.read(rows.keys[:0]).shape == (0, 8)
    assert store.missing(rows.keys[:0]).shape == (0,)


def test_missing_gives_ascending_positions_and_tells_views_apart(store, rows_of):
    rows = rows_of(10)
    store.append(rows.keys[::2], rows.features[::2])
    missing = store.missing(rows.keys)
    assert missing.dtype == np.int64
    assert missing.tolist() == [1, 3, 5, 7, 9]
    assert len(store.missing(rows.keys[::2], np.ones(5, np.uint32))) == 5
    with pytest.raises(MissingRows) as caught:
        store.read(rows.keys)
    assert caught.value.positions.tolist() == [1, 3, 5, 7, 9]
    assert "5 of the rows" in str(caught.value)
    assert pickle.loads(pickle.dumps(caught.value)).positions.tolist() == [1, 3, 5, 7, 9]


def test_keys_alike_in_all_but_one_byte_are_told_apart(store):
    keys = np.zeros((32 * 4, 32), np.uint8)
    keys[np.arange(128), np.arange(128) // 4] = np.arange(128) % 4 + 1
    features = np.arange(128, dtype=np.float32)[:, None]
    store.append(keys[:100], features[:100])
    assert store.missing(keys).tolist() == list(range(100, 128))
    assert np.array_equal(store.read(keys[:100][::-1]), features[:100][::-1])


def test_a_run_of_one_shard_is_mapped_and_read_only(store, rows_of):
    rows = rows_of(50)
    store.append(rows.keys[:40], rows.features[:40])
    store.append(rows.keys[40:], rows.features[40:])
    run = store.read(rows.keys[5:30])
    assert not run.flags.owndata
    assert not run.flags.writeable
    assert np.shares_memory(run, store.read(rows.keys[:40]))
    assert np.array_equal(run, rows.features[5:30])
    assert store.read(rows.keys[[3, 2]]).flags.owndata


def test_the_same_row_asked_for_twice_comes_twice(store, rows_of):
    rows = rows_of(6)
    store.append(rows.keys, rows.features)
    asked = [4, 4, 0, 4]
    assert np.array_equal(store.read(rows.keys[asked]), rows.features[asked])


def test_of_duplicate_rows_the_lowest_shard_name_wins(store, rows_of):
    rows = rows_of(20)
    offered = {
        store.append(rows.keys[i : i + 10], rows.features[i : i + 10] + i): i for i in (0, 5)
    }
    winner = offered[min(offered, key=lambda path: path.name)]
    for each in (store, FeatureStore.at(store.folder)):
        assert np.array_equal(each.read(rows.keys[5:10]), rows.features[5:10] + winner)
        assert each.rows == 15
        blocks = list(each.blocks(rows=4))
        keys = np.concatenate([block.keys for block in blocks])
        assert len(np.unique(keys, axis=0)) == len(keys) == 15
        assert np.array_equal(each.read(keys), np.concatenate([b.features for b in blocks]))


def test_duplicates_within_one_append_are_one_row(store, rows_of):
    rows = rows_of(4)
    twice = [0, 1, 0, 2, 3, 3]
    store.append(rows.keys[twice], rows.features[twice])
    assert store.rows == 4
    assert sum(len(block.keys) for block in store.blocks()) == 4
    assert np.array_equal(store.read(rows.keys), rows.features)


def test_the_same_append_again_is_the_same_shard(store, rows_of):
    rows = rows_of(4)
    assert store.append(rows.keys, rows.features) == store.append(rows.keys, rows.features)
    assert store.shards == 1


def test_blocks_are_mapped_and_of_the_size_asked_for(store, rows_of):
    rows = rows_of(10)
    store.append(rows.keys, rows.features, np.full(10, 7))
    blocks = list(store.blocks(rows=4))
    assert [len(block.keys) for block in blocks] == [4, 4, 2]
    assert not any(block.features.flags.owndata for block in blocks)
    assert {int(view) for block in blocks for view in block.views} == {7}
    assert np.array_equal(np.concatenate([block.features for block in blocks]), rows.features)


def test_refresh_sees_what_others_committed_and_took_away(tmp_path, recipe, rows_of):
    mine, other = (FeatureStore.open(tmp_path, recipe) for _ in range(2))
    rows = rows_of(6)
    path = other.append(rows.keys, rows.features)
    assert mine.rows == 0
    mine.refresh()
    assert np.array_equal(mine.read(rows.keys), rows.features)
    path.unlink()
    mine.refresh()
    assert mine.rows == 0


def test_more_shards_than_maps_are_kept_open_are_read(store, rows_of):
    rows = rows_of(70)
    for i in range(70):
        store.append(rows.keys[i : i + 1], rows.features[i : i + 1])
    assert np.array_equal(store.read(rows.keys), rows.features)
    assert sum(1 for _ in store.blocks()) == 70


def test_a_shard_replaced_while_a_reader_has_it_open_is_looked_up_again(tmp_path, recipe, rows_of):
    reader, writer = (FeatureStore.open(tmp_path, recipe) for _ in range(2))
    rows = rows_of(8)
    parts = [writer.append(rows.keys[i : i + 4], rows.features[i : i + 4]) for i in (0, 4)]
    reader.refresh()
    assert len(reader.missing(rows.keys)) == 0
    writer.append(rows.keys, rows.features)
    for part in parts:
        part.unlink()
    assert np.array_equal(reader.read(rows.keys), rows.features)


def test_float32_rows_are_cast_to_a_float16_store_unless_they_do_not_fit(tmp_path, recipe_of):
    store = FeatureStore.open(tmp_path, recipe_of("float16"))
    keys = np.eye(2, 32, dtype=np.uint8)
    store.append(keys, np.array([[0.1], [2.0]], np.float32))
    assert np.array_equal(store.read(keys), np.array([[0.1], [2.0]], np.float16))
    with pytest.raises(ValueError, match="too large for float16"):
        store.append(keys, np.array([[1e6], [2.0]], np.float32))


@pytest.mark.parametrize(
    "keys, features, views, said",
    [
        (np.zeros((2, 31), np.uint8), np.zeros((2, 3), "f4"), None, "expected uint8"),
        (np.zeros((2, 32), np.int64), np.zeros((2, 3), "f4"), None, "expected uint8"),
        (np.zeros((2, 32), np.uint8), np.zeros((3, 3), "f4"), None, "for 2 keys"),
        (np.zeros((2, 32), np.uint8), np.zeros((2, 0), "f4"), None, "for 2 keys"),
        (np.zeros((0, 32), np.uint8), np.zeros((0, 3), "f4"), None, "for 0 keys"),
        (np.zeros((2, 32), np.uint8), np.zeros((2, 3), "i4"), None, "dtype int32"),
        (np.zeros((2, 32), np.uint8), np.zeros((2, 4), "f4"), None, "rows of 4 numbers"),
        (np.zeros((2, 32), np.uint8), np.zeros((2, 3), "f4"), [0], "views of"),
        (np.zeros((2, 32), np.uint8), np.zeros((2, 3), "f4"), [0.0, 1.0], "views of"),
        (np.zeros((2, 32), np.uint8), np.zeros((2, 3), "f4"), [0, -1], "out of range"),
    ],
)
def test_what_does_not_fit_is_refused_and_told(store, keys, features, views, said):
    store.append(np.ones((1, 32), np.uint8), np.zeros((1, 3), np.float32))
    with pytest.raises(ValueError, match=said):
        store.append(keys, features, views)
    assert store.rows == 1


def test_a_read_only_store_is_read_and_checked(recipe, rows_of, python):
    rows = rows_of(6)
    # Others must be able to reach the folder: root may write to what is read-only.
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)
        store = FeatureStore.open(Path(root), recipe)
        good = store.append(rows.keys[:3], rows.features[:3])
        bad = store.append(rows.keys[3:], rows.features[3:])
        data = bytearray(bad.read_bytes())
        data[-1] ^= 1
        bad.write_bytes(data)
        folders = [store.folder, *(part for part in store.folder.iterdir() if part.is_dir())]
        for folder in folders:
            folder.chmod(0o555)
        reader = python(
            """
import numpy as np
from cache import CacheError
rows = make_rows(6)
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
store = store_in(args[0])
assert np.array_equal(store.read(rows.keys[:3]), rows.features[:3])
(finding,) = store.check()
assert finding.moved_to is None, finding
assert store.missing(rows.keys).tolist() == [3, 4, 5]
try:
    store.append(rows.keys, rows.features)
except CacheError as error:
    print(error)
""",
            root,
        )
        said, errors = reader.communicate(timeout=60)
        for folder in folders:
            folder.chmod(0o755)
        assert reader.returncode == 0, errors
        assert "Permission denied" in said
        assert good.exists()
        assert bad.exists()


def test_another_recipe_in_the_folder_is_refused(tmp_path, recipe_of, rows_of):
    store = FeatureStore.open(tmp_path, recipe_of())
    other = tmp_path / recipe_of(pooling="max").name
    store.folder.rename(other)
    with pytest.raises(RecipeError, match="another recipe"):
        FeatureStore.open(tmp_path, recipe_of(pooling="max"))


def test_a_folder_that_cannot_be_created_is_told(tmp_path, recipe):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="cannot create the store"):
        FeatureStore.open(tmp_path / "file", recipe)
    with pytest.raises(RecipeError, match="not a store"):
        FeatureStore.at(tmp_path)


def test_parts_that_are_links_are_not_followed(tmp_path, recipe, rows_of):
    store = FeatureStore.open(tmp_path / "a", recipe)
    rows = rows_of(3)
    store.append(rows.keys, rows.features)
    victim = FeatureStore.open(tmp_path / "b", recipe)
    (victim.folder / "shards").rmdir()
    (victim.folder / "shards").symlink_to(store.folder / "shards")
    with pytest.raises(CacheError, match="is a link"):
        FeatureStore.at(victim.folder)


def test_importing_and_opening_take_no_hdf5(store, rows_of, python):
    rows = rows_of(3)
    store.append(rows.keys, rows.features)
    reader = python(
        "store = helpers.cache.FeatureStore.at(Path(args[0]))\n"
        "store.read(make_rows(3).keys); assert store.check() == []\n"
        "assert 'h5py' not in sys.modules",
        store.folder,
    )
    _, errors = reader.communicate(timeout=60)
    assert reader.returncode == 0, errors


def test_no_temporary_and_no_open_file_is_left_behind(store, rows_of):
    rows = rows_of(3)
    store.append(rows.keys, rows.features)
    store.read(rows.keys[[2, 0]])
    before = len(list(Path("/dev/fd").iterdir()))
    store.append(rows.keys, rows.features)
    store.refresh()
    store.check()
    assert len(list(Path("/dev/fd").iterdir())) == before
    assert list((store.folder / "tmp").iterdir()) == []
