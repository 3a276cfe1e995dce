"""What numbers and names in text promise."""

import pytest

from pipeline.text import nearest, seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90.0), ("10m", 600.0), ("2h", 7200.0), ("1h2m3s", 3723.0), ("45", 45.0), ("0.5", 0.5)],
)
def test_a_span_of_time_is_read(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "10x", "m10", "-5", "0s", "nan", "inf", "5m1h"])
def test_what_is_no_span_of_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no time|could not convert"):
        seconds_of(text)


def test_near_names_are_suggested_and_all_where_none_is_near() -> None:
    assert nearest("fold", ["folds", "seed"]) == "; did you mean folds?"
    assert nearest("xyz", ["b", "a"]) == "; did you mean a or b?"
