"""infer.py as a user runs it: Table 2, scores, any size, models that are no models."""

import csv
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, call_script, one_error_line, write_png16
from PIL import Image
from skimage.data import astronaut

from infer import load, load_model
from model import build_unet
from noise2noise.backend import keras
from noise2noise.deadleaves import dead_leaves
from noise2noise.errors import InputError
from noise2noise.filters import FILTERS
from noise2noise.images import luminance
from noise2noise.metrics import corrupt_for_score, psnr, psnr_by_exposures, ssim
from noise2noise.networks import PRETRAINED, Trained, find_models
from noise2noise.ranges import to_8bit
from noise2noise.tiles import Ensemble, restore_image


def infer(project, *arguments, **options):
    return call_script(project / "infer.py", *arguments, **options)


def test_without_bsds300_it_shows_matplotlibs_photo_and_says_so(project, tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "module://a.notebooks")  # which the environment may lack
    done = infer(project, "--output", tmp_path)
    assert "BSDS300 is not there" in done.stdout
    assert "gaussian-small: grace_hopper.jpg" in done.stdout
    with Image.open(tmp_path / "table2.png") as figure:
        assert figure.size[0] > 1000


def test_one_model_on_ones_own_picture_of_any_size(project, pictures, tmp_path):
    arguments = "gaussian", "small", "--image", pictures / "7.png", "--output", tmp_path
    restored = [infer(project, *arguments, *more).stdout for more in ((), ("--ensemble",))]
    assert "7.png, noisy 2" in restored[0]
    assert restored[0] != restored[1]  # the mean of eight views


@pytest.fixture(scope="module")
def scored(project, pictures, tmp_path_factory):
    """A folder of scores, and what the command printed."""
    folder = tmp_path_factory.mktemp("scores")
    return folder, infer(project, "--score", pictures, "--output", folder).stdout


def test_scores_are_a_table_a_csv_and_a_markdown_file_and_come_out_again(
    project, pictures, tmp_path, scored
):
    folder, printed = scored
    text = (folder / "scores.csv").read_text()
    (row,) = csv.DictReader(text.splitlines())
    assert row["model"] == "gaussian-small"
    assert (
        19 < float(row["noisy PSNR"]) < 22
    )  # 20 log10(255 / 25) = 20.17, less what clipping takes
    table = (folder / "scores.md").read_text()
    assert row["PSNR"] in table
    assert table in printed  # whole, however narrow the terminal is
    infer(project, "--score", pictures, "--output", tmp_path)
    assert (tmp_path / "scores.csv").read_text() == text


def test_a_score_is_the_protocols(trained, pictures, scored):
    """By hand: noise seeded by the picture's index, clipped, rounded, all channels, mean."""
    (row,) = csv.DictReader((scored[0] / "scores.csv").read_text().splitlines())
    model = keras.saving.load_model(trained / "model.keras", compile=False)
    values = []
    for index, path in enumerate(sorted(pictures.glob("*.png"))):
        clean = np.asarray(Image.open(path), np.float64)
        noise = np.random.default_rng(index).standard_normal(clean.shape, np.float32)
        noisy = np.float32(clean / 255) + noise * np.float32(25 / 255)
        height, width = clean.shape[:2]
        padded = np.pad(noisy, ((0, -height % 32), (0, -width % 32), (0, 0)), mode="reflect")
        output = np.asarray(model(padded[None]))[0, :height, :width]
        error = np.round(np.clip(output, 0, 1) * 255) - clean
        values.append(10 * np.log10(255**2 / np.mean(error**2)))
    assert float(row["PSNR"]) == pytest.approx(np.mean(values), abs=0.006)


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (33, 31), (64, 96)])
def test_any_size_is_restored(size):
    image = np.random.default_rng(0).random((*size, 3), dtype=np.float32)
    assert restore_image(build_unet(), image).shape == image.shape


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_nobody_may_be_listening(project, tmp_path, closed):
    """As of what is started without standard output, or errors."""
    write_png16(tmp_path / "a.png", np.full((32, 32, 3), 40_000, np.uint16))
    command = [sys.executable, REPOSITORY / "infer.py", "gaussian", "small"]
    command += ["--models", project / "runs", "--restore", tmp_path / "a.png"]
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", *command, "--output", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out/a.png").exists()


@pytest.mark.parametrize("option", ["--models", "--score", "--restore"])
def test_a_filter_behind_an_option_is_not_taken_for_a_folder(option):
    done = call_script("infer.py", option, "runs", "single", "name", check=2)
    assert f"put single and what follows it before {option}" in one_error_line(done)


def test_a_network_may_be_called_by_its_whole_name(project, pictures, tmp_path):
    command = ("--restore", pictures / "1.png", "--output")
    infer(project, "gaussian-small", *command, tmp_path / "one")
    infer(project, "gaussian", "small", *command, tmp_path / "two")
    assert (tmp_path / "one/1.png").read_bytes() == (tmp_path / "two/1.png").read_bytes()
    line = one_error_line(infer(project, "laplace-small", *command, tmp_path / "no", check=2))
    assert "no filter is called laplace-small: there are gaussian, poisson, " in line


def test_exposures_tell_how_near_the_truth_a_network_comes():
    class Scenes(list):
        span = 100.0, 300.0

    class Smoothing:
        """The mean of a pixel and the three below and to the right of it."""

        output_shape = None, None, None, 3

        def predict_on_batch(self, x):
            return sum(np.roll(x, shift, (1, 2)) for shift in np.ndindex(2, 2)) / 4

    rng = np.random.default_rng(0)
    truths = [dead_leaves(rng, size=256) / 255 for _ in range(6)]
    scenes = Scenes([x + rng.normal(0, 0.1, x.shape) for _ in range(2)] for x in truths)
    model = Smoothing()
    restored = [restore_image(model, np.float32(first), keep_means=True) for first, _ in scenes]
    errors = [np.mean((a - b) ** 2) for a, b in zip(restored[::2], truths[::2], strict=True)]
    for scene in scenes:
        scene[:] = [100 + 200 * exposure for exposure in scene]
    told = psnr_by_exposures(model, scenes)
    assert told == pytest.approx(-10 * np.log10(np.mean(errors)), abs=0.1)
    assert 15 < told < 25
    quiet = Scenes(  # one with a tenth of the noise: the mean of both errors
        [first, 100 + 200 * (x + rng.normal(0, 0.01, x.shape))]
        for (first, _), x in zip(scenes, truths, strict=True)
    )
    pairs = [
        restore_image(model, np.float32(image), span=Scenes.span, keep_means=True) / 200 - 0.5 - x
        for scene, x in zip(quiet[::2], truths[::2], strict=True)
        for image in scene
    ]
    told_of_both = psnr_by_exposures(model, quiet)
    assert told_of_both == pytest.approx(-10 * np.log10(np.mean(np.square(pairs))), abs=0.1)
    assert told + 0.5 < told_of_both < 30
    for scene in scenes:
        scene[:] = [exposure[..., :1] for exposure in scene]
    assert psnr_by_exposures(model, scenes) == pytest.approx(told, abs=1)  # grey ones, three times


@pytest.mark.parametrize(
    "words",
    [
        ("infer.py", "--restore", "", "--output", "out"),
        ("infer.py", "--restore", "a.png", "--output", ""),
        ("infer.py", "--score", ""),
        ("train_model.py", "captured", ""),
        ("train_model.py", "--output-dir", ""),
    ],
)
def test_a_name_that_is_empty_is_not_the_current_folder(words):
    assert "a name is empty" in one_error_line(call_script(*words, check=2))


def test_a_picture_given_without_an_option_is_restored_with_one(pictures):
    picture = next(pictures.glob("*.png"))
    line = one_error_line(call_script("infer.py", picture, check=2))
    assert f"to restore it: python infer.py --restore {picture} --output DIR" in line


def test_networks_called_otherwise_are_named():
    with pytest.raises(
        InputError, match=r"no trained model sensor-bsds in .*, but sensor-bsds300, "
    ):
        find_models("sensor", "bsds")


def test_a_folder_called_as_a_filter_is_one(tmp_path, monkeypatch):
    (tmp_path / "text").mkdir()
    monkeypatch.chdir(tmp_path)
    line = one_error_line(call_script("infer.py", "--restore", "text", "--output", "out", check=2))
    assert "text holds no picture" in line


def test_the_strength_asked_for_is_scored(project, pictures, tmp_path):
    infer(project, "gaussian", "--score", pictures, "--strength", "50", "--output", tmp_path)
    (row,) = csv.DictReader((tmp_path / "scores.csv").open())
    assert row["strength"] == "σ = 50"
    assert 13 < float(row["noisy PSNR"]) < 17  # 14.15, and what is cut off at black and white


def test_of_two_networks_with_one_name_the_last_folders_counts(trained, tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        shutil.copy(trained / "model.keras", tmp_path / name / "gaussian-x.keras")
    (found,) = find_models("gaussian", "x", folders=[tmp_path / "a", tmp_path / "b"])
    assert found.path.parent.name == "b"
    assert not isinstance(load(Trained("t", FILTERS["text"], found.path), True), Ensemble)
    assert isinstance(load(Trained("g", FILTERS["gaussian"], found.path), True), Ensemble)


def test_luminance_is_bt_601s():
    colors = np.uint8([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]])
    assert luminance(colors)[0, :, 0].tolist() == [76, 150, 29]


def test_an_ensemble_does_not_mind_how_a_picture_is_turned_and_is_better():
    clean = astronaut()[:224, 160:320]
    noisy = corrupt_for_score(FILTERS["gaussian"], clean, 0)
    one = load_model(PRETRAINED / "gaussian-bsds300.keras")
    eight = Ensemble(one)
    restored = restore_image(eight, noisy)
    for turns, step in ((1, 1), (2, 1), (0, -1), (3, -1)):
        turned = restore_image(eight, np.rot90(noisy, turns)[:, ::step])
        assert np.abs(np.rot90(turned[:, ::step], -turns) - restored).max() < 1e-4
    scores = [psnr(to_8bit(image), clean) for image in (restored, restore_image(one, noisy))]
    assert scores[0] > scores[1] + 0.03


def test_scores_agree_with_scikit_image():
    from skimage.metrics import peak_signal_noise_ratio

    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 40, 50, 3)).astype(np.uint8)
    assert psnr(a, b) == pytest.approx(peak_signal_noise_ratio(a, b))
    assert psnr(a, a) == float("inf")
    assert ssim(a, a) == pytest.approx(1)
    assert to_8bit(np.array([-1, 0.5, 2])).tolist() == [0, 128, 255]


def test_a_model_is_found_by_its_run_its_file_and_what_it_was_trained_on(trained, tmp_path):
    picture = tmp_path / "cell.tif"
    picture.touch()
    for name in ("gaussian-cell", "cell"):
        shutil.copytree(trained, tmp_path / name)
    shutil.copy(trained / "model.keras", tmp_path / ".part-1-gaussian-cell.keras")  # a killed one's
    for where in (tmp_path, tmp_path / "gaussian-cell", tmp_path / "gaussian-cell/model.keras"):
        (found,) = find_models("gaussian", str(picture), folders=[where])
        assert found.name == "gaussian-cell"
    assert len(find_models("gaussian", folders=[tmp_path])) == 2


def test_without_a_model_it_says_which_command_trains_one(project):
    line = one_error_line(infer(project, "text", "bsds300", check=2))
    assert "python train_model.py text bsds300" in line
    line = one_error_line(infer(project, "gaussian", "x" * 300, check=2))
    assert "cannot read " in line  # whose name is too long, or that may not be looked at


@pytest.mark.parametrize(
    ("name", "says"), [("nowhere", "nowhere does not exist"), ("x" * 300, "File name too long")]
)
def test_a_folder_of_models_that_is_not_there_is_named(tmp_path, name, says):
    line = one_error_line(call_script("infer.py", "--models", tmp_path / name, check=2))
    assert str(tmp_path / name) in line
    assert says in line


def test_where_no_model_was_found_is_named_as_it_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.keras").write_bytes(b"")
    for folder in (Path(), Path("mine.keras")):
        with pytest.raises(InputError, match=f"no trained model in {folder}: train"):
            find_models(folders=[folder])


def test_the_way_out_is_a_command_that_works(tmp_path):
    for dataset, says in (("bsds300", "gaussian bsds300$"), ("bsds300-clean", "gaussian DATASET")):
        with pytest.raises(InputError, match=f"train_model.py {says}"):
            find_models("gaussian", dataset, folders=[tmp_path])


def test_a_missing_picture_or_set_is_named(project, pictures, tmp_path):
    line = one_error_line(infer(project, "--image", tmp_path / "no.png", check=2))
    assert "no.png does not exist" in line
    kodak = project / "data/kodak"
    shutil.rmtree(kodak, ignore_errors=True)
    for count in (0, 1):
        line = one_error_line(infer(project, "--score", "kodak", check=2))
        assert f"{kodak} holds {count} of the set's 24 pictures" in line
        assert "download_kodak.py" in line
        kodak.mkdir(parents=True, exist_ok=True)
        shutil.copy(pictures / "7.png", kodak)  # as an interrupted download leaves it
    for number in range(24):  # and 7.png once more
        shutil.copy(pictures / "7.png", kodak / f"kodim{number}.png")
    line = one_error_line(infer(project, "--score", "kodak", check=2))
    assert "move the others elsewhere" in line
    shutil.rmtree(kodak)


def model_files(project, folder):
    """Files that are called model.keras and are not this project's network."""
    good = (project / "runs/gaussian-small/model.keras").read_bytes()
    (folder / "truncated.keras").write_bytes(good[: len(good) // 2])
    (folder / "text.keras").write_text("no model")
    layers = keras.layers
    image = keras.Input((None, None, 3))
    keras.Model(image, layers.Conv2D(3, 3)(image)).save(folder / "other.keras")
    keras.Model(image, layers.Lambda(lambda x: x + 1)(image)).save(folder / "code.keras")
    damaged = bytearray(good)
    with zipfile.ZipFile(project / "runs/gaussian-small/model.keras") as file:
        weights = file.getinfo("model.weights.h5")
    for place in range(weights.header_offset + 3000, weights.header_offset + 3050):
        damaged[place] ^= 0xFF
    (folder / "damaged.keras").write_bytes(damaged)
    return sorted(folder.glob("*.keras"))


def test_a_picture_too_small_to_be_scored_is_named_at_once(project, pictures, tmp_path):
    folder = shutil.copytree(pictures, tmp_path / "pictures")
    Image.new("RGB", (40, 8)).save(folder / "9.png")
    line = one_error_line(infer(project, "gaussian", "small", "--score", folder, check=2))
    assert "9.png is smaller than 11 pixels" in line


def test_a_file_that_is_not_this_network_is_refused_with_one_line(project, pictures, tmp_path):
    other = tmp_path / "project"
    shutil.copytree(project, other)
    target = other / "runs/gaussian-small/model.keras"
    for path in model_files(project, tmp_path):
        shutil.copy(path, target)
        line = one_error_line(infer(other, "--image", pictures / "1.png", check=2))
        assert str(target) in line, path
        assert "not found" not in line, path
    command = ("gaussian", "small", "--restore", pictures, "--output", tmp_path / "restored")
    assert str(target) in one_error_line(infer(other, *command, check=2))  # not of each picture


class Buggy:
    """A network that raises what `infer.py` must not take for a damaged picture."""

    output_shape = None, None, None, 3

    def predict_on_batch(self, x):
        raise ValueError("a bug")


def test_a_bug_in_restoring_keeps_its_traceback_and_is_not_laid_on_the_picture(
    project, pictures, tmp_path, monkeypatch
):
    monkeypatch.setattr("noise2noise.openvino_unet.load", lambda path, precision: Buggy())
    paths = ("--restore", pictures / "1.png", "--output", tmp_path / "out")
    done = infer(project, "gaussian", "small", *paths, check=1)
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1] == "ValueError: a bug"
    assert "cannot be read" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--strength", 25), "--strength is one filter's"),
        (("text", "--strength", 25), "--strength must be above 0 and below 1"),
        (("poisson", "--strength", -1), "--strength must be above 0"),
        (("text", "--ensemble"), "text stands upright"),
        (("--compare",), "are for --restore"),
        (("--restore", "a.png", "--output", "b", "--score"), "leave out --score"),
        (("--image", "a.png", "--score", "kodak"), "leave out --image"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments, line):
    done = call_script("infer.py", *arguments, check=2)
    assert line in done.stderr.splitlines()[-1]
