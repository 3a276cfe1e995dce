"""What the doctor says: a sentence of verdict, then the evidence."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from pipeline.batchnorm import LayerShift, Proof
from pipeline.doctor import Diagnosis
from pipeline.report.layerplot import draw_layers
from pipeline.report.stage_one import weights_text
from pipeline.text import one_line, plural

MOST_LAYERS = 10


def doctor_json(found: Diagnosis) -> dict[str, Any]:
    """Return the object that ``doctor --json`` prints."""
    told = dataclasses.asdict(found)
    proofs = [_finite(dataclasses.asdict(proof)) for proof in found.proofs]
    measured = found.trap
    return told | {
        "verdict": verdict(found),
        "sound": found.sound,
        "distance": found.distance,
        "proofs": proofs,
        "trap": told["trap"] | {"loss": measured.loss} if measured else None,
        "plot": str(found.plot) if found.plot else None,
        "seconds": round(found.seconds, 3),
    }


def _finite(proof: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity, which is the deviation of what is no number."""
    measured = proof["measured"]
    return proof | {"measured": measured if measured is None or math.isfinite(measured) else None}


def verdict(found: Diagnosis) -> str:
    """Say in one sentence whether inference mode holds, and what the trap would cost."""
    tried = [proof for proof in found.proofs if proof.passed is not None]
    failed = [proof for proof in tried if not proof.passed]
    subject = one_line(found.subject)
    if failed:
        head = f"NOT SOUND: {subject} fails {len(failed)} of {plural(len(tried), 'proof')}"
    else:
        head = (
            f"sound: {subject} runs in inference mode, {plural(len(tried), 'proof')} on "
            f"{plural(found.images, 'image')} of yours"
        )
    return f"{head}; {_cost(found)}"


def _cost(found: Diagnosis) -> str:
    if found.trap:
        loss, error = found.trap.loss, found.trap.error
        if loss > 2 * error:
            return f"BatchNorm's training form would cost {loss:.3f} of accuracy here"
        return f"what BatchNorm's training form would cost here ({loss:.3f}) is within noise"
    if found.modes:
        return (
            f"by the statistics of batches it labels {found.modes.differing:.0%} of them otherwise"
        )
    return f"what BatchNorm's training form would cost was not measured: {found.left_out}"


def doctor_text(found: Diagnosis) -> str:
    """Return the verdict, the proofs, the distances, and what the trap costs."""
    weights = f" ({weights_text(found.weights)})" if found.weights else ""
    rejected = f", {found.rejected} more cannot be used" if found.rejected else ""
    lines = [
        verdict(found),
        "",
        f"examined   {one_line(found.subject)}{weights} on {plural(found.images, 'image')} of"
        f" {one_line(found.data)}{rejected}, {found.seconds:.0f} s",
        *(_proof_line(proof) for proof in found.proofs),
        *(f"advice     {one_line(each)}" for each in found.advice),
        *_layer_lines(found),
        *_trap_lines(found),
        *_mode_lines(found),
    ]
    return "\n".join(lines)


def _proof_line(proof: Proof) -> str:
    state = {True: "proved", False: "FAILED", None: "left out"}[proof.passed]
    limit = "" if proof.tolerance is None else f" (at most {proof.tolerance:g} passes)"
    return f"{state:<10} {proof.promise}: {one_line(proof.told)}{limit}"


def _layer_lines(found: Diagnosis) -> list[str]:
    if not found.layers:
        return []
    farthest = sorted(found.layers, key=lambda each: -each.distance)[:MOST_LAYERS]
    width = max(len(each.name) for each in farthest)
    columns = "distance  middle channel  means apart  deviations"
    header = f"\n{'BatchNorm layer':<{max(width, 15)}}  {columns}"
    rest = len(found.layers) - len(farthest)
    return [
        f"\ndistance   {found.distance:.3f} in the middle of {plural(len(found.layers), 'layer')}:"
        " how far your images' statistics lie from the stored ones",
        "           (Jeffreys divergence of each channel's Gaussians, mean of the channels; 1 is a"
        " mean one deviation off)",
        header,
        *(_layer_line(each, max(width, 15)) for each in farthest),
        *([f"and {rest} more that are nearer, in --json and in the picture"] if rest > 0 else []),
        f"\npicture    {found.plot}",
    ]


def _layer_line(each: LayerShift, width: int) -> str:
    return (
        f"{one_line(each.name):<{width}}  {each.distance:>8.3f}  {each.median:>14.3f}"
        f"  {each.mean_shift:>11.3f}  {each.deviation_ratio:>8.2f} x"
    )


def _trap_lines(found: Diagnosis) -> list[str]:
    if found.trap is None:
        return [] if found.modes else [f"trap       not measured: {found.left_out}"]
    one = found.trap
    return [
        f"cached     {one.cached:.3f} accuracy, trained and served with stored statistics: what"
        " features and heads do",
        f"trap       {one.served:.3f} trained on features by batch statistics and served with"
        f" stored ones, which loses {one.loss:.3f} ±{one.error:.3f}",
        f"promised   {one.promised:.3f} is what such training shows meanwhile, by batch statistics",
        f"           logistic regression in {one.folds} folds, {plural(one.images, 'image')} of"
        f" {plural(one.classes, 'class', 'classes')}, near-duplicates kept together",
    ]


def _mode_lines(found: Diagnosis) -> list[str]:
    if found.modes is None:
        return []
    lines = [
        f"modes      {found.modes.differing:.0%} of the images get another label by batch"
        " statistics than by stored ones"
    ]
    if found.modes.stored is not None and found.modes.batch is not None:
        lines.append(
            f"           {found.modes.stored:.3f} of them are right by stored statistics (predict,"
            f" evaluate), {found.modes.batch:.3f} by batch statistics (fit), with the classes in"
            " the order of their names"
        )
    return lines


def draw(found: Diagnosis) -> None:
    """Draw the distances, where there are any."""
    if found.plot:
        draw_layers(found.plot, found.layers, f"{found.subject} on {found.data}")
