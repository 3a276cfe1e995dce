"""What `headstart doctor` promises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.assemble import Assembly
from pipeline.backbones.quiet import import_keras
from pipeline.batchnorm import norms_of
from pipeline.engines.keras_engine import KerasEngine
from tests.pipeline.conftest import SMALL, Ran, paint

Command = Callable[..., Ran]
Tamper = Callable[[Callable[[KerasEngine], None]], None]

TRACED = "the graph that ran holds no BatchNorm in training form"
UNMOVED = "the moving statistics are the same before and after, bit for bit"
LOADED = "the statistics are those of the weight file, bit for bit"
NEIGHBOURS = "other images in the batch change no bit of a feature"
# How Keras takes arrays from TensorFlow where it saves and loads, which NumPy 2 has deprecated.
SAVED = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
IN_FIT = "fit would leave the moving statistics alone and use them"


def failed(ran: Ran) -> set[str]:
    return {proof["promise"] for proof in ran.json["proofs"] if proof["passed"] is False}


@pytest.fixture
def tamper(monkeypatch: pytest.MonkeyPatch) -> Tamper:
    """Change the first network that the doctor builds, before it has run."""
    build = Assembly.reference

    def with_change(change: Callable[[KerasEngine], None]) -> None:
        built: list[KerasEngine] = []

        def reference(self: Assembly) -> KerasEngine:
            built.append(build(self))
            if len(built) == 1:
                change(built[0])
            return built[-1]

        monkeypatch.setattr(Assembly, "reference", reference)

    return with_change


def test_a_backbone_in_inference_mode_passes_every_proof(
    headstart: Command, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ran = headstart("doctor", photos, *SMALL, "--batch-size", 8, "--out", out, "--json")
    assert ran.code == 0, ran.err
    told = ran.json
    assert told["sound"]
    assert told["images"] == 24
    assert failed(ran) == set()
    assert {p["promise"] for p in told["proofs"]} >= {TRACED, UNMOVED, LOADED, NEIGHBOURS}
    assert sum(p["passed"] is True for p in told["proofs"]) == 6
    assert len(told["layers"]) == 49
    assert told["layers"][0]["name"] == "stem_bn"
    assert all(layer["distance"] >= 0 for layer in told["layers"])
    assert told["trap"]["images"] == 24
    assert told["trap"]["loss"] == told["trap"]["cached"] - told["trap"]["served"]
    with Image.open(told["plot"]) as plot:
        assert plot.format == "PNG"
        assert len(np.unique(np.asarray(plot.convert("L")))) > 20
    assert not (out / "features").exists()


def test_the_verdict_is_the_first_sentence(
    headstart: Command, photos: Path, tmp_path: Path
) -> None:
    ran = headstart(
        "doctor", photos, *SMALL, "--weights", "random", "--images", 6, "--out", tmp_path / "out"
    )
    assert ran.code == 0, ran.err
    first, second, *_ = ran.out.splitlines()
    assert first.startswith("sound: efficientnet-lite0 32 runs in inference mode, 6 proofs on 6")
    assert "was not measured: fewer than two classes have 5 of the images" in first
    assert second == ""
    assert "RANDOM weights" in ran.out


def leave_one_training(engine: KerasEngine) -> None:
    """Have one BatchNorm be what fit makes of it, whatever mode the model is called in."""
    layer = norms_of(engine.network)[20].layer
    own = layer.call
    layer.trainable = True
    layer.call = lambda inputs, training=None, mask=None: own(inputs, training=True, mask=mask)


def test_one_batchnorm_in_training_form_fails_the_proofs_that_are_about_it(
    headstart: Command, photos: Path, tmp_path: Path, tamper: Tamper
) -> None:
    tamper(leave_one_training)
    flags = (*SMALL, "--batch-size", 8, "--out", tmp_path / "out")
    ran = headstart("doctor", photos, *flags, "--json")
    assert ran.code == 1
    assert {TRACED, UNMOVED, LOADED, NEIGHBOURS} <= failed(ran)
    assert ran.json["verdict"].startswith("NOT SOUND: efficientnet-lite0 32 fails ")


def test_a_statistic_that_was_moved_before_fails_that_proof_alone(
    headstart: Command, photos: Path, tmp_path: Path, tamper: Tamper
) -> None:
    def move(engine: KerasEngine) -> None:
        layer = norms_of(engine.network)[-1].layer
        layer.moving_mean.assign(layer.moving_mean + np.float32(1e-6))

    tamper(move)
    flags = (*SMALL, "--batch-size", 8, "--images", 8, "--out", tmp_path / "out")
    ran = headstart("doctor", photos, *flags, "--json")
    assert ran.code == 1
    assert failed(ran) == {LOADED}
    (told,) = (p["told"] for p in ran.json["proofs"] if p["promise"] == LOADED)
    assert told == "others in top_bn"


def test_a_statistic_that_moves_meanwhile_fails_the_proof(
    headstart: Command, photos: Path, tmp_path: Path, tamper: Tamper
) -> None:
    def drift(engine: KerasEngine) -> None:
        variance = norms_of(engine.network)[3].layer.moving_variance
        run = engine.model.predict_on_batch

        def predict(images: Any) -> Any:
            rows = run(images)
            variance.assign(variance * np.float32(1.00001))
            return rows

        engine.model.predict_on_batch = predict

    tamper(drift)
    flags = (*SMALL, "--batch-size", 8, "--images", 8, "--out", tmp_path / "out")
    ran = headstart("doctor", photos, *flags, "--json")
    assert ran.code == 1
    assert UNMOVED in failed(ran)


def test_unlabelled_images_get_everything_but_the_trap(headstart: Command, tmp_path: Path) -> None:
    for i in range(4):
        paint(tmp_path / "plain" / f"{i}.png", i)
    ran = headstart(
        "doctor", tmp_path / "plain", *SMALL, "--batch-size", 4, "--out", tmp_path / "out", "--json"
    )
    assert ran.code == 0, ran.err
    assert ran.json["trap"] is None
    assert len(ran.json["layers"]) == 49


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--layer", "stem_bn,top"), "one backbone, size, layer and pooling at a time"),
        (("--images", "1"), "--images"),
        (("--model", "gone.keras"), "there is no model file gone.keras"),
    ],
)
def test_what_cannot_be_examined_is_one_sentence(
    headstart: Command, photos: Path, tmp_path: Path, flags: tuple[str, ...], told: str
) -> None:
    ran = headstart("doctor", photos, *SMALL, *flags, "--out", tmp_path / "out")
    assert ran.code == 2
    assert told in ran.err
    assert ran.out == ""


def test_one_usable_image_is_too_few(headstart: Command, tmp_path: Path) -> None:
    paint(tmp_path / "one" / "a.png", 0)
    ran = headstart("doctor", tmp_path / "one", *SMALL, "--out", tmp_path / "out")
    assert ran.code == 2
    assert "1 of the 1 images looked at can be used, and at least 2 are needed" in ran.err


def theirs(place: Path, *, frozen: bool, **how: Any) -> Path:
    """Save what users have: a small backbone, and a head on it."""
    keras = import_keras()
    keras.utils.set_random_seed(0)
    inputs = keras.Input((24, 24, 3))
    x = keras.layers.Conv2D(8, 3, activation="relu")(inputs)
    x = keras.layers.BatchNormalization(name="bn")(x)
    base = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x), name="base")
    base.trainable = not frozen
    pixels = keras.Input((24, 24, 3))
    scaled = keras.layers.Rescaling(1 / 255)(pixels)
    rows = keras.layers.Dropout(0.5)(base(scaled, **how))
    model = keras.Model(pixels, keras.layers.Dense(2, activation="softmax")(rows))
    path = place / f"{'frozen' if frozen else 'free'}.keras"
    model.save(path)
    return path


@SAVED
def test_a_model_that_fit_would_take_out_of_inference_mode_is_told_why(
    headstart: Command, photos: Path, tmp_path: Path
) -> None:
    path = theirs(tmp_path, frozen=False, training=False)
    before = path.read_bytes()
    ran = headstart("doctor", photos, "--model", path, "--out", tmp_path / "out", "--json")
    assert ran.code == 1, ran.err
    assert failed(ran) == {IN_FIT}
    assert [layer["name"] for layer in ran.json["layers"]] == ["base/bn"]
    assert "base is called with training=False, which does not protect it" in ran.json["advice"][0]
    assert "backbone.trainable = False before compile" in ran.json["advice"][1]
    assert ran.json["modes"]["stored"] is not None
    assert path.read_bytes() == before
    text = headstart("doctor", photos, "--model", path, "--out", tmp_path / "out").out
    assert text.startswith("NOT SOUND: ")


@SAVED
def test_a_frozen_model_of_the_users_is_sound(
    headstart: Command, photos: Path, tmp_path: Path
) -> None:
    path = theirs(tmp_path, frozen=True)
    ran = headstart("doctor", photos, "--model", path, "--out", tmp_path / "out", "--json")
    assert ran.code == 0, ran.err
    assert failed(ran) == set()
    assert ran.json["advice"] == []


def test_custom_code_in_a_model_is_refused_and_not_run(
    headstart: Command, photos: Path, tmp_path: Path
) -> None:
    keras = import_keras()
    inputs = keras.Input((24, 24, 3))
    model = keras.Model(inputs, keras.layers.Lambda(lambda x: x * 2)(inputs))
    model.save(tmp_path / "lambda.keras")
    ran = headstart(
        "doctor", photos, "--model", tmp_path / "lambda.keras", "--out", tmp_path / "out"
    )
    assert ran.code == 2
    assert "cannot be opened in Keras' safe mode" in ran.err


@pytest.fixture
def crops(tmp_path: Path) -> Callable[[str, Callable[[Any], Any]], Path]:
    """Cut squares out of two real photographs, those that come with scikit-learn."""
    from sklearn.datasets import load_sample_images

    def cut(name: str, change: Callable[[Any], Any]) -> Path:
        rng = np.random.default_rng(0)
        for number, photo in enumerate(load_sample_images().images):
            for i in range(24):
                side = int(rng.integers(150, 300))
                top, left = (int(rng.integers(length - side)) for length in photo.shape[:2])
                square = change(photo[top : top + side, left : left + side])
                path = tmp_path / name / "ab"[number] / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(square).resize((96, 96)).save(path)
        return tmp_path / name

    return cut


def test_photographs_lie_near_and_a_strong_shift_lies_far(
    headstart: Command, crops: Callable[..., Path], tmp_path: Path
) -> None:
    far = {}
    for name, change in (("plain", lambda x: x), ("dark", lambda x: (255 - x) // 16)):
        ran = headstart(
            "doctor", crops(name, change), "--backbone", "efficientnet-lite0", "--size", 96,
            "--out", tmp_path / "out", "--json",
        )  # fmt: skip
        assert ran.code == 0, ran.err
        far[name] = ran.json
    # Measured: 0.17 and 1.5.
    assert far["plain"]["distance"] < 0.4
    assert far["dark"]["distance"] > 3 * far["plain"]["distance"]
