"""Is my head too big? What helps? What is in the file? How many steps? Answered by a board."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipeline.evaluate import METRICS
from pipeline.heads import HeadSize, training_bytes
from pipeline.report.effects import NETWORK, Board, Effect, Gain, Line, effects, gain
from pipeline.text import human_bytes, plural

LINEAR = ("logistic", "ridge", "svm", "lda")

_WORDS = {
    "hidden": "layers {} instead of {}",
    "pooling": "{} pooling instead of {}",
    "dropout": "dropout {} instead of none",
    "patience": "early stopping after {} epochs without progress instead of all epochs",
    "l2": "an L2 penalty of {}",
    "weight_decay": "weight decay of {}",
    "label_smoothing": "label smoothing of {}",
}


def answer_text(board: Board) -> str:
    """Answer the four questions in words and figures, a paragraph each.

    The head in question is the largest network of the board. Positive differences are for the
    better, whatever the metric; each has its 95 % interval.
    """
    question = _largest(board)
    rivals = [] if question is None else _rivals(question, board)
    told = [] if question is None else [question]
    paragraphs = (
        ("is the head too big?", _too_big(question, rivals, board)),
        ("what helps, all else equal?", _what_helps(board)),
        ("what is in the weight file?", _weights([*told, *(line for line, _ in rivals)], board)),
        ("how many steps has an epoch?", [_steps(board)]),
    )
    return "\n".join("\n   ".join((title, *sentences)) for title, sentences in paragraphs)


def _largest(board: Board) -> Line | None:
    networks = [line for line in board.lines if line.spec.head == NETWORK]
    return max(networks, key=lambda line: line.parameters, default=None)


def _rivals(question: Line, board: Board) -> list[tuple[Line, str]]:
    """List the best smaller network and the best linear head, with what each is the best of."""
    smaller = [
        line
        for line in board.lines
        if line.spec.head == NETWORK and line.parameters < question.parameters
    ]
    linear = [line for line in board.lines if line.spec.head in LINEAR]
    return [
        (_best(lines, board), f"best of {plural(len(lines), kind)}")
        for lines, kind in ((smaller, "smaller network"), (linear, "linear head"))
        if lines
    ]


def _best(lines: Sequence[Line], board: Board) -> Line:
    sign = 1 if METRICS[board.metric].greater_is_better else -1
    return max(lines, key=lambda line: (sign * line.score, -line.parameters))


def _too_big(question: Line | None, rivals: Sequence[tuple[Line, str]], board: Board) -> list[str]:
    if question is None:
        return ["no network is on this board"]
    compared = [(line, which, gain([(line, question)], board)) for line, which in rivals]
    gains = [found for _, _, found in compared if found]
    sentences = [
        f"{_name(question)}: {board.metric.replace('_', ' ')} {_score(question)}, and "
        f"{question.train_score:.3f} on the images it was trained on",
        *(_against(line, which, found, question) for line, which, found in compared),
        _verdict(gains),
    ]
    if any("best of 1 " not in which for _, which in rivals):
        sentences.append("the best of several is a little lucky: its difference flatters it")
    return sentences


def _against(line: Line, which: str, found: Gain | None, question: Line) -> str:
    times = question.parameters / max(1, line.parameters)
    fewer = f"{times:,.0f}" if times >= 10 else f"{times:.1f}"
    told = "scored on no fold of the other's" if found is None else _gain(found)
    return f"{_name(line)}, {which}, {fewer} times fewer parameters: {told}"


def _verdict(gains: Sequence[Gain]) -> str:
    """Say what follows: larger is worth it only where nothing smaller does as well."""
    if not gains:
        return "nothing smaller is there to compare it with"
    if any(found.told_apart and found.mean > 0 for found in gains):
        return "yes: a smaller head is better"
    if all(found.told_apart for found in gains):
        return "no: what is smaller is worse"
    if any(found.low is None for found in gains):
        return "open: one fold tells no uncertainty of this metric"
    return (
        "it is larger than it need be, as far as these images can tell: a smaller head cannot be "
        "told apart from it"
    )


def _what_helps(board: Board) -> list[str]:
    found = effects(board)
    return [_effect(effect) for effect in found] or [
        "no two networks on this board differ in one thing alone"
    ]


def _effect(effect: Effect) -> str:
    what = _WORDS[effect.setting].format(_value(effect.value), _value(effect.instead_of))
    return f"{what}: {_gain(effect.gain)}, over {plural(effect.gain.pairs, 'pair')} of heads"


def _gain(found: Gain) -> str:
    told = f"{found.mean:+.3f}"
    if found.low is not None:
        told += f" [{found.low:+.3f}, {found.high:+.3f}]"
    if found.folds == 1:
        told += " on one fold"
    if found.low is None:
        return f"{told}, which tells no uncertainty"
    return told if found.told_apart else f"{told}, cannot be told apart"


def _weights(lines: Sequence[Line], board: Board) -> list[str]:
    """Tell what each head weighs alone, with what Adam keeps, and with the backbone."""
    sentences = []
    for line in lines:
        own = HeadSize(line.parameters).bytes
        training = training_bytes(line.spec, line.parameters)
        adam = "" if training is None else f", {human_bytes(training)} with Adam's two moments"
        both = ""
        if board.backbone_bytes is not None:
            whole = (own if training is None else training) + board.backbone_bytes
            both = f", {human_bytes(whole)} with {board.backbone} as well"
        sentences.append(
            f"{_name(line)}: {line.parameters} parameters of 4 bytes, "
            f"{human_bytes(own)}{adam}{both}"
        )
    return [*sentences, "to predict takes the weights alone, and the backbone once for all heads"]


def _steps(board: Board) -> str:
    steps = math.ceil(board.rows / board.batch)
    return (
        f"ceil({plural(board.rows, 'image')} / batch of {board.batch}) = {steps}, so that an epoch "
        "sees every image once; more steps only call several epochs one, fewer leave images out"
    )


def _score(line: Line) -> str:
    if line.interval is None:
        return f"{line.score:.3f}"
    return f"{line.score:.3f} [{line.interval[0]:.3f}, {line.interval[1]:.3f}]"


def _name(line: Line) -> str:
    return f"{line.spec.name} on {line.pooling} pooling"


def _value(value: object) -> str:
    return "+".join(map(str, value)) if isinstance(value, tuple) else str(value)
