"""What the tests share: small pictures, and scripts run as a user runs them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from noise2noise.deadleaves import dead_leaves

REPOSITORY = Path(__file__).resolve().parent.parent
SMALL = ("--epochs", "2", "--steps", "4", "--batch", "2", "--crop", "32")


def run_script(script: str, *arguments, check: int | None = 0, **environment: str):
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
    """The folder of a finished small run, and of what it printed (output.txt)."""
    runs = tmp_path_factory.mktemp("runs")
    done = run_script("train_model.py", "gaussian", pictures, *SMALL, "--output-dir", runs)
    folder = runs / f"gaussian-{pictures.name}"
    (folder / "output.txt").write_text(done.stdout + done.stderr)
    return folder


@pytest.fixture(scope="session")
def project(tmp_path_factory, trained):
    """A copy of the project's code with one trained model, gaussian-small, and no data."""
    folder = tmp_path_factory.mktemp("project")
    for path in REPOSITORY.glob("*.py"):
        shutil.copy(path, folder)
    shutil.copytree(REPOSITORY / "noise2noise", folder / "noise2noise")
    shutil.copytree(trained, folder / "runs/gaussian-small")
    return folder
