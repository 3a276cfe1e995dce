"""``python -m tests.torture --minutes M --seed S``: all kinds of faults, and what was lost."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from dataclasses import asdict

from tests.torture.world import Tally

# Module of each kind and its share of the time.
KINDS = {
    "kill": 0.2,
    "crash": 0.15,
    "faults": 0.15,
    "damage": 0.25,
    "hostile": 0.05,
    "at_once": 0.1,
    "model": 0.1,
}


def table(tallies: list[Tally]) -> str:
    columns = ("tried", "states", "lost", "misread", "unhealed", "unclear")
    lines = [f"{'fault':<12}" + "".join(f"{name:>10}" for name in columns)]
    for tally in tallies:
        counts = "".join(f"{getattr(tally, name):>10}" for name in columns)
        lines.append(f"{tally.kind:<12}{counts}")
        lines += [f"    {note}" for note in tally.notes]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.torture", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", choices=KINDS, nargs="*", help="kinds of fault; default: all")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    chosen = args.only or list(KINDS)
    whole = sum(KINDS[name] for name in chosen)
    print(f"seed {args.seed}", file=sys.stderr)
    tallies = []
    for name in chosen:
        module = importlib.import_module(f"tests.torture.{name}")
        seconds = args.minutes * 60 * KINDS[name] / whole
        started = time.monotonic()
        tallies.append(module.run(seconds, args.seed))
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
        print(*tallies[-1].told, sep="\n", end="\n" * bool(tallies[-1].told), file=sys.stderr)
    print(json.dumps([asdict(tally) for tally in tallies]) if args.json else table(tallies))
    return int(any(tally.failures for tally in tallies))


if __name__ == "__main__":
    sys.exit(main())
