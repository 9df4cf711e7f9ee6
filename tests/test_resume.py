"""Runs that are stopped, disturbed and continued: nothing lost, nothing repeated unsaid."""

import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from conftest import REPOSITORY, SMALL, call_script, one_error_line, run_script, weights_bytes

from noise2noise.errors import InputError, WriteError, full_disk
from noise2noise.files import PART
from noise2noise.runs import (
    CHECKPOINT,
    EXIT_INTERRUPTED,
    MODEL,
    NEW,
    PREVIOUS,
    ReadOnlyRun,
    Run,
    read_training,
)

LONG = ("--epochs", "2000", "--steps", "4", "--batch", "2", "--crop", "32", "--name", "run")


def start(pictures, folder, *arguments, **options) -> subprocess.Popen:
    command = ["train_model.py", "gaussian", pictures, *LONG, *arguments, "--output-dir", folder]
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def wait_for(path, process, seconds=120):
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.01)


@pytest.fixture(scope="session")
def stopped(pictures, tmp_path_factory):
    """A run folder that a SIGKILL left, with both checkpoints."""
    folder = tmp_path_factory.mktemp("stopped")
    process = start(pictures, folder)
    wait_for(folder / "run" / PREVIOUS, process)
    wait_for(folder / "run" / CHECKPOINT, process)
    process.kill()
    process.communicate()
    (folder / "run" / "lock").unlink()
    return folder / "run"


@pytest.fixture
def run(stopped, tmp_path):
    shutil.copytree(stopped, tmp_path / "run")
    assert (tmp_path / "run" / CHECKPOINT).exists()
    return tmp_path / "run"


def go_on(pictures, run, seconds=120):
    """Go on with a run, stop it at the first sign of life, return what it printed."""
    process = start(pictures, run.parent)
    before = (run / "history.csv").stat().st_mtime_ns if (run / "history.csv").exists() else 0
    end = time.monotonic() + seconds
    while process.poll() is None and (run / "history.csv").stat().st_mtime_ns == before:
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate()
    return process.returncode, output, errors


@pytest.mark.slow
def test_a_stopped_training_ends_though_its_next_batch_is_being_made(tmp_path):
    """TensorFlow's iterator waits for the batch, which no thread makes in an ending Python."""
    process = start("deadleaves", tmp_path, "--checkpoint-steps", "1")
    try:
        wait_for(tmp_path / "run" / CHECKPOINT, process)
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == EXIT_INTERRUPTED, output + errors


def test_the_checkpoint_before_stays_and_the_newest_is_gone_on_from(tmp_path):
    settings = {"dataset": "a", "epochs": 3, "filter": "gaussian"}
    run = Run(tmp_path, settings, "", {})
    for step in (1, 2):
        run.save({"weights/0": np.float32([step])}, 0, step)
    for name, step in ((CHECKPOINT, 2), (PREVIOUS, 1)):
        with np.load(tmp_path / name) as file:
            assert file["weights/0"] == step
    (tmp_path / CHECKPOINT).rename(tmp_path / NEW)  # killed before it had its other name
    (tmp_path / PREVIOUS).rename(tmp_path / CHECKPOINT)
    assert ReadOnlyRun(tmp_path, settings).step == 2


def test_a_run_whose_settings_are_gone_does_not_go_on_with_others(tmp_path):
    settings = {"dataset": "a", "epochs": 3, "filter": "gaussian"}
    run = Run(tmp_path, settings, "", {})
    run.save({"weights/0": np.float32([1])}, 0, 1)
    run._lock.release()
    (tmp_path / "settings.json").unlink()
    with pytest.raises(InputError, match=r"settings\.json is gone: --fresh"):
        Run(tmp_path, settings | {"seed": 1}, "", {})


@pytest.mark.slow
@pytest.mark.parametrize("name", ["KILL", "TERM"])
def test_a_disturbed_run_ends_as_the_undisturbed_one(name):
    done = run_script("tests/interruptions.py", "--signal", name, "--kills", 3)
    assert "the same to the bit" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_signal_saves_and_exits_with_its_own_code(pictures, run, name):
    process = start(pictures, run.parent)
    before = (run / "history.csv").stat().st_mtime_ns
    while (run / "history.csv").stat().st_mtime_ns == before and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(getattr(signal, name))
    output, errors = process.communicate()
    assert process.returncode == EXIT_INTERRUPTED, output + errors
    assert f"stopped by {name} and saved" in output
    assert "Traceback" not in errors


@pytest.mark.slow
def test_a_second_training_in_the_same_folder_is_refused_while_the_first_lives(pictures, tmp_path):
    process = start(pictures, tmp_path)
    wait_for(tmp_path / "run" / CHECKPOINT, process)
    second = start(pictures, tmp_path)
    _, errors = second.communicate()
    assert second.returncode == 2
    assert "another training runs in" in errors
    process.kill()
    process.communicate()
    code, _, errors = go_on(pictures, tmp_path / "run")
    assert code == EXIT_INTERRUPTED, errors


def test_a_loss_that_is_no_number_stops_the_run_and_the_last_good_checkpoint_stays(
    pictures, tmp_path
):
    done = call_script(
        *("train_model.py", "gaussian", pictures, *LONG, "--learning-rate", "1e18"),
        *("--checkpoint-steps", "1", "--output-dir", tmp_path),
        check=2,
    )
    line = one_error_line(done)
    assert "no longer a number at epoch 1, step" in line
    assert f"The last good checkpoint stays in {tmp_path / 'run'}" in line
    with np.load(tmp_path / "run" / CHECKPOINT) as file:
        assert all(np.isfinite(file[key]).all() for key in file.files if key != "place")
    assert not (tmp_path / "run/model.keras").exists()


@pytest.mark.slow
def test_a_full_disk_is_named_and_the_earlier_checkpoint_goes_on(pictures, run):
    before = {name: (run / name).read_bytes() for name in (CHECKPOINT, PREVIOUS)}
    limit = len(before[CHECKPOINT]) // 2
    process = start(
        pictures,
        run.parent,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    _, errors = process.communicate()
    assert process.returncode == 2
    line = errors.strip().splitlines()[-1]
    assert f"cannot write {run}" in line
    assert CHECKPOINT in line
    assert "MB free" in line
    assert "Traceback" not in errors
    assert {name: (run / name).read_bytes() for name in before} == before
    assert not list(run.glob(f"{PART}*"))
    code, output, errors = go_on(pictures, run)
    assert code == EXIT_INTERRUPTED, errors
    assert "going on at epoch" in output


def test_what_tensorflow_says_of_a_full_disk_is_one_line_and_a_bug_stays_one(tmp_path):
    full = pytest.raises(WriteError, match=r"cannot write .*No space left on device \(.* MB free")
    with full, full_disk(tmp_path):
        raise tf.errors.ResourceExhaustedError(None, None, "events; No space left on device")
    for bug in (RuntimeError("No space left on device"), tf.errors.InternalError(None, None, "x")):
        with pytest.raises(type(bug)), full_disk(tmp_path):
            raise bug


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1000])


def flip(path):
    contents = bytearray(path.read_bytes())
    for place in range(10_000, len(contents), len(contents) // 20):
        contents[place] ^= 0x10
    path.write_bytes(contents)


def encrypt(path):
    """Flip the bit that says so in the zip file's directory: its sums don't cover it."""
    contents = bytearray(path.read_bytes())
    contents[contents.rindex(b"PK\x01\x02") + 8] ^= 1
    path.write_bytes(contents)


@pytest.fixture
def nearly_finished(finished):
    """A run whose last steps are done and whose network is not written yet; two checkpoints."""
    (finished / "model.keras").unlink()
    shutil.copy(finished / CHECKPOINT, finished / PREVIOUS)
    return finished


def train_on(pictures, run, **options):
    """Go on with `nearly_finished`."""
    command = ("train_model.py", "gaussian", pictures, *SMALL, "--output-dir", run.parent)
    return call_script(*command, **options)


@pytest.mark.parametrize("damage", [truncate, flip, encrypt])
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(
    pictures, trained, nearly_finished, damage
):
    run = nearly_finished
    damage(run / CHECKPOINT)
    output = train_on(pictures, run).stdout
    assert f"{run / CHECKPOINT} is damaged: going on from {run / PREVIOUS}" in output
    assert weights_bytes(run) == weights_bytes(trained)
    assert (run / "history.csv").read_text() == (trained / "history.csv").read_text()


def test_a_network_whose_training_cannot_be_read_is_like_one_that_says_nothing(finished):
    assert read_training(finished / MODEL)["filter"] == "gaussian"
    encrypt(finished / MODEL)
    assert read_training(finished / MODEL) == {}


def test_a_checkpoint_that_lacked_its_name_only_goes_on(nearly_finished):
    """As where a process was killed when the one before had its other name already."""
    run = nearly_finished
    (run / CHECKPOINT).rename(run / NEW)
    truncate(run / PREVIOUS)
    opened = ReadOnlyRun(run, {"epochs": 2})
    assert opened.epoch == 2
    assert opened.arrays


def test_two_damaged_checkpoints_are_named_with_the_way_out(pictures, nearly_finished):
    run = nearly_finished
    truncate(run / CHECKPOINT)
    flip(run / PREVIOUS)
    line = one_error_line(train_on(pictures, run, check=2))
    assert str(run / CHECKPOINT) in line
    assert str(run / PREVIOUS) in line
    assert "--fresh" in line


def test_damaged_settings_are_named(pictures, nearly_finished):
    (nearly_finished / "settings.json").write_text("{")
    line = one_error_line(train_on(pictures, nearly_finished, check=2))
    assert str(nearly_finished / "settings.json") in line
