"""The Keras back end: a quiet start, what it computes on, in which precision, with whom.

    python -m noise2noise.backend        the device and the precision that a training would use

Every module takes Keras from here (`from noise2noise.backend import keras`), so that
TensorFlow's start-up log stays off the screen. Back ends are told apart here, and where
a callback needs one of them.
"""

import contextlib
import ctypes
import importlib.util
import itertools
import logging
import math
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from noise2noise import errors
from noise2noise.errors import InputError, quiet_stderr, run_main

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what TensorFlow logs later, errors too
logging.getLogger("tensorflow").setLevel(logging.ERROR)  # which warns of many models
if not importlib.util.find_spec("tensorflow") and importlib.util.find_spec("jax"):
    os.environ.setdefault("KERAS_BACKEND", "jax")
try:
    with quiet_stderr():  # what TensorFlow logs before it has read that
        import keras
except (ImportError, ValueError) as error:  # no `run_main` is around the scripts' own imports
    sys.exit(errors.report(InputError(f"Keras: {error}")))


MOST_STEPS_PER_EXECUTION = 8  # at most, on a GPU
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # of glibc's malloc.h


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
        return f"{count}{name}", precision
    flags = _cpu_flags()
    precision = "bfloat16" if flags & {"amx_bf16", "avx512_bf16"} else "float32"
    return f"CPU, {cores()} core{'s' * (cores() > 1)}", precision


def unused_gpu() -> str | None:
    """Say in one line that the machine has a GPU which the back end does not see, if so."""
    granted = int(os.environ.get("SLURM_GPUS_ON_NODE") or 0)
    if _gpus() or not (granted or any(Path("/proc/driver/nvidia/gpus").glob("*"))):
        return None
    name = {"tensorflow": "TensorFlow", "jax": "JAX"}.get(keras.backend.backend(), "the back end")
    package = "jax[cuda12]" if name == "JAX" else "tensorflow[and-cuda]"
    return (
        f"there is a GPU, but {name} does not find it and would train on the CPU: "
        f'pip install "{package}", and see that the driver answers (nvidia-smi)'
    )


def idle_gpus(batch_size: int) -> str | None:
    """Say in one line that not all GPUs of this host can share a batch equally, if so."""
    count = len(_gpus())
    if not count or (used := _sharing(batch_size, count)) == count:
        return None
    return f"{used} of {count} GPUs are used: more cannot share batches of {batch_size} crops"


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def default_workers() -> int:
    """Number of processes to make batches: all cores' beside a GPU; a CPU has enough to do."""
    return cores() if on_gpu() else 0


def steps_per_execution(*counts: int) -> int:
    """Return how many training steps go to the device at once: a divisor of all the counts.

    A callback reads each step's loss, and a GPU would wait for that before it gets the next one.
    """
    common = math.gcd(*counts)
    most = MOST_STEPS_PER_EXECUTION if on_gpu() else 1
    return max(n for n in range(1, most + 1) if common % n == 0)


def on_gpu() -> bool:
    return bool(_gpus())


def _gpus() -> list[tuple[str, float]]:
    """Each GPU that the back end sees, in words, and its compute capability: 0 if not NVIDIA's."""
    backend = keras.backend.backend()
    with quiet_stderr():
        if backend == "tensorflow":
            import tensorflow as tf

            details = [
                tf.config.experimental.get_device_details(gpu)
                for gpu in tf.config.list_physical_devices("GPU")
            ]
            return [
                _gpu(gpu.get("device_name", "GPU"), "{}.{}".format(*gpu["compute_capability"]))
                for gpu in details
                if "compute_capability" in gpu
            ]
        if backend == "jax":
            import jax

            return [
                _gpu(device.device_kind, device.compute_capability)
                for device in jax.local_devices()
                if device.platform == "gpu"
            ]
    return []


def _gpu(name: str, capability: str) -> tuple[str, float]:
    try:
        number = float(capability)
    except ValueError:  # AMD's, such as gfx942
        return f"{name} ({capability})", 0.0
    return f"{name} (compute capability {number:g})", number


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return set()
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())


def set_precision(precision: str) -> None:
    """Make new layers compute in a precision and keep their weights in float32.

    Parameters
    ----------
    precision : "float32", "bfloat16", "float16", or "auto" for what suits the device
    """
    if precision == "auto":
        precision = describe_device()[1]
    keras.config.set_dtype_policy("float32" if precision == "float32" else f"mixed_{precision}")


def stream(batches: keras.utils.PyDataset):
    """Return a data set as what to give to Keras: as it is, on TensorFlow as a `tf.data.Dataset`.

    The one that Keras makes tunes itself, by a thread that sleeps for up to a minute: the end of
    a fit waits for it. All batches of the data set must have the shapes of its first one.
    """
    if keras.backend.backend() != "tensorflow":
        return batches
    import tensorflow as tf

    count = batches.num_batches  # None: without end

    def made_in_order():
        yield from map(batches.__getitem__, itertools.count() if count is None else range(count))

    signature = tf.nest.map_structure(
        lambda array: tf.TensorSpec(array.shape, array.dtype), batches[0]
    )
    options = tf.data.Options()
    options.autotune.enabled = False
    made = tf.data.Dataset.from_generator(made_in_order, output_signature=signature)
    if count is not None:
        made = made.apply(tf.data.experimental.assert_cardinality(count))
    return made.prefetch(2).with_options(options)


@contextlib.contextmanager
def original_errors(*datasets) -> Iterator[None]:
    """Raise the `InputError` of a data set's batch, which Keras wraps in an error of its own."""
    try:
        yield
    except InputError:
        raise
    except Exception:
        for dataset in datasets:
            if dataset.failure:
                raise dataset.failure from None
        raise


def keep_freed_memory() -> None:
    """Have glibc keep the memory that a training step frees, for the next step.

    It would hand blocks of megabytes back to the kernel at each step, whose page faults took
    half of the time on some machines (mallopt(3); other allocators are left alone).
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # where there is no glibc
        mallopt = ctypes.CDLL(None).mallopt
        # Before 2.35 glibc takes no more than 32 MB.
        mallopt(M_MMAP_THRESHOLD, 2_000_000_000) or mallopt(M_MMAP_THRESHOLD, 1 << 25)
        mallopt(M_TRIM_THRESHOLD, 2_000_000_000)
        mallopt(M_TOP_PAD, 1 << 26)


def jit_compile() -> bool | str:
    """What to compile models with: XLA is several times slower than oneDNN on TensorFlow's CPU."""
    return False if keras.backend.backend() == "tensorflow" and not _gpus() else "auto"


@dataclass(frozen=True)
class Processes:
    """The processes that train one model together, and which of them this one is."""

    index: int = 0
    count: int = 1

    @property
    def chief(self) -> bool:
        """Whether this is the one process that writes the run."""
        return self.index == 0

    def all_gather(self, number: int) -> list[int]:
        """Return each process's `number`, after all of them have come here."""
        if self.count == 1:
            return [number]
        import numpy as np
        from jax.experimental.multihost_utils import process_allgather

        return process_allgather(np.array(number)).tolist()


def join_processes() -> Processes:
    """Join the other processes of this training, if there are any.

    They are found in the environment of SLURM's `srun`, or in Keras' own:
    KERAS_DISTRIBUTION_JOB_ADDRESSES, _NUM_PROCESSES and _PROCESS_ID. From then on only the
    chief prints. To be called before anything is computed; raises `InputError` for several on
    another back end than JAX, and for one that does not train.
    """
    if (name := keras.backend.backend()) in {"numpy", "openvino"}:
        raise InputError(f"Keras does not train on {name}: KERAS_BACKEND=tensorflow or jax")
    names = ("SLURM_STEP_NUM_TASKS", "KERAS_DISTRIBUTION_NUM_PROCESSES")
    if not any(int(os.environ.get(name) or 1) > 1 for name in names):
        return Processes()
    if keras.backend.backend() != "jax":
        raise InputError(
            "several processes train together on JAX only: pip install jax, KERAS_BACKEND=jax"
        )
    import jax

    errors.multi_process = True
    with contextlib.suppress(AttributeError):  # it would swallow SIGTERM; older ones have it not
        jax.config.update("jax_enable_preemption_service", False)
    with quiet_stderr():
        keras.distribution.initialize()
        processes = Processes(jax.process_index(), jax.process_count())
    if not processes.chief:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    return processes


def distribute(batch_size: int) -> contextlib.AbstractContextManager:
    """Return the context to make and compile a model in, for it to train on all devices.

    That is all GPUs of this host, or as many as share a batch equally; on JAX also those of
    the processes joined. Every device has the weights and takes its part of each batch.
    """
    devices = _devices()
    if keras.backend.backend() == "jax":
        import jax

        if jax.process_count() == 1:
            devices = devices[: _sharing(batch_size, len(devices))]
        elif batch_size % len(devices):
            raise InputError(f"a batch of {batch_size} cannot be shared by {len(devices)} devices")
        if len(devices) > 1:  # Keras wants it set for the training too
            parallel = keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
            keras.distribution.set_distribution(parallel)
    elif keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        devices = devices[: _sharing(batch_size, len(devices))]
        if len(devices) > 1:
            return tf.distribute.MirroredStrategy([device.name for device in devices]).scope()
    return contextlib.nullcontext()


def device_count() -> int:
    """Return how many devices a training may share its batches out to, of all processes."""
    return len(_devices())


def _devices() -> list:
    if keras.backend.backend() == "jax":
        import jax

        return jax.devices()
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [None]


@contextlib.contextmanager
def single_device():
    """What is made and run inside is on one device; yields whether that is not so outside."""
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield before is not None
    finally:
        keras.distribution.set_distribution(before)


def _sharing(batch_size: int, devices: int) -> int:
    return next(n for n in range(devices, 0, -1) if batch_size % n == 0)


def main() -> None:
    device, precision = describe_device()
    if line := unused_gpu():
        raise InputError(line)
    print(f"{keras.backend.backend()} on {device}, {precision}")


if __name__ == "__main__":
    run_main(main)
