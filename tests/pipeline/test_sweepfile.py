"""What `heads.toml` promises: what it means, and how it tells of mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline import options
from pipeline.config import HeadEntry, HeadsConfig
from pipeline.errors import UsageError
from pipeline.heads.mlp import MlpTrainer
from pipeline.sweepfile import PRESETS, read_sweepfile
from tests.pipeline.conftest import SMALL, Ran

Command = Callable[..., Ran]


def configured(*arguments: object) -> HeadsConfig:
    """The configuration that `headstart heads` makes of its arguments."""
    from pipeline.cli import heads

    context = heads.make_context("heads", list(map(str, arguments)))
    context.params.pop("as_json")
    return options.heads_config(context.params)


@pytest.fixture
def sweep(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "heads.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


Sweep = Callable[[str], Path]

EVERYTHING = """
data = "photos"
out = "kept"
metric = "macro_f1"
folds = 4
repeats = 3
holdout = false
groups = false
nested = true
budget = "1h30m"
seed = 7
backbone = "efficientnet-lite0"
weights = "random"
size = 64
resize = "pad"
pooling = "max"
layer = "top"
precision = "float32"
engine = "keras"
"""


def test_every_key_reaches_the_configuration(sweep: Sweep) -> None:
    config = configured("--config", sweep(EVERYTHING))
    assert (config.metric, config.folds, config.repeats) == ("macro_f1", 4, 3)
    assert (config.holdout, config.groups, config.nested) == (False, False, True)
    assert config.budget == 5400.0
    features, backbone = config.features, config.features.backbone
    assert (features.data, features.out) == ("photos", Path("kept"))
    assert (backbone.backbone, backbone.weights, backbone.seed) == (
        "efficientnet-lite0", "random", 7,
    )  # fmt: skip
    assert (backbone.size, backbone.resize, backbone.pooling) == (64, "pad", "max")
    assert (backbone.layer, backbone.precision, backbone.engine) == ("top", "float32", "keras")


def test_flags_beat_the_file(sweep: Sweep) -> None:
    path = sweep(EVERYTHING)
    config = configured(
        "other", "--folds", 6, "--holdout", "--groups", "--no-nested", "--budget", 9, "--size", 32,
        "--config", path,
    )  # fmt: skip
    assert (config.features.data, config.folds, config.budget) == ("other", 6, 9.0)
    assert (config.holdout, config.groups, config.nested) == (True, True, False)
    assert config.features.backbone.size == 32
    assert config.metric == "macro_f1"


def test_an_empty_file_changes_nothing(sweep: Sweep) -> None:
    assert configured("photos", "--config", sweep("")) == configured("photos")


@pytest.mark.parametrize(
    ("budget", "seconds"), [("'90s'", 90.0), ("'10m'", 600.0), ("'2h'", 7200.0), ("0.5", 0.5)]
)
def test_a_budget_has_a_unit_or_is_in_seconds(sweep: Sweep, budget: str, seconds: float) -> None:
    assert configured("d", "--config", sweep(f"budget = {budget}")).budget == seconds


def entries(path: Path) -> Sequence[HeadEntry]:
    return read_sweepfile(str(path)).entries


def test_axes_make_every_combination_once(sweep: Sweep) -> None:
    path = sweep("""
[[heads]]
head = "logistic"
C = [1, 0.1]
tol = 1e-4
[[heads]]
head = "logistic"
C = 0.1
tol = 1e-4
[[heads]]
head = "mlp"
hidden = ["512+256", [64]]
dropout = [0, 0.5]
""")
    assert [(entry.head, entry.settings) for entry in entries(path)] == [
        ("logistic", {"C": 1.0, "tol": 1e-4}),
        ("logistic", {"C": 0.1, "tol": 1e-4}),
        ("mlp", {"hidden": (512, 256), "dropout": 0.0}),
        ("mlp", {"hidden": (512, 256), "dropout": 0.5}),
        ("mlp", {"hidden": (64,), "dropout": 0.0}),
        ("mlp", {"hidden": (64,), "dropout": 0.5}),
    ]


def test_whole_numbers_name_the_same_head_as_others(sweep: Sweep) -> None:
    (entry,) = entries(sweep('[[heads]]\nhead = "ridge"\nalpha = 10'))
    assert type(entry.settings["alpha"]) is float


def test_what_is_none_elsewhere_has_a_word_in_toml(sweep: Sweep) -> None:
    (entry,) = entries(sweep('[[heads]]\nhead = "mlp"\npatience = 0'))
    assert entry.settings == {"patience": None}


def test_a_head_may_have_its_own_pooling_and_one_fold(sweep: Sweep) -> None:
    text = '[[heads]]\nhead = "knn"\nk = [1, 3]\npooling = "flatten"\nonly_first_fold = true'
    assert entries(sweep(text)) == (
        HeadEntry("knn", {"k": 1}, pooling="flatten", only_first_fold=True),
        HeadEntry("knn", {"k": 3}, pooling="flatten", only_first_fold=True),
    )


HEAD = '\n[[heads]]\nhead = "mlp"\n'

MANY = [1] * 30

MISTAKES = [
    ("fold = 5", 1, "did you mean folds"),
    ("\n\nfolds = '5'", 3, "a whole number"),
    ("folds = true", 1, "a whole number"),
    ("holdout = 1", 1, "true or false"),
    ("# folds = 5\nfolds = 1", 2, "2<=x<=100"),
    ('metric = "acuracy"', 1, "did you mean accuracy"),
    ('engine = "kears"', 1, "did you mean keras"),
    ("budget = 0", 1, "no time"),
    ('budget = "ten"', 1, "10m"),
    ("size = -3", 1, "range"),
    ("folds = 5\nfolds = 6", 2, "not TOML"),
    ("folds = 5\n[[heads]\n", 2, "not TOML"),
    ("\nC = [1,", 2, "not TOML"),
    ("heads = 3", 1, "[[heads]]"),
    ("heads = []", 1, "without a head"),
    ("[heads]\nhead = 'knn'", 1, "[[heads]]"),
    ("\n[[heads]]\nk = 3", 2, "which head"),
    ("[[heads]]\nhead = 'logistik'", 2, "did you mean logistic"),
    ("[[heads]]\nhead = 3", 2, "text in quotes"),
    ("[[heads]]\nhead = 'mlp'\n[[heads]]\nhead = 'knn'\nalpha = 1", 5, "no setting 'alpha'"),
    (HEAD + "droput = 0.5", 4, "did you mean dropout"),
    (HEAD + "epochs = 10\npooling = 'flaten'", 5, "did you mean flatten"),
    (HEAD + "folds = 5", 4, "above all [[heads]]"),
    (HEAD + "only_first_fold = 'yes'", 4, "true or false"),
    (HEAD + "dropout = [0.1,\n  1.0]", 5, "below 1"),
    (HEAD + "dropout = true", 4, "a number"),
    (HEAD + "dropout = nan", 4, "a number"),
    (HEAD + "learning_rate = 0", 4, "above 0"),
    (HEAD + "epochs = 1.5", 4, "a whole number"),
    (HEAD + "hidden = [512, 256]", 4, '"512+256"'),
    (HEAD + "hidden = ['512+0']", 4, "whole numbers from 1"),
    (HEAD + "hidden = '512*2'", 4, "whole numbers from 1"),
    (HEAD + "hidden = []", 4, "no value"),
    (HEAD + "hidden = { a = 1 }", 4, "whole numbers from 1"),
    ("[[heads]]\nhead = 'knn'\nk = 0", 3, "a whole number from 1"),
    ("[[heads]]\nhead = 'centroid'\nmetric = 'cos'", 3, "'cosine'"),
    ("\n[[heads]]\nhead = 'logistic'", 2, "needs C"),
    (f"{HEAD}epochs = {MANY}\nbatch_size = {MANY}\npatience = {MANY}", 2, "27000"),
]


@pytest.mark.parametrize(("text", "line", "told"), MISTAKES)
def test_a_mistake_is_refused_with_its_line_and_what_is_right(
    sweep: Sweep, headstart: Command, text: str, line: int, told: str
) -> None:
    path = sweep(text)
    ran = headstart("heads", "photos", "--config", path)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith(f"headstart: {path}, line {line}: ")
    assert told in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "headstart init"),
        (b"\xff\xfe", "UTF-8"),
        (b"a = " + b"[" * 10_000, "nests"),
        (b"a = " + b"9" * 10_000, "digits"),
    ],
)
def test_a_file_that_is_none_is_refused(
    tmp_path: Path, headstart: Command, content: bytes | None, told: str
) -> None:
    path = tmp_path / "heads.toml"
    if content is not None:
        path.write_bytes(content)
    ran = headstart("heads", "photos", "--config", path)
    assert (ran.code, ran.out) == (2, "")
    assert told in ran.err


def test_without_data_on_the_line_and_in_the_file_it_is_told(
    sweep: Sweep, headstart: Command
) -> None:
    ran = headstart("heads", "--config", sweep("folds = 3"))
    assert ran.code == 2
    assert 'data = "photos"' in ran.err


def test_a_sweep_runs_from_its_file_alone(sweep: Sweep, headstart: Command, photos: Path) -> None:
    path = sweep(f"""
data = {json.dumps(str(photos))}
out = {json.dumps(str(photos.parent / "out"))}
backbone = "{SMALL[1]}"
size = {SMALL[3]}
folds = 3
[[heads]]
head = "ridge"
alpha = [1, 10]
[[heads]]
head = "knn"
k = 1
[[heads]]
head = "knn"
k = 3
only_first_fold = true
""")
    ran = headstart("heads", "--config", path, "--json")
    assert ran.code == 0, ran.err
    board = ran.json["leaderboard"]
    tried = sorted((entry["head"], *entry["settings"].values()) for entry in board)
    assert tried == [("knn", 1), ("ridge", 1.0), ("ridge", 10.0)]
    assert ran.json["folds"] == 3
    assert [aside["settings"] for aside in ran.json["asides"]] == [{"k": 3}]
    only = headstart("heads", "--config", path, "--json", "--heads", "knn")
    assert [entry["head"] for entry in only.json["leaderboard"]] == ["knn"]
    none = headstart("heads", "--config", path, "--json", "--heads", "logistic")
    assert none.code == 2
    assert "no head logistic" in none.err


@pytest.fixture
def question() -> HeadsConfig:
    return configured("photos", "--config", "question")


def test_the_question_has_the_head_in_question_and_what_it_was_advised(
    question: HeadsConfig,
) -> None:
    networks = [entry for entry in question.entries if entry.head == "mlp"]
    own = networks[0]
    assert own.settings == {
        "hidden": (1024, 512, 256),
        "dropout": 0.5,
        "learning_rate": 1e-5,
        "batch_size": 20,
        "epochs": 100,
        "patience": None,
    }
    assert (own.pooling, own.only_first_fold) == ("flatten", True)
    assert {entry.head for entry in question.entries} == {"mlp", "logistic", "ridge"}

    def values(name: str) -> set[Any]:
        return {entry.settings.get(name) for entry in networks}

    assert values("hidden") == {(1024, 512, 256), (256,), (512,), (512, 256)}
    assert values("batch_size") == {20, 30}
    assert values("epochs") == {100, 20, 10}
    assert values("dropout") == {0.0, 0.2, 0.5, 0.7}
    assert values("patience") == {None, 5}
    assert max(filter(None, values("l2"))) > 0
    assert max(filter(None, values("label_smoothing"))) > 0
    assert question.budget is not None


@pytest.mark.parametrize("setting", ["hidden", "dropout", "patience", "l2", "label_smoothing"])
def test_the_question_has_pairs_that_differ_in_one_thing_alone(
    question: HeadsConfig, setting: str
) -> None:
    def rest(entry: HeadEntry) -> str:
        settings = vars(MlpTrainer(**entry.settings)) | {setting: ...}
        return repr((settings, entry.pooling, entry.only_first_fold))

    alike = [rest(entry) for entry in question.entries if entry.head == "mlp"]
    assert len(alike) > len(set(alike))


def test_a_preset_goes_before_a_file_and_a_path_finds_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("question").write_text("folds = 3", encoding="utf-8")
    assert read_sweepfile("question").toml.name == "question.toml"
    assert read_sweepfile("./question").choices == {"folds": 3}


def test_presets_come_with_the_package() -> None:
    assert (PRESETS / "question.toml").is_file()
    with pytest.raises(UsageError, match="question"):
        read_sweepfile("qestion")
