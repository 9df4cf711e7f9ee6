"""Training as a user runs it: what it leaves, what repeats, what it says of bad input."""

import argparse
import csv
import json
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import SMALL, call_script, model_weights, one_error_line, run_script, weights_bytes
from filelock import FileLock
from PIL import Image

import train_model
from data import NoisyDataset
from model import build_unet
from noise2noise import backend, callbacks, datasets, plan, runs
from noise2noise.backend import keras
from noise2noise.errors import InputError
from noise2noise.filters import FILTERS
from noise2noise.images import find_pictures
from noise2noise.pairs import TRAINING, NoisyPairs

ONE_EPOCH = ("--epochs", "1", "--steps", "2", "--batch", "8", "--crop", "32")


def train(filter, dataset, *options, output, sizes=SMALL, run=call_script, **more):
    """Train into a run of the folder `output`."""
    options = (*sizes, *options, "--output-dir", output)
    return run("train_model.py", filter, dataset, *options, **more)


def test_a_run_leaves_its_model_history_chart_settings_and_logs(trained):
    names = {path.name for path in trained.iterdir()}
    assert {"model.keras", "history.csv", "history.png", "settings.json", "tensorboard"} <= names
    assert not any("previous" in name or "part" in name for name in names)
    with (trained / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for row in rows:
        assert set(row) == {"epoch", "loss", "mse", "val_loss", "val_mse", "val_psnr"}
        assert all(np.isfinite(float(value)) for value in row.values())
    with Image.open(trained / "history.png") as chart:
        assert chart.size[0] > 1000
    assert list((trained / "tensorboard").glob("*/events*"))
    contents = json.loads((trained / "settings.json").read_text())
    assert contents["settings"]["batch"] == 8
    assert contents["metadata"]["keras"] == keras.__version__


def test_it_says_what_it_does_and_where_and_nothing_of_tensorflows(trained):
    output = (trained / "output.txt").read_text()
    first = output.splitlines()[0]
    assert "2 epochs of 4 batches of 8 crops of 32x32" in first
    assert str(trained) in first
    for noise in ("tensorflow/", "cuda", "oneDNN", "Warning", "I0000", "E0000", "WARNING"):
        assert noise not in output, output


@pytest.mark.slow
def test_one_seed_gives_the_same_weights_to_the_bit_and_another_does_not(
    trained, pictures, tmp_path
):
    for name, *options in (("same", "--workers", 2), ("other", "--seed", 1)):
        train("gaussian", pictures, *options, "--name", name, output=tmp_path, run=run_script)
    assert weights_bytes(tmp_path / "same") == weights_bytes(trained)
    assert weights_bytes(tmp_path / "other") != weights_bytes(trained)
    same, first = ((folder / "history.csv").read_text() for folder in (tmp_path / "same", trained))
    assert same == first


@pytest.mark.slow
def test_steps_that_go_to_the_device_together_change_nothing(
    trained, pictures, tmp_path, monkeypatch
):
    monkeypatch.setattr(backend, "steps_per_execution", lambda *counts: 2)
    train("gaussian", pictures, output=tmp_path)
    assert weights_bytes(*tmp_path.iterdir()) == weights_bytes(trained)


def test_how_many_steps_go_to_a_gpu_together(monkeypatch):
    assert backend.steps_per_execution(960) == 1
    monkeypatch.setattr(backend, "on_gpu", lambda: True)
    # So that each of these is an end: an epoch, where a run goes on in it, a checkpoint.
    for counts, together in (((960, 0, 960), 8), ((300, 5, 300), 5), ((7,), 7), ((960, 0, 4), 4)):
        assert backend.steps_per_execution(*counts) == together
    assert backend.steps_per_execution(960, 13) == 1


def test_more_epochs_go_on_from_a_finished_run_and_end_as_if_asked_for_at_once(
    trained, pictures, tmp_path
):
    train("gaussian", pictures, "--epochs", 1, output=tmp_path)
    done = train("gaussian", pictures, output=tmp_path)
    assert "going on at epoch 2, step 1" in done.stdout
    assert weights_bytes(tmp_path / trained.name) == weights_bytes(trained)
    at_once, in_two = (
        (folder / "history.csv").read_text() for folder in (trained, tmp_path / trained.name)
    )
    assert in_two == at_once


def test_a_finished_run_says_so_and_does_nothing(trained, pictures):
    before = {path: path.stat().st_mtime_ns for path in trained.iterdir()}
    done = train("gaussian", pictures, output=trained.parent)
    assert "is finished" in done.stdout
    after = {path: path.stat().st_mtime_ns for path in trained.iterdir()}
    assert {path.name for path in before if before[path] != after[path]} <= {"lock"}


def test_a_finished_run_without_its_checkpoint_is_finished(finished, pictures):
    (finished / "checkpoint.npz").unlink()
    before = (finished / "model.keras").read_bytes()
    assert "is finished" in train("gaussian", pictures, output=finished.parent).stdout
    more = train("gaussian", pictures, "--epochs", 3, output=finished.parent, check=2)
    line = one_error_line(more)
    assert "keeps no checkpoint to go on from" in line
    assert f"--start-from {finished / 'model.keras'}" in line
    assert (finished / "model.keras").read_bytes() == before


def test_fewer_epochs_than_are_done_are_refused(finished, pictures):
    line = one_error_line(
        train("gaussian", pictures, "--epochs", 1, output=finished.parent, check=2)
    )
    assert f"{finished} has 2 epochs already, more than 1" in line


def test_other_settings_are_refused_with_what_differs(trained, pictures):
    options = ("--seed", 5, "--loss", "l2", "--batch", 4, "--name", trained.name)
    line = one_error_line(train("gaussian", pictures, *options, output=trained.parent, check=2))
    assert "seed 0 there, 5 now" in line
    assert "batch 8 there, 4 now" in line
    assert "--fresh" in line


def remove(folder: Path) -> str:
    (folder / "3.png").unlink()
    return "3.png is gone"


def add(folder: Path) -> str:
    shutil.copy(folder / "3.png", folder / "a.png")
    return "a.png is new"


def change(folder: Path) -> str:
    Image.fromarray(255 - np.asarray(Image.open(folder / "3.png"))).save(folder / "3.png")
    return "3.png has other contents"


@pytest.mark.parametrize("disturb", [remove, add, change])
def test_pictures_that_changed_since_the_run_was_begun_are_named_and_the_run_left_alone(
    finished, pictures, tmp_path, disturb
):
    folder = Path(shutil.copytree(pictures, tmp_path / pictures.name))
    assert "is finished" in train("gaussian", folder, output=finished.parent).stdout  # moved
    settings = json.loads((finished / "settings.json").read_text())
    settings["settings"]["dataset"] = str(folder)  # as if the run had been begun here
    (finished / "settings.json").write_text(json.dumps(settings))
    named = disturb(folder)
    before = {path.name: path.read_bytes() for path in finished.iterdir() if path.is_file()}
    for epochs in (2, 3):
        line = one_error_line(
            train("gaussian", folder, "--epochs", epochs, output=finished.parent, check=2)
        )
        assert f"{folder.name}/{named}" in line
        assert "--fresh" in line
    after = {path.name: path.read_bytes() for path in finished.iterdir() if path.is_file()}
    assert after == before


def assert_float32(run: Path) -> None:
    """The network is for any machine, whatever it was trained in."""
    model = keras.saving.load_model(run / "model.keras", compile=False)
    assert {layer.dtype_policy.name for layer in model.layers} == {"float32"}


@pytest.mark.parametrize(
    ("filter", "options", "name"),
    [
        ("bernoulli", (), "bernoulli-PICTURES"),
        pytest.param("impulse", (), "impulse-PICTURES", marks=pytest.mark.slow),  # with L0
        pytest.param(
            *("impulse", ("--clean-targets", "--precision", "bfloat16")),
            "impulse-PICTURES-clean",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_other_filters_and_options_train(pictures, tmp_path, filter, options, name):
    train(filter, pictures, *options, sizes=ONE_EPOCH, output=tmp_path)
    folder = tmp_path / name.replace("PICTURES", pictures.name)
    assert_float32(folder)


FURTHER = ("--loss", "l1", "--schedule", "cosine", "--learning-rate", "1e-12")


@pytest.fixture(scope="module")
def further(trained, pictures, tmp_path_factory):
    """The folder of a run that trains a network further, with --fresh where another run was."""
    folder = tmp_path_factory.mktemp("further")
    others = Path(shutil.copytree(pictures, folder / "others"))
    run = Path(shutil.copytree(trained, folder / "text-others-l1"))
    options = (*FURTHER, "--start-from", trained / "model.keras", "--fresh")
    done = train("text", others, *options, sizes=ONE_EPOCH, output=folder)
    assert f"the earlier run is now {run}.1" in done.stdout
    return run


def assert_hardly_changed(before: Path, after: Path) -> None:
    for one, other in zip(model_weights(before), model_weights(after), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)


def test_a_trained_network_is_trained_further(trained, further):
    assert_hardly_changed(trained, further)
    assert_float32(further)


@pytest.mark.slow
def test_a_gradient_that_is_clipped_to_nothing_changes_nothing(trained, pictures, tmp_path):
    # Adam divides by the gradient's own size, but for a term of 1e-7.
    options = ("--clip-norm", "1e-12", "--start-from", trained / "model.keras")
    train("gaussian", pictures, *options, output=tmp_path)
    assert_hardly_changed(trained, tmp_path / trained.name)


def test_fresh_keeps_the_old_run_under_another_name(trained, further):
    old = further.with_name(f"{further.name}.1")
    assert (old / "model.keras").read_bytes() == (trained / "model.keras").read_bytes()
    assert (further / "model.keras").exists()


def test_fresh_starts_from_the_network_that_it_keeps_aside(trained, pictures, tmp_path):
    run = Path(shutil.copytree(trained, tmp_path / f"gaussian-{pictures.name}"))
    options = ("--fresh", "--start-from", run / "model.keras", "--learning-rate", "1e-12")
    train("gaussian", pictures, *options, sizes=ONE_EPOCH, output=tmp_path)
    assert_hardly_changed(trained, run)
    assert runs.read_training(run / "model.keras")["crops"] == 2 * 4 * 8 + 1 * 2 * 8
    assert (tmp_path / f"{run.name}.1/model.keras").exists()


def test_a_run_in_which_nothing_was_trained_takes_other_settings_and_pictures(
    pictures, tmp_path, monkeypatch
):
    folder = Path(shutil.copytree(pictures, tmp_path / pictures.name))
    damaged = folder / "0.png"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2])
    failed = train("gaussian", folder, sizes=ONE_EPOCH, output=tmp_path / "runs", check=2)
    assert f"{damaged} cannot be read as a picture" in one_error_line(failed)
    damaged.unlink()
    options = ("--seed", "1")
    train("gaussian", folder, *options, sizes=ONE_EPOCH, output=tmp_path / "runs")
    (run,) = (tmp_path / "runs").iterdir()
    assert json.loads((run / runs.SETTINGS).read_text())["settings"]["seed"] == 1
    assert not any("0.png" in name for name in json.loads((run / runs.PICTURES).read_text()))


def test_gpus_that_cannot_share_a_batch_are_said(monkeypatch):
    monkeypatch.setattr(backend, "_gpus", lambda: [("a GPU", 9.0)] * 3)
    assert backend.idle_gpus(12) is None
    assert "2 of 3 GPUs are used" in backend.idle_gpus(16)


def test_large_crops_are_never_none_of_several_epochs():
    for epochs, share, small in ((20, 0.15, 17), (3, 0.15, 2), (1, 0.15, 1), (20, 0.0, 20)):
        args = argparse.Namespace(epochs=epochs, large_crops=share)
        assert train_model.small_crop_epochs(args) == small


def test_more_epochs_than_a_falling_rate_was_planned_for_are_refused(trained, further):
    before = (further / "model.keras").read_bytes()
    options = (*FURTHER, "--start-from", trained / "model.keras", "--epochs", 2)
    others, output = further.parent / "others", further.parent
    line = one_error_line(train("text", others, *options, output=output, sizes=ONE_EPOCH, check=2))
    assert "planned for 1 epochs, not 2" in line
    assert f"--start-from {further / 'model.keras'}" in line
    assert (further / "model.keras").read_bytes() == before


def test_a_network_carries_what_it_was_trained_on_through_further_training(
    trained, further, pictures
):
    assert runs.read_training(trained / "model.keras") == {
        **{"filter": "gaussian", "loss": "l2", "clean_targets": False, "grey": False},
        **{"trained_on": [pictures.name], "range": None, "deep": False, "crops": 2 * 4 * 8},
        "epochs": 2,
    }
    assert runs.read_training(further / "model.keras") == {
        **{"filter": "text", "loss": "l1", "clean_targets": False, "grey": False},
        **{"trained_on": sorted([pictures.name, "others"]), "range": None, "deep": False},
        **{"crops": 2 * 4 * 8 + 1 * 2 * 8, "epochs": 1},
    }


def test_scores_of_pictures_that_a_network_was_trained_on_say_so_whatever_it_is_called(
    further, pictures, tmp_path
):
    shutil.copy(further / "model.keras", tmp_path / "text-stranger.keras")
    sets = [tmp_path / name for name in (pictures.name, "others", "stranger", "text-stranger")]
    for folder in sets:
        folder.mkdir()
        shutil.copy(pictures / "1.png", folder)
    call_script("infer.py", "--models", tmp_path, "--score", *sets, "--output", tmp_path)
    rows = csv.DictReader((tmp_path / "scores.csv").read_text().splitlines())
    assert [row["note"] for row in rows] == ["trained on a folder of this name"] * 2 + ["", ""]


def test_a_file_to_start_from_that_is_no_network_is_named(pictures, tmp_path):
    file = tmp_path / "notes.keras"
    file.write_text("no network")
    line = one_error_line(
        train("gaussian", pictures, "--start-from", file, output=tmp_path, check=None)
    )
    assert f"{file} cannot be loaded as a model" in line
    assert list(tmp_path.iterdir()) == [file]  # no run folder that stands in the way


@pytest.mark.slow
def test_the_embedded_default_needs_no_arguments_and_no_network(tmp_path):
    done = run_script(
        *("train_model.py", *SMALL, "--output-dir", tmp_path),
        http_proxy="http://127.0.0.1:9",
        https_proxy="http://127.0.0.1:9",
    )
    assert (tmp_path / "gaussian-deadleaves/model.keras").exists(), done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gaussian", "nowhere"), "nowhere is neither kodak, bsds300, deadleaves nor a folder"),
        (("laplace",), "invalid choice: 'laplace'"),
        (("--crop", "48"), "48 is not a multiple of 32"),
        (("--epochs", "0"), "0 is not above 0"),
        (("--learning-rate", "nan"), "nan is not above 0"),
        (("--seed", "-1"), "-1 is not between 0 and 4294967295"),
        (("--seed", "202611270001"), "202611270001 is not between 0 and 4294967295"),
        (("--start-from", "nowhere.keras"), "nowhere.keras is not a file"),
        (("--name", ".mine"), "'.mine' is not a folder's name"),
        (("gaussian", "deadleaves", "--crop", "288"), "generated pictures have 256 pixels: take a"),
    ],
)
def test_a_wrong_argument_is_answered_at_once(arguments, message):
    start = os.times()
    done = run_script("train_model.py", *arguments, check=2)
    spent = os.times()
    assert message in done.stderr.splitlines()[-1]
    # Processor time, which other work on the machine does not lengthen; TensorFlow takes 3 s.
    assert spent.children_user - start.children_user < 1


def test_help_answers_at_once():
    start = os.times()
    assert "--precision" in run_script("train_model.py", "--help").stdout
    assert os.times().children_user - start.children_user < 1


def test_a_folder_of_one_picture_is_refused(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "only.png")
    line = one_error_line(call_script("train_model.py", "gaussian", tmp_path, check=2))
    assert "holds one picture" in line


@pytest.mark.parametrize("fresh", [(), ("--fresh",)])
def test_a_run_folder_of_too_long_a_name_is_named(pictures, tmp_path, fresh):
    done = train("gaussian", pictures, "--name", "x" * 300, *fresh, output=tmp_path, check=2)
    line = one_error_line(done)
    assert f"cannot read {tmp_path / ('x' * 300)}: File name too long" in line


def test_a_run_folder_that_cannot_be_made_is_named(pictures, tmp_path):
    (tmp_path / "file").write_text("")
    done = train("gaussian", pictures, output=tmp_path / "file", check=2)
    line = one_error_line(done)
    assert str(tmp_path / "file") in line
    assert "runs through a file: name a folder" in line


def test_a_lock_that_cannot_be_taken_is_named_for_what_it_is(finished, pictures):
    (finished / "lock").unlink()
    (finished / "lock").mkdir()
    line = one_error_line(train("gaussian", pictures, output=finished.parent, check=2))
    assert f"cannot write {finished / 'lock'}" in line
    assert "another training" not in line


def test_a_run_that_another_training_holds_is_refused(finished, pictures):
    soon = "gaussian", pictures, "--minutes", "0.001", "--output-dir", finished.parent
    with FileLock(finished / "lock"):
        line = one_error_line(train("gaussian", pictures, output=finished.parent, check=2))
        assert f"another training runs in {finished}" in line
        for name in ("model.keras", "checkpoint.npz"):  # it has trained nothing yet
            (finished / name).unlink()
        line = one_error_line(call_script("train_model.py", *soon, check=2))
    assert f"another training runs in {finished}" in line, "not before it has timed steps"


def test_a_failed_download_names_the_way_to_train_without_a_network(project, monkeypatch):
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    done = call_script(project / "train_model.py", "gaussian", "kodak", check=2)
    line = done.stderr.splitlines()[-1]
    assert "http://r0k.us/graphics/kodak/kodak/kodim01.png" in line
    assert "python train_model.py gaussian deadleaves" in line


def test_what_is_wrong_with_the_folder_of_a_set_is_not_laid_on_the_network(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(train_model, "KODAK", tmp_path / "file")
    with pytest.raises(InputError, match=r"is a file: name a folder$"):
        train_model.open_images(SimpleNamespace(filter="gaussian", dataset="kodak"))


def test_a_planned_length_takes_the_time_that_is_given():
    for seconds, step, epoch_end in ((600, 0.06, 2.0), (7200, 0.3, 0.5), (60, 0.01, 20.0)):
        planned = plan.length(seconds, step, epoch_end)
        took = planned["epochs"] * (planned["steps"] * step + epoch_end)
        assert 0.93 * seconds < took <= seconds
        assert planned["epochs"] == 1 or planned["epochs"] * epoch_end < 0.06 * seconds
    assert plan.length(200, 0.3, 4.0)["epochs"] == 6  # one of them on large crops


def test_longer_trainings_have_more_crops_a_step_not_more_steps():
    for steps, times in ((100, 1), (480, 1), (481, 2), (960, 2), (2500, 8)):
        assert plan.more_crops({"epochs": 50, "steps": steps}, 8) == times
    assert plan.more_crops({"epochs": 50, "steps": 100_000}, 64) == 8  # that a GPU can hold


def test_a_damaged_picture_ends_the_planning_in_one_line(pictures, tmp_path):
    folder = Path(shutil.copytree(pictures, tmp_path / "pictures"))
    damaged = folder / "0.png"
    damaged.write_bytes(damaged.read_bytes()[:-900])
    options = ("--crop", "32", "--minutes", "1", "--output-dir", tmp_path / "runs")
    failed = call_script("train_model.py", "gaussian", folder, *options, check=2)
    assert f"{damaged} cannot be read as a picture" in one_error_line(failed)


def test_a_plan_is_kept_for_what_it_was_made_for(tmp_path):
    asked = {"minutes": 5.0, "crop": 32, "backend": "tensorflow"}
    made = dict.fromkeys(plan.PLANNED, 9)
    earlier = {"settings": asked | made}
    others = [{"crop": 64}, {"backend": "jax"}, {"minutes": 6.0}, {"minutes": None}]
    assert plan.kept(None, asked, tmp_path) is None
    assert plan.kept(earlier, asked, tmp_path) == made
    assert [plan.kept(earlier, asked | other, tmp_path) for other in others] == 4 * [None]
    (tmp_path / runs.CHECKPOINT).touch()  # it has trained: `Run` names what differs
    assert [plan.kept(earlier, asked | other, tmp_path) for other in others[:2]] == 2 * [made]
    for other in others[2:]:
        with pytest.raises(InputError, match="was begun with --minutes 5: go on so, or --fresh"):
            plan.kept(earlier, asked | other, tmp_path)
    with pytest.raises(InputError, match="was begun without --minutes"):
        plan.kept({"settings": made}, asked, tmp_path)


def test_a_run_whose_list_of_pictures_is_gone_is_refused(finished):
    (finished / runs.PICTURES).unlink()
    settings = runs.read_settings(finished)["settings"]
    for dataset in (settings["dataset"], "elsewhere"):
        with pytest.raises(InputError, match=r"pictures\.json cannot be read: --fresh keeps"):
            runs.Run(finished, settings | {"dataset": dataset}, "", {})


def test_the_precision_of_a_run_that_trained_nothing_is_not_kept(tmp_path):
    """Such as one that was killed in its first minute: another machine may be faster in another."""
    args = SimpleNamespace(precision="auto", output_dir=tmp_path, name="run")
    earlier = {"settings": {"precision": "that of before"}}
    (tmp_path / "run").mkdir()
    assert train_model.choose_precision(args, earlier) == backend.describe_device()[1]
    (tmp_path / "run" / runs.CHECKPOINT).touch()
    assert train_model.choose_precision(args, earlier) == "that of before"


def test_a_run_folder_that_cannot_be_renamed_is_named(finished, pictures, monkeypatch):
    monkeypatch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(PermissionError(1, "no")))
    done = train("gaussian", pictures, "--fresh", output=finished.parent, check=2)
    assert f"cannot write {finished}.1: no" in one_error_line(done)


def test_cards_of_amd_have_no_compute_capability():
    assert backend._gpu("H100", "9.0") == ("H100 (compute capability 9)", 9.0)
    assert backend._gpu("MI300X", "gfx942") == ("MI300X (gfx942)", 0.0)


def test_a_run_given_more_epochs_is_finished_with_their_network_only(finished):
    settings = runs.read_settings(finished)["settings"] | {"epochs": 3}
    pictures = json.loads((finished / runs.PICTURES).read_text())

    def opened() -> runs.Run:
        return runs.Run(finished, settings, "", pictures)

    run = opened()
    assert not run.finished
    run.save(run.arrays, 3, 0)  # stopped before the network is saved
    run._lock.release()
    assert not opened().finished


def test_single_exposures_in_float16_have_their_loss_scaled():
    options = {"seed": 0, "schedule": "constant", "learning_rate": 1e-4, "filter": "single"}
    options |= {"optimizer": "muon", "loss": "l2", "clip_norm": None, "epochs": 1, "steps": 1}
    model = train_model.compile_model(SimpleNamespace(**options, channels=3), None, "float16")
    backend.set_precision("float32")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


def test_minutes_take_the_place_of_what_they_plan(pictures, tmp_path):
    options = ("gaussian", pictures, "--output-dir", tmp_path, "--minutes", "5")
    done = call_script("train_model.py", *options, "--batch", "8", check=2)
    assert "--minutes plans it: leave out --batch" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_minutes_that_planning_takes_are_refused(pictures, tmp_path):
    options = ("gaussian", pictures, "--output-dir", tmp_path, "--minutes", "0.001")
    done = call_script("train_model.py", *options, "--crop", "32", check=2)
    assert "--minutes 0.001 is too short here: planning and starting take" in one_error_line(done)
    assert not list(tmp_path.iterdir())


def test_what_may_stop_the_run_at_an_epoch_s_end_comes_after_tensorboard_has_logged_it(tmp_path):
    options = SimpleNamespace(filter="captured", loss="l2", steps=1, checkpoint_steps=None)
    run, chief = SimpleNamespace(folder=tmp_path), SimpleNamespace(chief=True, count=1)
    log, last = train_model.make_callbacks(options, None, None, run, chief, None)
    assert isinstance(log, keras.callbacks.TensorBoard)
    assert isinstance(last, callbacks.Checkpoint)


def test_a_few_steps_are_timed_though_a_gpu_takes_several_at_once():
    assert plan.FEW_STEPS >= 2 * backend.MOST_STEPS_PER_EXECUTION


def test_minutes_for_a_run_begun_without_them_are_refused_before_anything_is_timed(
    finished, pictures
):
    options = ("--output-dir", finished.parent, "--minutes", "5")
    done = call_script("train_model.py", "gaussian", pictures, *options, check=2)
    further = f"--name ANOTHER --start-from {finished / runs.MODEL}, or --fresh"
    assert f"begun without --minutes: train its network further, {further}" in one_error_line(done)


def test_the_l0_loss_heeds_weights_of_pixels():
    from noise2noise.callbacks import AnnealedL0

    target, output = np.zeros((2, 1, 4, 4, 3), np.float32)
    output[:, :2] = 1
    weights = np.ones((1, 4, 4), np.float32)
    loss = AnnealedL0()
    assert float(loss(target, output)) == pytest.approx(0.5)
    assert float(loss(target, output, sample_weight=weights)) == pytest.approx(0.5)
    weights[:, :2] = 0
    assert float(loss(target, output, sample_weight=weights)) == pytest.approx(0)


def test_the_l0_losss_exponent_falls_from_2_to_0_with_the_optimizers_steps():
    from noise2noise.callbacks import AnnealedL0, Annealing

    loss, optimizer = AnnealedL0(), keras.optimizers.Adam()
    annealing = Annealing(loss, optimizer, 8)
    for steps, gamma in ((0, 2), (6, 0.5)):
        optimizer.iterations.assign(steps)
        annealing.on_train_batch_begin(0)  # a resumed epoch's first batch too
        assert float(loss.gamma) == gamma
    target, output = np.zeros((1, 1, 1, 3), np.float32), np.full((1, 1, 1, 3), 0.25, np.float32)
    assert float(loss(target, output)) == pytest.approx(0.5)  # 0.25^0.5


def test_the_psnr_of_an_epoch_is_that_of_what_the_network_makes_of_noisy_pictures():
    from noise2noise import metrics
    from noise2noise.callbacks import CleanPSNR

    images = [np.full((64, 64, 3), value, np.uint8) for value in (51, 102)]
    watching, logs = CleanPSNR(FILTERS["gaussian"], images, None), {}
    model = build_unet(3, 3)
    model.set_weights([np.zeros_like(weights) for weights in model.get_weights()])
    watching.set_model(model)
    watching.on_epoch_end(0, logs)
    black = np.mean([metrics.psnr(np.zeros_like(image), image) for image in images])
    assert logs["val_psnr"] == pytest.approx(black)


def test_a_plan_of_further_training_takes_the_lower_rate(finished, pictures, monkeypatch):
    planned, recipe = [], plan.recipe

    def kept(*arguments, **options):
        planned.append(recipe(*arguments, **options))
        return planned[-1]

    def by_timing(*_):
        raise InputError("timed")

    monkeypatch.setattr(plan, "recipe", kept)
    monkeypatch.setattr(plan, "by_timing", by_timing)
    options = ("--minutes", 5, "--output-dir", finished.parent, "--name", "further")
    start = ("--start-from", finished / "model.keras")
    call_script("train_model.py", "gaussian", pictures, *options, *start, check=2)
    call_script("train_model.py", "gaussian", pictures, *options, check=2)
    rates = [options["learning_rate"] for options in planned]
    assert rates == [plan.FURTHER_RATE, plan.RECIPE["learning_rate"]]
    assert rates[0] < rates[1]


@pytest.mark.parametrize("large", [True, False])
def test_a_plan_leaves_time_to_start_again(monkeypatch, large):
    """By a clock that stands still but for the steps and for what comes before them."""
    step, starting, minutes = 0.01, 10.0, 1
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)

    class Model:
        def fit(self, batches, callbacks, steps_per_epoch, **options):
            for number in range(steps_per_epoch):
                clock.now += step
                callbacks[-1].on_train_batch_end(number, {})
            callbacks[-1].on_epoch_end(0, {})

    def prepare(batch):
        assert batch == 8
        clock.now += starting
        batches = SimpleNamespace(close=lambda: None)
        return Model(), batches, batches if large else None, None, []

    monkeypatch.setattr(plan, "time", clock)
    monkeypatch.setattr(backend, "stream", lambda batches: batches)
    planned = plan.by_timing(minutes, 0.0, 8, prepare, lambda number: number)
    end = clock.now + starting + planned["epochs"] * planned["steps"] * step
    assert end == pytest.approx(60, rel=0.03)


def test_epochs_are_counted_to_the_last_of_all(pictures, tmp_path):
    options = ("--epochs", 3, "--steps", 1, "--batch", 4, "--crop", 32, "--large-crops", 0.3)
    options += ("--checkpoint-steps", 1, "--output-dir", tmp_path)
    printed = call_script("train_model.py", "gaussian", pictures, *options).stdout
    assert [n for n in range(4) if f"Epoch {n}/3" in printed] == [1, 2, 3]


def test_devices_share_the_smallest_batch():
    for large_crops, smallest in ((0.0, 8), (0.1, 2)):
        assert (
            train_model.smallest_batch(SimpleNamespace(batch=8, large_crops=large_crops))
            == smallest
        )


def test_large_crops_of_single_exposures_are_not_mirrored(tmp_path):
    noisy = np.random.default_rng(0).integers(0, 255, (200, 100)).astype(np.uint8)
    Image.fromarray(noisy).save(tmp_path / "a.png")
    options = ("--crop", 32, "--large-crops", 0.2, "--output-dir", tmp_path)
    done = call_script("train_model.py", "single", tmp_path / "a.png", *options, check=2)
    assert "--large-crops of 64 pixels are made from 128, and a picture has 100" in one_error_line(
        done
    )
    for smallest, bear in ((127, False), (128, True)):
        args = SimpleNamespace(filter="single", crop=32)
        assert train_model.can_bear_large_crops(args, SimpleNamespace(smallest=smallest)) == bear
    assert train_model.can_bear_large_crops(SimpleNamespace(filter="captured"), None)


OPTIONS = {
    "seed": 0,
    "filter": "gaussian",
    "optimizer": "adam",
    "loss": "l1",
    "learning_rate": 1e-3,
    "schedule": "cosine",
    "clip_norm": 0.5,
    "channels": 3,
    "epochs": 4,
    "steps": 5,
}


def test_a_network_is_compiled_as_the_options_say():
    def compiled(**options):
        return train_model.compile_model(SimpleNamespace(**OPTIONS | options), None, "float32")

    def loss(model) -> float:
        black, grey = np.zeros((1, 32, 32, 3), np.float32), np.full((1, 32, 32, 3), 0.5, np.float32)
        return float(model.compute_loss(y=black, y_pred=grey))

    model = compiled()
    adam = model.optimizer
    assert type(adam) is keras.optimizers.Adam
    assert (adam.beta_1, adam.beta_2, adam.global_clipnorm) == (0.9, 0.99, 0.5)
    rates = []
    for step in (0, 10, 20):
        adam.iterations.assign(step)
        rates.append(float(adam.learning_rate))
    assert rates == pytest.approx([1e-3, 5e-4, 0], abs=1e-8)
    assert loss(model) == pytest.approx(0.5)
    spread = np.std(model.get_layer("enc_conv3").get_weights()[0])
    assert spread == pytest.approx((2 / (9 * 48)) ** 0.5, rel=0.05)  # He's
    model = compiled(optimizer="muon", loss="l2", schedule="constant")
    assert type(model.optimizer).__name__ == "Muon"
    assert loss(model) == pytest.approx(0.25)
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-3)


def test_batches_are_made_as_the_options_say(pictures):
    options = {"filter": "gaussian", "clean_targets": True, "steps": 3, "seed": 5}
    options |= {"flat_areas": 0.5, "workers": 0}
    args = SimpleNamespace(batch=8, crop=32, channels=3, **options)
    images = datasets.ImageFiles(find_pictures(pictures))
    processes = SimpleNamespace(index=1, count=2)
    made, _ = train_model.make_batches(args, images, images, processes, large_from=2)
    expected = NoisyDataset(
        images, batch_size=8, crop_size=32, shard=(1, 2), large_from=2, **options
    )
    for number in (1, 2):
        for array, other in zip(made[number], expected[number], strict=True):
            np.testing.assert_array_equal(array, other)


def test_large_crops_come_at_the_end(pictures, tmp_path, monkeypatch):
    seen, make = set(), NoisyPairs.make

    def watched(pairs, number, crops):
        if pairs.stream == TRAINING:
            seen.add((number >= 2, pairs.size(number)))
        return make(pairs, number, crops)

    monkeypatch.setattr(NoisyPairs, "make", watched)
    options = ("--epochs", 2, "--steps", 2, "--batch", 4, "--crop", 32, "--large-crops", 0.5)
    call_script("train_model.py", "gaussian", pictures, *options, "--output-dir", tmp_path)
    assert seen == {(False, 32), (True, 64)}


def test_areas_of_one_colour_are_for_noise_that_is_added_to_pictures(tmp_path):
    for filter in ("camera", "captured", "single"):
        done = call_script("train_model.py", filter, tmp_path, "--flat-areas", "0.1", check=2)
        assert f"--flat-areas is not for {filter}" in done.stderr
        assert plan.recipe(filter, gpu=False)["flat_areas"] == 0
    assert plan.recipe("bernoulli", gpu=False)["flat_areas"] > 0


def test_a_network_is_trained_further_at_a_lower_rate():
    first, further = (plan.recipe("single", False, further) for further in (False, True))
    assert further.pop("learning_rate") < first.pop("learning_rate")
    assert further == first


@pytest.mark.slow
def test_minutes_train_for_about_so_long_and_a_plan_is_kept(pictures, tmp_path):
    command = ("train_model.py", "gaussian", pictures, "--crop", "32", "--minutes", "1")
    begun = time.monotonic()
    done = run_script(*command, "--output-dir", tmp_path / "a", "--workers", "1")
    assert 36 < time.monotonic() - begun < 100
    assert "1 were planned in all" in done.stdout
    (run,) = (tmp_path / "a").iterdir()
    settings = json.loads((run / runs.SETTINGS).read_text())["settings"]
    assert settings["minutes"] == 1
    assert settings["optimizer"] == "muon"
    again = tmp_path / "b" / run.name  # a run that was planned and had not begun
    again.mkdir(parents=True)
    for name in (runs.SETTINGS, runs.PICTURES):
        shutil.copy(run / name, again)
    run_script(*command, "--output-dir", tmp_path / "b")
    assert weights_bytes(again) == weights_bytes(run)


def test_a_grey_network_starts_none_for_colours(pictures, tmp_path):
    from model import build_unet

    file = tmp_path / "grey.keras"
    build_unet(1, 1).save(file)
    line = one_error_line(
        train("gaussian", pictures, "--start-from", file, output=tmp_path / "runs", check=None)
    )
    assert f"{file} is for grey pictures" in line
