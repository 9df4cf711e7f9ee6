"""What the tests share: small pictures, and scripts run as a user runs them."""

import contextlib
import gc
import os
import random
import runpy
import shutil
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from noise2noise import datasets, images, networks, runs
from noise2noise.deadleaves import dead_leaves

REPOSITORY = Path(__file__).resolve().parent.parent
SMALL = ("--epochs", "2", "--steps", "4", "--batch", "8", "--crop", "32")


def pytest_collection_finish():
    """Spare the garbage collector what TensorFlow consists of: a quarter of a second each time."""
    gc.freeze()


def run_script(script: str | Path, *arguments, check: int | None = 0, **environment: str):
    """Run a script in a process of its own; fail with its output unless it exits with `check`."""
    done = subprocess.run(
        [sys.executable, REPOSITORY / script, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=300,
    )
    assert check is None or done.returncode == check, done.stdout + done.stderr
    return done


def call_script(script: str | Path, *arguments, check: int | None = 0):
    """Run a script as `run_script` does, but in this process, where TensorFlow has started.

    A script in another folder finds data/ and runs/ there. Keras' global state is a new
    process' afterwards: dtype policy, distribution, seed, names.
    """
    command = [str(REPOSITORY / script), *map(str, arguments)]
    states = random.getstate(), np.random.get_state()  # noqa: NPY002, Keras seeds it
    with pytest.MonkeyPatch.context() as patch, captured() as printed:
        patch.setattr(sys, "argv", command)
        look_in(Path(command[0]).parent, patch)
        try:
            runpy.run_path(command[0], run_name="__main__")
            code = 0
        except SystemExit as end:
            code = end.code or 0
        except Exception:
            traceback.print_exc()
            code = 1
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    if keras := sys.modules.get("keras"):
        keras.backend.clear_session()  # it collects garbage too: a run that is over, and its lock
    done = subprocess.CompletedProcess(command, code, printed.stdout, printed.stderr)
    assert check is None or done.returncode == check, done.stdout + done.stderr
    return done


@contextlib.contextmanager
def captured() -> Iterator[SimpleNamespace]:
    """What is printed inside, by native code and as warnings too: `.stdout` and `.stderr`."""
    printed = SimpleNamespace()
    with contextlib.ExitStack() as stack:
        for number, name in enumerate(("stdout", "stderr"), 1):
            stack.enter_context(redirected(number, name, printed))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("default")  # what Python shows by itself, not pytest
        for category in (DeprecationWarning, PendingDeprecationWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)
        warnings.showwarning = lambda *details: sys.stderr.write(
            warnings.formatwarning(*details[:4])
        )
        yield printed


@contextlib.contextmanager
def redirected(number: int, name: str, printed: SimpleNamespace) -> Iterator[None]:
    """Write file descriptor `number` and sys.`name` to a file, whose text is then in `printed`."""
    before, saved = getattr(sys, name), os.dup(number)
    before.flush()
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), number)
        stream = os.fdopen(number, "w", closefd=False)
        setattr(sys, name, stream)
        try:
            yield
        finally:
            stream.flush()
            setattr(sys, name, before)
            os.dup2(saved, number)
            os.close(saved)
            file.seek(0)
            setattr(printed, name, file.read().decode())


def look_in(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Have the library look for data/ and runs/ in `folder`."""
    patch.setattr(runs, "RUNS", moved(runs.RUNS, folder))
    patch.setattr(networks, "PRETRAINED", moved(networks.PRETRAINED, folder))
    for name in ("KODAK", "BSDS300", "TRAINING", "SCORED"):
        patch.setattr(datasets, name, moved(getattr(datasets, name), folder))


def moved(value, folder: Path):
    """The repository's paths in `value` as paths of `folder`."""
    if isinstance(value, dict):
        return {key: moved(item, folder) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(moved(item, folder) for item in value)
    return folder / value.relative_to(REPOSITORY) if isinstance(value, Path) else value


def one_error_line(done: subprocess.CompletedProcess) -> str:
    """The one line that bad input gets: nothing else on stderr, exit code 2."""
    assert done.returncode == 2, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert "error: " in lines[0]
    return lines[0]


def write_png16(path: Path, pixels: np.ndarray) -> None:
    """Write uint16 pixels of 1 to 4 channels, not by the library that the project does it with."""
    import tensorflow as tf

    path.write_bytes(tf.io.encode_png(pixels).numpy())


def write_like(like: Path, target: Path, *pages: np.ndarray) -> None:
    """Write pages as a file of the kind and with the metadata of `like`, whose shapes they have."""
    with images.open_file(like) as file:
        file.write(target, pages)


def model_weights(run: Path) -> list[np.ndarray]:
    """The weights of a run's trained network."""
    from noise2noise.backend import keras

    return keras.saving.load_model(run / runs.MODEL, compile=False).get_weights()


def weights_bytes(run: Path) -> list[bytes]:
    return [array.tobytes() for array in model_weights(run)]


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """A folder of ten small pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    for k in range(10):
        picture = dead_leaves(np.random.default_rng(k), size=80)
        Image.fromarray(picture[: 64 + k]).save(folder / f"{k}.png")
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory, pictures) -> Path:
    """The folder of a finished small run, and of what it printed (output.txt).

    It is made by a process of its own, as a user's is; what other tests train in this process
    must equal it to the bit.
    """
    folder = tmp_path_factory.mktemp("runs")
    done = run_script("train_model.py", "gaussian", pictures, *SMALL, "--output-dir", folder)
    folder = folder / f"gaussian-{pictures.name}"
    (folder / "output.txt").write_text(done.stdout + done.stderr)
    return folder


@pytest.fixture
def finished(trained, tmp_path) -> Path:
    """A copy of `trained`, for a test to change."""
    return Path(shutil.copytree(trained, tmp_path / "runs" / trained.name))


@pytest.fixture(scope="session")
def project(tmp_path_factory, trained) -> Path:
    """A folder of the project's scripts with one trained model, gaussian-small, and no data."""
    folder = tmp_path_factory.mktemp("project")
    for path in REPOSITORY.glob("*.py"):
        shutil.copy(path, folder)
    shutil.copytree(trained, folder / "runs/gaussian-small")
    return folder


@pytest.fixture(scope="session")
def jax_cache(tmp_path_factory) -> dict[str, str]:
    """An environment for JAX, in which what was compiled once is kept for the next process."""
    pytest.importorskip("jax")
    return {
        "KERAS_BACKEND": "jax",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("jax")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
