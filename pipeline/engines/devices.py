"""What Keras' backends run on, and what they do there behind one's back."""

from __future__ import annotations


def full_float32(backend: str) -> None:
    """Have float32 mean float32 on a GPU too.

    By default TensorFlow, torch's convolutions and JAX round the factors of float32 products to the
    10 bits of TF32 where a GPU has it: that would be another precision than the recipe names.
    """
    if backend == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_tensor_float_32_execution(False)
    elif backend == "torch":
        import torch

        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
    elif backend == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", "float32")


def device_of(backend: str) -> str:
    """Kind of device that Keras' backend runs on by default: ``"cpu"`` or ``"gpu"``."""
    if backend == "tensorflow":
        import tensorflow as tf

        return "gpu" if tf.config.list_logical_devices("GPU") else "cpu"
    if backend == "torch":
        import torch

        return "gpu" if torch.cuda.is_available() else "cpu"
    if backend == "jax":
        import jax

        return str(jax.default_backend())
    return "cpu"
