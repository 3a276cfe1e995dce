"""The arithmetic limit of the cores in each precision, and the share of it that networks reach.

The limit is the best of a large matrix product by TensorFlow (oneDNN), by torch, and a loop of
multiply-adds in C; none of them is a limit alone. FLOPs of a network are counted from its graph.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import usable_cores
from tests.bench import ours, peers
from tests.bench.common import Flags, flags, in_turn, rate, report

_SIDE = 4096
_LOOP = Path(__file__).parent / "multiply_add.c"


def flops(network: Any) -> int:
    """Count the floating-point operations of one image in convolutions and matrix products.

    A multiply-add is two operations. Parameters are those of a built Keras model; what reads them
    once a pixel (convolutions) runs them once for each place of its output.
    """
    total = 0
    for layer in network.layers:
        kernel = getattr(layer, "kernel", None)
        if kernel is not None:
            _, *places, _ = layer.output.shape
            total += 2 * int(np.prod(kernel.shape)) * int(np.prod(places))
    return total


def products(precision: str) -> dict[str, Callable[[], float]]:
    """Make functions that return GFLOP/s, by name."""
    import tensorflow as tf

    dtype = tf.as_dtype(precision)
    a = tf.cast(tf.random.uniform((_SIDE, _SIDE)), dtype)
    work = 2e-9 * _SIDE**3
    found = {"TensorFlow product": lambda: work * rate(lambda: tf.matmul(a, a).numpy(), 1)}
    if importlib.util.find_spec("torch"):
        import torch

        torch.set_num_threads(usable_cores())
        b = torch.rand(_SIDE, _SIDE).to(getattr(torch, precision))
        found["torch product"] = lambda: work * rate(lambda: b @ b, 1)
    loop = compiled()
    if loop:
        found["loop in C"] = lambda: loop(precision)
    return found


def compiled() -> Callable[[str], float] | None:
    """Compile the loop for this machine; None where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    program = Path(tempfile.mkdtemp()) / "multiply_add"
    options = ("-O3", "-march=native", "-pthread")
    made = subprocess.run([compiler, *options, _LOOP, "-o", program], capture_output=True)
    if made.returncode:
        return None

    def run(precision: str) -> float:
        command = [program, precision, str(usable_cores())]
        return float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)

    return run


def networks(chosen: Flags) -> dict[str, Callable[[], float]]:
    """Make functions that return images/s of each engine's bare network."""
    size = peers.reference(chosen.backbone)[1].input_shape[1:]
    pixels = np.random.default_rng(0).integers(0, 256, (chosen.images, *size), np.uint8)
    found = {}
    for name, offer in ours.installed(chosen).items():
        made = ours.make(name, offer)
        if made:
            found[name] = lambda n=made.network: rate(lambda: n(pixels), len(pixels))
    return found


def main() -> None:
    chosen = flags(__doc__)
    network, _ = peers.reference(chosen.backbone)
    work = flops(network) * 1e-9
    print(f"{chosen.backbone}: {work:.2f} GFLOP an image")
    engines = networks(chosen)
    precisions = ("float32", "bfloat16")
    loads = {f"{name}, {p}": f for p in precisions for name, f in products(p).items()} | engines
    in_turn(loads, 1)
    measured = in_turn(loads, chosen.rounds)
    best = {p: max(max(v) for k, v in measured.items() if k.endswith(f", {p}")) for p in precisions}
    rows: list[list[object]] = []
    for name, values in measured.items():
        if name in engines:
            reached = work * max(values)
            limit = best[name.split()[-1]]
            rows.append([name, max(values), reached, reached / limit])
        else:
            rows.append([name, None, max(values), max(values) / best[name.split(", ")[1]]])
    report(chosen, "limits", ("what", "images/s", "GFLOP/s", "of the limit"), rows)


if __name__ == "__main__":
    main()
