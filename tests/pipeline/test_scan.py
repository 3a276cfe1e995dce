"""A scan of unchanged files opens none of them."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from pipeline.config import FeaturesConfig
from pipeline.keyed import image_keys
from pipeline.stage_one import find_dataset


def test_a_second_scan_opens_no_image(tmp_path: Path) -> None:
    root, out = tmp_path / "photos", tmp_path / "out"
    earlier = time.time() - 3600.5
    for i in range(2000):
        path = root / f"class{i % 10}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\xff\xd8\xff%d" % i)
        os.utime(path, (earlier, earlier))
    config = FeaturesConfig(data=str(root), out=out)
    first = image_keys(find_dataset(config), config)
    (root / "class3" / "3.jpg").write_bytes(b"\xff\xd8\xffchanged")
    opened: list[Path] = []
    auditing = True

    def audit(event: str, args: tuple[object, ...]) -> None:
        if auditing and event == "open" and isinstance(args[0], str | bytes):
            opened.append(Path(os.fsdecode(args[0])))

    sys.addaudithook(audit)  # stays, and does nothing any more once this is over
    again = image_keys(find_dataset(config), config)
    auditing = False
    assert [path for path in opened if root in path.parents] == [root / "class3" / "3.jpg"]
    assert any(out in path.parents for path in opened), "the list itself is seen to be opened"
    assert (first[1] != again[1]).any(axis=1).sum() == 1
