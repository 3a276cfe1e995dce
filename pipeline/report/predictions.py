"""Predictions as CSV and as JSON."""

from __future__ import annotations

import csv
import io
from typing import Any

from pipeline.predict import Predictions


def predictions_json(predictions: Predictions) -> dict[str, Any]:
    """Return the object that ``predict --json`` prints."""
    return {
        "predictions": [
            {
                "path": str(path),
                "label": label,
                "probabilities": dict(
                    zip(predictions.classes, map(float, row.round(6)), strict=True)
                ),
            }
            for path, label, row in zip(
                predictions.paths, predictions.labels(), predictions.probabilities, strict=True
            )
        ],
        "rejected": [
            {"path": str(reject.path), "reason": reject.reason} for reject in predictions.rejects
        ],
        "images_per_second": round(predictions.images_per_second, 2),
        "views": predictions.views,
    }


def predictions_csv(predictions: Predictions) -> str:
    """Return a table with a header: path, label, and the probability of each class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "label", *(f"p_{name}" for name in predictions.classes)])
    for path, label, row in zip(
        predictions.paths, predictions.labels(), predictions.probabilities, strict=True
    ):
        writer.writerow([path, label, *(f"{p:.6f}" for p in row)])
    return text.getvalue()
