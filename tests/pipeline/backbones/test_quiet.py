from __future__ import annotations

import os
import subprocess
import sys


def run(code: str, **settings: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=kept | settings,
        capture_output=True,
        text=True,
        check=False,
    )


def test_importing_keras_makes_no_noise() -> None:
    code = """
from pipeline.backbones.quiet import import_keras
import_keras().ops.ones(3)
"""
    done = run(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_failing_import_shows_what_was_held_back() -> None:
    done = run(FAILING, KERAS_BACKEND="nonsense")
    assert done.stdout == "level 2\n"
    assert "said before it failed" in done.stderr
    assert "nonsense" in done.stderr


def test_a_users_own_log_level_is_left_alone() -> None:
    done = run(FAILING, KERAS_BACKEND="nonsense", TF_CPP_MIN_LOG_LEVEL="0")
    assert done.stdout == "level 0\n"


FAILING = """
import os, sys
class Loud:
    def find_spec(self, name, path=None, target=None):
        if name == "keras.src.backend":
            os.write(2, b"said before it failed")
sys.meta_path.insert(0, Loud())
from pipeline.backbones.quiet import import_keras
try:
    import_keras()
except Exception as error:
    print(error, file=sys.stderr)
    print("level", os.environ["TF_CPP_MIN_LOG_LEVEL"])
"""
