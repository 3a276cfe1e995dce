"""How many cores a process may use: its affinity and the quotas of its control groups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.config import usable_cores


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def system(place: Path, groups: str, **files: str) -> Path:
    (place / "proc/self").mkdir(parents=True)
    (place / "proc/self/cgroup").write_text(groups)
    for name, content in files.items():
        path = place / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return place


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "1000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "6400000 100000\n"}, 8),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        ("0::/not/here\n", {"cpu.max": "400000 100000\n"}, 4),
        ("3:cpu,cpuacct:/d\n0::/\n", {"cpu,cpuacct/d/cpu.cfs_quota_us": "-1\n"}, 8),
        (
            "3:cpu,cpuacct:/d\n",
            {
                "cpu,cpuacct/d/cpu.cfs_quota_us": "250000\n",
                "cpu,cpuacct/d/cpu.cfs_period_us": "50000\n",
            },
            5,
        ),
        (
            "1:cpu:/host/path\n",
            {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            1,
        ),
        ("5:cpuset:/\n4:memory:/x\n", {"cpuset/cpu.max": "100000 100000"}, 8),
        ("0::/\n", {"cpu.max": "what\n"}, 8),
    ],
    ids=[
        *("v2 none", "v2", "v2 ceil", "v2 less than one", "v2 beyond", "v2 parent", "v2 root"),
        *("v1 none", "v1", "v1 root", "others", "unreadable"),
    ],
)
def test_a_quota_counts(tmp_path: Path, groups: str, files: dict[str, str], cores: int) -> None:
    assert usable_cores(system(tmp_path, groups, **files)) == cores


def test_without_control_groups_the_affinity_counts(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == 8
