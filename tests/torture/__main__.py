"""``python -m tests.torture --minutes M --seed S``: all kinds of faults, and what was lost.

Each kind runs in a process of its own, as many at once as there are cores. Without ``--minutes``
each goes on until its goal (`GOALS`) is reached, with them for as long as told: the table says
which share of the goal that was. With ``--cases N`` each kind tries N cases: states per scene for
``crash``, kills, single calls that fail, damages, stores, rounds and machines for the others.

The same seed tries the same cases in the same order; how many of them is a matter of time, or of
``--cases``. Two kinds cannot be replayed to the end: which call a process is at when ``at_once``
and the half of the kills of ``kill`` that come by the clock hit it, and how processes at once take
turns, is the system's choice. The other half of the kills come before a numbered call. What
differs even so are inodes, times and process numbers, which stand in the names of temporary files
and in checked.json.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pickle
import select
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict

from tests.torture.children import Child, start
from tests.torture.world import Budget, Tally

# Module of each kind and its share of the time, as the goals need it.
KINDS = {
    "faults": 0.27,
    "damage": 0.2,
    "crash": 0.23,
    "kill": 0.1,
    "model": 0.08,
    "at_once": 0.07,
    "hostile": 0.05,
}
# Cases of each kind that a whole run tries; where it is far more than there are, all of them.
ALL = 1_000_000
GOALS = {
    "faults": ALL,
    "damage": 10_000,
    "crash": 2_000,
    "kill": 400,
    "model": 60,
    "at_once": 60,
    "hostile": ALL,
}
COLUMNS = ("tried", "states", "lost", "misread", "unhealed", "unclear", "broken")


def table(tallies: list[Tally]) -> str:
    lines = [f"{'fault':<12}" + "".join(f"{name:>10}" for name in COLUMNS)]
    lines[0] += f"{'of goal':>10}"
    for tally in tallies:
        counts = "".join(f"{getattr(tally, name):>10}" for name in COLUMNS)
        lines.append(f"{tally.kind:<12}{counts}{tally.share:>10.0%}")
        lines += [f"    {note}" for note in tally.notes]
    return "\n".join(lines)


def torture(kind: str, budget: Budget, seed: int) -> Tally:
    """Try one kind of fault; an error of the torture itself is a line of the table."""
    tally, began = Tally(kind.replace("_", " ")), time.monotonic()
    try:
        importlib.import_module(f"tests.torture.{kind}").run(tally, budget, seed)
    except Exception:
        tally.tell(f"the torture itself fails: {traceback.format_exc()}", broken=1)
    if not tally.tried and not tally.broken:
        tally.tell("nothing was tried", broken=1)
    if not tally.share:
        tally.share = min(1.0, tally.tried / GOALS[kind])
    print(f"{kind}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    return tally


def at_once(kinds: list[str], jobs: int, budgets: dict[str, Budget], seed: int) -> list[Tally]:
    """Try kinds of faults, some at once, each in its process."""
    waiting, running, found = sorted(kinds, key=KINDS.__getitem__), {}, {}
    while waiting or running:
        while waiting and len(running) < jobs:
            kind = waiting.pop()
            child = _started(kind, budgets[kind], seed)
            running[child.pipe] = kind, child
        for pipe in select.select(list(running), [], [])[0]:
            kind, child = running.pop(pipe)
            found[kind] = _told(kind, child)
    return [found[kind] for kind in kinds]


def budgets_of(
    kinds: list[str], jobs: int, minutes: float | None, cases: int | None
) -> dict[str, Budget]:
    """Return how much of each kind to try."""
    if cases is not None:
        return {kind: Budget(cases, clock=False) for kind in kinds}
    if minutes is None:
        return {kind: Budget(GOALS[kind]) for kind in kinds}
    whole = sum(KINDS[kind] for kind in kinds)
    shares = {kind: min(1.0, jobs * KINDS[kind] / whole) for kind in kinds}
    return {kind: Budget(seconds=60 * minutes * shares[kind]) for kind in kinds}


def _started(kind: str, budget: Budget, seed: int) -> Child:
    budget = budget.part(1.0)  # its time begins now

    def inside(pipe: int) -> None:
        with os.fdopen(pipe, "wb", closefd=False) as file:
            file.write(pickle.dumps(torture(kind, budget, seed)))

    return start(inside)


def _told(kind: str, child: Child) -> Tally:
    said, code = child.wait()
    if code == 0:
        return pickle.loads(said)
    tally = Tally(kind.replace("_", " "))
    tally.tell(f"the torture itself ended with {code}", broken=1)
    return tally


def _failures(tallies: list[Tally]) -> Iterator[str]:
    for tally in tallies:
        yield from tally.told


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="tests.torture", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, help="default: until all goals are reached")
    parser.add_argument("--cases", type=int, help="a number of cases of each kind instead")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", choices=KINDS, nargs="*", help="kinds of fault; default: all")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    print(f"seed {args.seed}", file=sys.stderr)
    kinds = args.only or list(KINDS)
    budgets = budgets_of(kinds, args.jobs, args.minutes, args.cases)
    tallies = at_once(kinds, args.jobs, budgets, args.seed)
    for text in _failures(tallies):
        print(text, file=sys.stderr)
    print(json.dumps([asdict(tally) for tally in tallies]) if args.json else table(tallies))
    return int(any(tally.failures for tally in tallies))


if __name__ == "__main__":
    sys.exit(main())
