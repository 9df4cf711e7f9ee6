"""On JAX where TensorFlow is not installed: train, go on, restore, score."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY, SMALL

from noise2noise import runs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def without_tensorflow(tmp_path_factory, jax_cache):
    """Runs scripts by a Python with all that this one has but TensorFlow, and OpenVINO."""
    packages = tmp_path_factory.mktemp("packages")
    for folder in (Path(path) for path in sys.path if path.endswith("-packages")):
        for path in folder.iterdir():
            if not path.name.lower().startswith(("tensorflow", "tensorboard", "openvino")):
                (packages / path.name).symlink_to(path)
    environment = os.environ | jax_cache | {"PYTHONPATH": str(packages)}
    del environment["KERAS_BACKEND"]  # JAX is found

    def run(*command, check=0):
        done = subprocess.run(
            [sys.executable, "-S", *map(str, command)],  # -S: PYTHONPATH instead of site-packages
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == check, done.stdout + done.stderr
        return done

    missing = run("-c", "import tensorflow", check=1)
    assert "No module named 'tensorflow'" in missing.stderr
    return run


def test_it_trains_goes_on_restores_and_scores(without_tensorflow, pictures, tmp_path):
    train = ("train_model.py", "bernoulli", pictures, *SMALL, "--output-dir", tmp_path)
    done = without_tensorflow(*train, "--epochs", 1)
    assert "no TensorBoard log: it takes TensorFlow, which is not installed" in done.stdout
    done = without_tensorflow(*train)
    assert "going on at epoch 2" in done.stdout
    folder = tmp_path / f"bernoulli-{pictures.name}"
    assert runs.read_settings(folder)["settings"]["backend"] == "jax"
    assert (folder / "history.csv").read_text().count("\n") == 3
    assert not (folder / "tensorboard").exists()

    infer = ("infer.py", "bernoulli", pictures.name, "--models", tmp_path, "--output", tmp_path)
    done = without_tensorflow(*infer, "--restore", pictures / "3.png")
    assert "OpenVINO is not installed" in done.stdout
    assert "restored 1 of 1" in done.stdout
    assert (tmp_path / "3.png").exists()
    done = without_tensorflow(*infer, "--score", pictures)
    assert "trained on a folder of this name" in (tmp_path / "scores.csv").read_text()


def test_the_l0_loss_is_refused_before_there_is_a_run(without_tensorflow, tmp_path):
    train = ("train_model.py", "impulse", "deadleaves", *SMALL, "--output-dir", tmp_path)
    done = without_tensorflow(*train, check=2)
    assert "--loss l0 needs TensorFlow" in done.stderr
    assert not list(tmp_path.iterdir())
