"""What finding the lines of a TOML document promises."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given, seed
from hypothesis import strategies as st

from pipeline.tomllines import KeyPath, key_lines

DOCUMENT = '''\
# heads = "in a comment"
folds = 5  # [[heads]]
"quoted key" = 1
'data' = """
[[heads]]
head = "in a string"""""

[[heads]]
head = "logistic"
C = [
  0.1,  # ]
  1.0,
]

  [[ "heads" ]]
hidden = [[512,
  256], "a]b"]
class.weight = { kind = "x", of = [1,
  2] }
when = 1979-05-27 07:32:00

[heads.inner]
k = \'\'\'
\'\'\'
z = "\\\\" # "
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("folds",), 2),
        (("quoted key",), 3),
        (("data",), 4),
        (("heads", 0), 8),
        (("heads", 0, "head"), 9),
        (("heads", 0, "C"), 10),
        (("heads", 0, "C", 0), 11),
        (("heads", 0, "C", 1), 12),
        (("heads", 1), 15),
        (("heads", 1, "hidden"), 16),
        (("heads", 1, "hidden", 0, 1), 17),
        (("heads", 1, "hidden", 1), 17),
        (("heads", 1, "class", "weight"), 18),
        (("heads", 1, "class", "weight", "of", 1), 19),
        (("heads", 1, "when"), 20),
        (("heads", 1, "inner"), 22),
        (("heads", 1, "inner", "k"), 23),
        (("heads", 1, "inner", "z"), 25),
    ],
)
def test_every_key_table_and_element_has_its_line(path: KeyPath, line: int) -> None:
    tomllib.loads(DOCUMENT)
    assert key_lines(DOCUMENT)[path] == line


def test_tables_written_as_an_array_have_the_same_paths() -> None:
    text = 'heads = [\n  {head = "knn"},\n  {head = "mlp",\n k = 1},\n]\n'.replace(",\n k", ", k")
    lines = key_lines(text)
    assert (lines["heads", 0, "head"], lines["heads", 1, "k"]) == (2, 3)


def test_line_ends_of_windows_count_once() -> None:
    assert key_lines("a = 1\r\n\r\nb = 2\r\n")["b",] == 3


STRINGS = st.text(st.sampled_from("ab \\\"'#[]{}=,.\n"), max_size=6)
VALUES = st.recursive(
    st.integers(-9, 9) | st.booleans() | st.floats(-1, 1) | STRINGS,
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)


def written(value: Any) -> str:
    """A value as TOML, with a comment and a line end wherever an array allows them."""
    if isinstance(value, list):
        return "[ # ]\n" + ",\n".join(map(written, value)) + "]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    return str(value).lower()


@seed(0)
@given(st.lists(st.dictionaries(STRINGS, VALUES, max_size=3), max_size=3))
def test_whatever_tomllib_reads_has_each_key_where_it_was_written(
    tables: list[dict[str, Any]],
) -> None:
    text, expected = "", {}
    for number, table in enumerate(tables):
        text += "\n[[t]] # [\n"
        for name, value in table.items():
            expected["t", number, name] = text.count("\n") + 1
            text += f"{written(name)} = {written(value)}\n"
    assert tomllib.loads(text).get("t", []) == tables
    lines = key_lines(text)
    assert {path: lines[path] for path in expected} == expected
