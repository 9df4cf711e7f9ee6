"""The Keras back end: a quiet start, what it computes on, and in which precision.

Every module takes Keras from here (`from devices import keras`), so that TensorFlow's
start-up log stays off the screen. This is the one place that knows back ends apart.
"""

import os
from pathlib import Path

from errors import quiet_stderr

PRECISIONS = ("auto", "float32", "bfloat16", "float16")


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what it logs later, errors included
with quiet_stderr():  # what it logs before it has read that
    import keras


def describe_device() -> tuple[str, str]:
    """Return what the network runs on, in words, and the precision that suits it.

    bfloat16 where the hardware computes in it: CPUs with AMX or AVX512-BF16, GPUs of
    compute capability 8 and up. float16 on GPUs of capability 7.x, float32 elsewhere
    (where bfloat16 is emulated, it is four times slower than float32).
    """
    gpus = _gpus()
    if gpus:
        name, capability = gpus[0]
        count = f"{len(gpus)} x " if len(gpus) > 1 else ""
        precision = {8: "bfloat16", 7: "float16"}.get(min(int(capability), 8), "float32")
        return f"{count}{name} (compute capability {capability:g})", precision
    flags = _cpu_flags()
    precision = "bfloat16" if flags & {"amx_bf16", "avx512_bf16"} else "float32"
    return f"CPU, {os.cpu_count()} cores", precision


def _gpus() -> list[tuple[str, float]]:
    """Name and compute capability of each GPU that the back end sees."""
    backend = keras.backend.backend()
    with quiet_stderr():
        if backend == "tensorflow":
            import tensorflow as tf

            details = [
                tf.config.experimental.get_device_details(gpu)
                for gpu in tf.config.list_physical_devices("GPU")
            ]
            return [
                (gpu.get("device_name", "GPU"), float("{}.{}".format(*gpu["compute_capability"])))
                for gpu in details
                if "compute_capability" in gpu
            ]
        if backend == "jax":
            import jax

            return [
                (device.device_kind, float(device.compute_capability))
                for device in jax.local_devices()
                if device.platform == "gpu"
            ]
    return []


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return set()
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())


def set_precision(precision: str) -> str:
    """Make new layers compute in `precision` and keep their weights in float32.

    Parameters
    ----------
    precision : one of `PRECISIONS`

    Returns
    -------
    str
        What was set: `precision`, or the choice that "auto" made.
    """
    if precision == "auto":
        precision = describe_device()[1]
    keras.config.set_dtype_policy("float32" if precision == "float32" else f"mixed_{precision}")
    return precision


def jit_compile() -> bool | str:
    """What to compile models with: XLA is several times slower than oneDNN on TensorFlow's CPU."""
    return False if keras.backend.backend() == "tensorflow" and not _gpus() else "auto"
