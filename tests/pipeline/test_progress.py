"""What the progress report promises where there is no terminal."""

import io

import pytest

from pipeline.events import (
    BatchDone,
    Event,
    ExtractionPlanned,
    FilesHashed,
    FitDone,
    HashingPlanned,
    HeadTrained,
    Notice,
    RowsKept,
    SweepPlanned,
)
from pipeline.report import progress
from pipeline.report.progress import ProgressReport


def told(*events: Event) -> str:
    stream = io.StringIO()
    with ProgressReport(stream) as report:
        for event in events:
            report(event)
    return stream.getvalue()


@pytest.mark.parametrize("seconds", [0.0, 5.0])
def test_the_last_line_is_the_end_of_the_run_with_its_counts(
    seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", seconds)
    text = told(
        ExtractionPlanned(new=40, reused=7),
        BatchDone(images=32, rejected=0),
        BatchDone(images=6, rejected=2),
        RowsKept(rows=38, nbytes=1000),
    )
    last = text.splitlines()[-1]
    assert last.startswith("40/40 ")
    assert "7 reused, 2 rejected, 38 saved" in last


def test_a_run_with_nothing_to_do_prints_nothing() -> None:
    assert told(ExtractionPlanned(new=0, reused=9)) == ""


def test_reading_many_files_for_the_first_time_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    events = (HashingPlanned(files=400), FilesHashed(files=100), FilesHashed(files=100))
    assert told(*events) == ""  # nothing of it is left to be told at the end
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", -1.0)
    first, second = told(*events).splitlines()
    assert first.startswith("100/400 ")
    assert second.startswith("200/400 ")
    assert "reading what is new or changed" in second


def test_a_sweep_counts_fits_and_names_the_latest_head() -> None:
    fits = [FitDone("knn")] * 5
    text = told(SweepPlanned(heads=2, fits=10), *fits, HeadTrained("knn", {"k": 1}, 0.5))
    assert text.splitlines()[-1].startswith("5/10 ")
    assert "knn 0.500" in text


def test_notices_are_printed_as_they_are() -> None:
    assert told(Notice("a [strange] name.jpg")) == "headstart: a [strange] name.jpg\n"
