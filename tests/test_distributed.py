"""Training on several devices and in several processes, beside the same training on one."""

import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import REPOSITORY, call_script, model_weights, run_script

from noise2noise.runs import CHECKPOINT, EXIT_INTERRUPTED

OPTIONS = ("--epochs", "2", "--steps", "10", "--batch", "4", "--crop", "32")
OPTIONS += ("--precision", "float32")
ROUNDING = 1e-4  # of weights after 20 steps: measured 1e-5, Adam makes a step of rounding
TWO_CPUS = """
import sys
from noise2noise import backend
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import train_model
sys.argv[0] = "train_model.py"
sys.exit(train_model.main())
"""


def largest_difference(first, second) -> float:
    pairs = zip(model_weights(first), model_weights(second), strict=True)
    return max(float(np.abs(a - b).max()) for a, b in pairs)


@pytest.mark.slow
def test_two_devices_of_tensorflow_train_as_one(pictures, tmp_path):
    """Also where pixels have weights: the parts' losses must add up to the whole batch's."""
    arguments = ("bernoulli", str(pictures), *OPTIONS, "--output-dir", str(tmp_path))
    run_script("train_model.py", *arguments, "--name", "one")
    done = subprocess.run(
        [sys.executable, "-c", TWO_CPUS, *arguments, "--name", "two"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert largest_difference(tmp_path / "one", tmp_path / "two") < ROUNDING


def start_two(arguments, environment) -> list[subprocess.Popen]:
    """Start two processes that train together over loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    return [
        subprocess.Popen(
            [sys.executable, REPOSITORY / "train_model.py", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ
            | environment
            | {
                "KERAS_DISTRIBUTION_JOB_ADDRESSES": address,
                "KERAS_DISTRIBUTION_NUM_PROCESSES": "2",
                "KERAS_DISTRIBUTION_PROCESS_ID": str(i),
            },
        )
        for i in range(2)
    ]


def finish(processes, code: int = 0) -> list[str]:
    """Wait for the processes, which end with `code`; return what they printed."""
    try:
        outputs = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [code] * 2, outputs
    assert not any("Traceback" in errors for _, errors in outputs), outputs
    return [output for output, _ in outputs]


@pytest.mark.slow
def test_two_processes_train_as_one_also_after_interruptions(pictures, tmp_path, jax_cache):
    """By a signal at the first checkpoint, and killed at one after that."""
    arguments = ("gaussian", str(pictures), *OPTIONS, "--output-dir", str(tmp_path))
    run_script("train_model.py", *arguments, "--name", "one", **jax_cache)
    finish(start_two((*arguments, "--name", "two"), jax_cache))
    one, two = tmp_path / "one", tmp_path / "two"
    assert largest_difference(one, two) < ROUNDING

    arguments += ("--checkpoint-steps", "3")
    folder, seen = tmp_path / f"gaussian-{pictures.name}", None
    for how, code in ((signal.SIGTERM, EXIT_INTERRUPTED), (signal.SIGKILL, -signal.SIGKILL)):
        processes = start_two(arguments, jax_cache)
        end = time.monotonic() + 200
        while written(folder / CHECKPOINT) == seen:
            assert time.monotonic() < end
            assert [process.poll() for process in processes] == [None, None]
            time.sleep(0.01)
        for process in processes:
            process.send_signal(how)
        output, _ = finish(processes, code)
        assert ("stopped by SIGTERM and saved" in output) == (how == signal.SIGTERM)
        seen = written(folder / CHECKPOINT)
    output, other = finish(start_two(arguments, jax_cache))
    assert "going on at epoch" in output
    assert "the model is" in output
    assert "epoch" not in other.lower()  # the first one speaks
    assert largest_difference(two, folder) == 0
    assert (two / "history.csv").read_text() == (folder / "history.csv").read_text()


def written(path) -> int | None:
    """When a file was written; None where there is none."""
    return path.stat().st_mtime_ns if path.exists() else None


def test_several_processes_on_tensorflow_are_told_what_to_do(pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_DISTRIBUTION_NUM_PROCESSES", "2")
    done = call_script("train_model.py", "gaussian", pictures, "--output-dir", tmp_path, check=2)
    assert "KERAS_BACKEND=jax" in done.stderr.splitlines()[-1]
