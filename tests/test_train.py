"""Training as a user runs it: what it leaves, what repeats, what it says of bad input."""

import csv
import json
import os

import numpy as np
import pytest
from conftest import SMALL, one_error_line, run_script
from PIL import Image

from noise2noise.backend import keras


def weights(folder):
    model = keras.saving.load_model(folder / "model.keras", compile=False)
    return [array.tobytes() for array in model.get_weights()]


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
    assert contents["settings"]["batch"] == 2
    assert contents["metadata"]["keras"] == keras.__version__


def test_it_says_what_it_does_and_where_and_nothing_of_tensorflows(trained):
    output = (trained / "output.txt").read_text()
    first = output.splitlines()[0]
    assert "2 epochs of 4 batches of 2 crops of 32x32" in first
    assert str(trained) in first
    for noise in ("tensorflow/", "cuda", "oneDNN", "Warning", "I0000", "E0000", "WARNING"):
        assert noise not in output, output


def test_one_seed_gives_the_same_weights_to_the_bit_and_another_does_not(
    trained, pictures, tmp_path
):
    for name, *options in (("same", "--workers", 2), ("other", "--seed", 1)):
        run_script(
            *("train_model.py", "gaussian", pictures, *SMALL, *options),
            *("--output-dir", tmp_path, "--name", name),
        )
    assert weights(tmp_path / "same") == weights(trained)
    assert weights(tmp_path / "other") != weights(trained)
    same, first = ((folder / "history.csv").read_text() for folder in (tmp_path / "same", trained))
    assert same == first


def test_a_finished_run_says_so_and_does_nothing(trained, pictures):
    before = {path: path.stat().st_mtime_ns for path in trained.iterdir()}
    done = run_script(
        "train_model.py", "gaussian", pictures, *SMALL, "--output-dir", trained.parent
    )
    assert "is finished" in done.stdout
    after = {path: path.stat().st_mtime_ns for path in trained.iterdir()}
    assert {path.name for path in before if before[path] != after[path]} <= {"lock"}


def test_other_settings_are_refused_with_what_differs(trained, pictures):
    done = run_script(
        *("train_model.py", "gaussian", pictures, *SMALL, "--seed", 5, "--loss", "l2"),
        *("--output-dir", trained.parent, "--batch", 4, "--name", trained.name),
        check=2,
    )
    line = one_error_line(done)
    assert "seed 0 there, 5 now" in line
    assert "batch 2 there, 4 now" in line
    assert "--fresh" in line


@pytest.mark.parametrize(
    ("filter", "options", "name"),
    [
        ("bernoulli", (), "bernoulli-PICTURES"),
        ("impulse", (), "impulse-PICTURES"),  # with L0
        ("text", ("--loss", "l1", "--schedule", "cosine"), "text-PICTURES-l1"),
        ("poisson", ("--clean-targets", "--precision", "bfloat16"), "poisson-PICTURES-clean"),
    ],
)
def test_the_other_filters_and_options_train(pictures, tmp_path, filter, options, name):
    run_script("train_model.py", filter, pictures, *SMALL, *options, "--output-dir", tmp_path)
    folder = tmp_path / name.replace("PICTURES", pictures.name)
    model = keras.saving.load_model(folder / "model.keras", compile=False)
    policies = {layer.dtype_policy.name for layer in model.layers}
    assert policies == {"float32"}  # whatever it was trained in


# Adam divides by the gradient's own size, but for a term of 1e-7.
@pytest.mark.parametrize("option", ["--learning-rate", "--clip-norm"])
def test_a_trained_network_is_trained_further(trained, pictures, tmp_path, option):
    start = trained / "model.keras"
    tiny = (option, "1e-12", "--start-from", start, "--output-dir", tmp_path)
    run_script("train_model.py", "gaussian", pictures, *SMALL, *tiny)
    before, after = (
        keras.saving.load_model(path, compile=False).get_weights()
        for path in (start, tmp_path / trained.name / "model.keras")
    )
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)


def test_a_file_to_start_from_that_is_no_network_is_named(pictures, tmp_path):
    file = tmp_path / "notes.keras"
    file.write_text("no network")
    options = ("--start-from", file, "--output-dir", tmp_path)
    line = one_error_line(
        run_script("train_model.py", "gaussian", pictures, *SMALL, *options, check=None)
    )
    assert f"{file} cannot be loaded as a model" in line
    assert list(tmp_path.iterdir()) == [file]  # no run folder that stands in the way


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
        (("--seed", "-1"), "-1 is below 0"),
        (("--start-from", "nowhere.keras"), "nowhere.keras is not a file"),
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
    line = one_error_line(run_script("train_model.py", "gaussian", tmp_path, check=2))
    assert "holds one image" in line


def test_a_run_folder_that_cannot_be_made_is_named(pictures, tmp_path):
    (tmp_path / "file").write_text("")
    done = run_script(
        "train_model.py", "gaussian", pictures, "--output-dir", tmp_path / "file", check=2
    )
    assert str(tmp_path / "file") in one_error_line(done)


def test_fresh_keeps_the_old_run_under_another_name(pictures, tmp_path):
    for fresh in ((), ("--fresh",)):
        run_script(
            *("train_model.py", "gaussian", pictures, *SMALL, "--epochs", 1, *fresh),
            *("--output-dir", tmp_path, "--name", "a"),
        )
    assert (tmp_path / "a.1/model.keras").read_bytes()
    assert (tmp_path / "a/model.keras").exists()


def test_a_failed_download_names_the_way_to_train_without_a_network(project):
    done = run_script(
        project / "train_model.py",
        *("gaussian", "kodak"),
        check=2,
        http_proxy="http://127.0.0.1:9",
    )
    line = done.stderr.splitlines()[-1]
    assert "http://r0k.us/graphics/kodak/kodak/kodim01.png" in line
    assert "python train_model.py gaussian deadleaves" in line
