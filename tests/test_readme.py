"""Every code block of the README is run, in its order, in one folder, as a reader would."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline.conftest import paint

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)

# What differs from run to run and machine to machine: times, sizes, scores, who wins, who ties.
VOLATILE = re.compile(
    r"busy \d+%|\d+(\.\d+)? (images/s|s\b|[kM]B\b)|\d{8}-\d{6}-[0-9a-f]{4}|±?\d\.\d{3}|^="
    r"|\(.*best\.head.*|(?<=best\.head) .*|, stopped at its limit"
)


# What the summary tells of a board, in words that depend on the scores.
TELLING = ("recommended", "corrected", "more data", "recall", "calibration", "hard")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with this installation, a photo folder, and a cache of its own."""
    place = tmp_path_factory.mktemp("readme")
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "requirements-dev.lock"):
        shutil.copy(ROOT / name, place)
    venv = Path(sys.executable).parent.parent
    (place / ".venv" / "bin").mkdir(parents=True)
    for script in ("headstart", "python"):
        (place / ".venv" / "bin" / script).symlink_to(venv / "bin" / script)
    (place / ".venv" / "base").touch()
    for i in range(10):
        paint(place / "photos" / "red" / f"{i}.png", i, (150, 40, 30))
        paint(place / "photos" / "blue" / f"{i}.png", 50 + i, (60, 120, 240))
    return place


def run(language: str, code: str, place: Path) -> str:
    """Run one block and return what it printed on standard output."""
    command = [sys.executable, "-c", code] if language == "python" else ["bash", "-ec", code]
    offline = {"KERAS_HOME": str(place / "keras"), "HTTPS_PROXY": "http://127.0.0.1:9"}
    # A make that runs these tests must not show through to the make that a block runs.
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    ran = subprocess.run(
        command, cwd=place, capture_output=True, text=True, env=outside | offline, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_every_block_runs_and_prints_what_the_readme_says(workplace: Path) -> None:
    assert {language for language, _ in BLOCKS} == {"sh", "python", "text"}
    printed = ""
    for language, code in BLOCKS:
        if language == "text":
            assert shape(code) == shape(printed), printed
        else:
            printed = run(language, code, workplace)


def shape(text: str) -> list[str]:
    """Reduce an output to what is the same on every machine; heads may change places."""
    lines = [line for line in text.splitlines() if not line.startswith(TELLING)]
    lines = [line for line in lines if "cannot be told from the best" not in line]
    return sorted(" ".join(VOLATILE.sub("#", line).split()) for line in lines)


def test_every_command_of_the_command_line_is_in_the_readme() -> None:
    from pipeline.cli import command

    for name in command.commands:
        assert f"`headstart {name}" in README
