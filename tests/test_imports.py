"""Data flows one way: the imports of the two packages are the arrows of the design."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Layers from the top to the bottom; a module may import its own layer's package and those below.
LAYERS = [
    {"cli"},
    {"options"},
    {"report", "sweepflags", "viewflags", "bnflags"},
    {
        "stage_one",
        "stage_two",
        "predict",
        "starter",
        "extractor",
        "stores",
        "recompute",
        "doctor",
        "adaptation",
        "tidy",
        "export_rows",
        "tfdata",
    },
    {"extract", "networks", "refused", "sweep", "export", "roles"},
    {"pictures"},
    {"assemble", "headviews", "keyed", "lacking", "sink", "sweepfile", "worklock"},
    {"lanes", "batchnorm"},
    {"engines", "heads"},
    {"backbones", "images", "dataset", "evaluate"},
    {"config", "looks", "memory", "strictjson", "tomlfile"},
    {"flags", "workers", "workshard", "tomllines"},
    {"errors", "events", "text"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}

# Arrows within one layer that the design has.
SIDEWAYS = {("dataset", "images"), ("engines", "backbones"), ("stage_two", "stage_one")} | {
    ("recompute", "stage_one"),
    ("doctor", "stage_one"),
    ("stage_one", "adaptation"),
    ("stage_two", "adaptation"),
    ("predict", "adaptation"),
    ("export_rows", "stage_one"),
    ("stores", "stage_one"),
    ("tidy", "stage_one"),
    ("tidy", "stores"),
}


def imports(path: Path) -> set[str]:
    """Return the dotted names a module imports, those inside functions included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def wrong_arrows(path: Path, root: Path) -> set[str]:
    """Return the imports of one module that the design does not have."""
    package, own = path.relative_to(root).with_suffix("").parts[:2]
    names = imports(path)
    if package == "cache":
        return {name for name in names if name.split(".")[0] == "pipeline"}
    wrong = {name for name in names if name.split(".")[0] == "h5py"}
    for name in names:
        there = [*name.split("."), ""][1] if name.startswith("pipeline.") else ""
        if there in ("", own) or (own, there) in SIDEWAYS or own == "__init__":
            continue
        if LEVEL[there] <= LEVEL[own]:
            wrong.add(name)
    return wrong


def test_every_import_is_an_arrow_of_the_design() -> None:
    modules = [path for package in ("cache", "pipeline") for path in (ROOT / package).rglob("*.py")]
    assert len(modules) > 20
    assert {str(p.relative_to(ROOT)): w for p in modules if (w := wrong_arrows(p, ROOT))} == {}


@pytest.mark.parametrize(
    ("package", "code"),
    [
        ("cache", "from pipeline import errors"),
        ("pipeline", "def lazily():\n    import h5py"),
        ("pipeline", "from pipeline.cli import main"),
        ("pipeline", "import pipeline.heads.linear"),
    ],
)
def test_the_check_sees_an_arrow_that_points_back_up(
    package: str, code: str, tmp_path: Path
) -> None:
    module = tmp_path / package / "images" / "module.py"
    module.parent.mkdir(parents=True)
    module.write_text(code)
    assert wrong_arrows(module, tmp_path)
