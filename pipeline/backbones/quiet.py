"""The one place where Keras is imported, so that it comes without noise."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

from pipeline.config import usable_cores

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def import_keras() -> Any:
    """Import Keras, start its backend, and return the module.

    TensorFlow's messages below errors, and those it writes before its log is set up (no GPU, which
    instructions it uses), are kept from standard error unless the user has set
    ``TF_CPP_MIN_LOG_LEVEL``. If the import fails they are shown after all. TensorFlow gets as many
    threads as there are cores that this process may use, unless the user has set
    ``TF_NUM_INTRAOP_THREADS``: it knows nothing of quotas.
    """
    logging.getLogger("tensorflow").addFilter(_is_news)
    if "keras" in sys.modules:
        return sys.modules["keras"]
    chatty = _LEVEL in os.environ
    os.environ.setdefault(_LEVEL, "2")
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(usable_cores()))
    with contextlib.nullcontext() if chatty else _held_back_stderr(), warnings.catch_warnings():
        # Deprecations inside TensorFlow's own modules are no concern of whoever imports it.
        warnings.simplefilter("ignore")
        import keras

        # The first tensor is when TensorFlow looks for devices, and complains of having none.
        keras.ops.zeros(1)
    return keras


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a message is worth showing: that several models were compiled is not."""
    return "tf.function retracing" not in record.getMessage()


@contextlib.contextmanager
def _held_back_stderr() -> Iterator[None]:
    """Keep what is written to file descriptor 2, by C++ too, and show it only if this fails."""
    with tempfile.TemporaryFile() as kept:
        sys.stderr.flush()
        try:
            before = os.dup(2)
        except OSError:
            # Standard error is closed: there is nothing to keep quiet.
            yield
            return
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(before, 2)
            kept.seek(0)
            os.write(2, kept.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
