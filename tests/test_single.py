"""Single exposures: pairs from one picture, the noise's independence measured, and trained on."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from conftest import REPOSITORY, SMALL, call_script, one_error_line, write_png16
from PIL import Image

from data import SingleDataset
from model import build_unet
from noise2noise import camera
from noise2noise.backend import keras
from noise2noise.deadleaves import dead_leaves
from noise2noise.errors import InputError
from noise2noise.exposures import check_independence
from noise2noise.images import luminance, read_picture
from noise2noise.neighbours import GAMMA, NeighbourModel, sub_sample
from noise2noise.noise import noise_correlation
from noise2noise.scenes import Scene, training_exposures


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    """A generated picture in [0.1, 0.9], so that noise is seldom cut off."""
    return np.float32(0.1 + 0.8 * dead_leaves(np.random.default_rng(0), size=384) / 255)


def places(folder, shape=(160, 192), count=3):
    """Save pictures whose 16-bit values are all different: each says which pixel it is."""
    for k in range(count):
        values = np.arange(np.prod(shape), dtype=np.uint16).reshape(*shape, 1)
        write_png16(folder / f"{k}.png", np.repeat(values, 3, axis=2))
    return [folder / f"{k}.png" for k in range(count)]


def test_input_and_target_are_neighbours_in_the_same_cell_and_any_two_come_up(tmp_path):
    """Neighbor2Neighbor's sub-sampling: cells of 2 x 2, two pixels side by side, any order."""
    places(tmp_path)
    training, _ = training_exposures(tmp_path, 128, (0, 65535))
    dataset = SingleDataset(training, batch_size=8, crop_size=64, steps=2)
    (region, chosen), targets = dataset[0]
    inputs, seconds = map(np.asarray, sub_sample(region, chosen))
    np.testing.assert_array_equal(seconds, targets)
    assert region.shape == (8, 128, 128, 3)
    assert inputs.shape == targets.shape == (8, 64, 64, 3)
    directions = set()
    for pair in zip(inputs, targets, strict=True):
        # Of 16 bits, and the same pixel for all channels.
        values = np.rint(np.array(pair) * 65535).astype(int)
        assert (values == values[..., :1]).all()
        rows, columns = np.divmod(values[..., 0], 192)
        apart = np.stack((rows[1] - rows[0], columns[1] - columns[0]), axis=-1)
        assert (np.abs(apart).sum(axis=-1) == 1).all()
        directions |= {tuple(step) for step in apart.reshape(-1, 2)}
        assert len(np.unique(values[..., 0])) == 2 * 64 * 64  # no cell has a pixel of another's
        assert max(np.ptp(rows), np.ptp(columns)) <= 127
    assert directions == {(0, 1), (0, -1), (1, 0), (-1, 0)}
    for again, array in zip(dataset[0][0], (region, chosen), strict=True):
        np.testing.assert_array_equal(again, array)
    assert not np.array_equal(dataset[1][0][0], region)


@pytest.mark.parametrize("backend", ["here", pytest.param("jax", marks=pytest.mark.slow)])
def test_the_loss_is_neighbor2neighbors(backend):
    """Against its formula, by hand; on JAX in a process of its own."""
    if backend == "jax":
        code = "import test_single as t; t.test_the_loss_is_neighbor2neighbors('here')"
        environment = os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": str(REPOSITORY)}
        command = [sys.executable, "-c", code]
        subprocess.run(command, cwd=REPOSITORY / "tests", env=environment, check=True)
        return
    rng = np.random.default_rng(0)
    y = rng.random((2, 64, 64, 1), np.float32)
    chosen = rng.integers(8, size=(2, 32, 32)).astype(np.float32)
    unet = build_unet(1, 1)
    model = NeighbourModel(unet)
    first, second = map(np.asarray, sub_sample(y, chosen))
    model.compile(keras.optimizers.SGD(0.0), "mean_squared_error")
    f_first, f_y = unet.predict_on_batch(first), unet.predict_on_batch(y)
    a, b = map(np.asarray, sub_sample(f_y, chosen))
    plain = np.mean((f_first - second) ** 2)
    whole = plain + GAMMA * np.mean((f_first - second - (a - b)) ** 2)
    batch = (y, chosen), second
    assert model.test_on_batch(*batch) == pytest.approx(plain, rel=1e-4)
    assert model.train_on_batch(*batch) == pytest.approx(whole, rel=1e-4)
    # Of both terms, a - b a constant, one step is one twice as large on the targets' mean.
    assert GAMMA == 1
    alone = build_unet(1, 1)
    alone.set_weights(unet.get_weights())
    alone.compile(keras.optimizers.SGD(0.2), "mean_squared_error")
    alone.train_on_batch(first, second + (a - b) / 2)
    model.compile(keras.optimizers.SGD(0.1), "mean_squared_error")
    model.train_on_batch(*batch)
    for weights, expected in zip(unet.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_allclose(weights, expected, atol=1e-5)


def test_grey_pictures_give_one_channel(tmp_path):
    for k in range(3):
        Image.fromarray(dead_leaves(np.random.default_rng(k), size=130)[..., 0]).save(
            tmp_path / f"{k}.png"
        )
    training, validation = training_exposures(tmp_path, 128)
    assert training.grey
    assert (len(training), len(validation)) == (2, 1)
    (region, _), target = SingleDataset(training, batch_size=2, steps=1, channels=1)[0]
    assert region.shape == (2, 128, 128, 1)
    assert target.shape == (2, 64, 64, 1)


def test_pages_of_stacks_are_single_exposures_too(tmp_path):
    pages = np.random.default_rng(0).normal(400, 30, (9, 130, 150))
    tifffile.imwrite(tmp_path / "stack.tif", pages.astype(np.uint16))
    training, validation = training_exposures(tmp_path / "stack.tif", 128)
    assert (len(training), len(validation)) == (8, 1)
    assert training.grey
    low, high = training.span  # 12 bits and less in 16: measured
    assert 280 < low < 340
    assert 460 < high < 520
    assert validation.span == training.span


@pytest.mark.parametrize("shape", [(300, 130), (130, 300)])
def test_of_a_picture_alone_a_strip_is_kept_to_validate_with(tmp_path, shape):
    (path,) = places(tmp_path, shape, count=1)
    for given in (path, tmp_path):
        training, validation = training_exposures(given, 128)
        parts = [{*part[0][0][..., 0].ravel()} for part in (training, validation)]
        assert not parts[0] & parts[1]
        assert [len(part) for part in parts] == [130 * 172, 130 * 128]
    (path,) = places(tmp_path, (200, 180), count=1)
    with pytest.raises(InputError, match=r"0\.png has .* alone, .* needs 256 on a side"):
        training_exposures(path, 128)


class Singles(list):
    """Images as scenes of one exposure each."""

    def __init__(self, *images):
        super().__init__([image] for image in images)
        self.scenes = [Scene(f"{k}.png", ()) for k in range(len(images))]

    def decoded(self, k):
        return self[k][0], False


WHITE = {f"white {sigma}": sigma for sigma in (5, 10, 25, 50)}


@pytest.mark.parametrize("name", [*WHITE, "white, 8 bits", "poisson", "grey"])
def test_independent_noise_is_not_warned_of(clean, name, capsys):
    rng = np.random.default_rng(1)
    if name == "poisson":
        noisy = rng.poisson(clean * 30).astype(np.uint16)
    else:
        image = clean[..., :1] if name == "grey" else clean
        noisy = image * 255 + rng.normal(scale=WHITE.get(name, 25), size=image.shape)
        noisy = np.rint(noisy.clip(0, 255)).astype(np.uint8) if "8" in name else noisy
    assert abs(noise_correlation(noisy)) < 0.1
    for unit in (1e-28, 1e22):
        scaled = noise_correlation((np.float64(noisy) * unit).astype(np.float32))
        assert scaled == pytest.approx(noise_correlation(np.float32(noisy)), abs=1e-3)
    check_independence(Singles(noisy))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1  # no warning
    assert "median of 1 pictures" in lines[0]


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)).reshape(*image.shape[:2], -1)


@pytest.mark.parametrize("name", ["bilinear", "edges", "jpeg", "grey jpeg", "camera"])
def test_noise_that_neighbours_share_is_warned_of_with_the_way_out(clean, name, capsys):
    rng = np.random.default_rng(2)
    noisy = clean + rng.normal(scale=6 / 255, size=clean.shape).astype(np.float32)
    eight_bits = np.rint(noisy.clip(0, 1) * 255).astype(np.uint8)
    if "jpeg" in name:
        grey = luminance(eight_bits)[..., 0]
        noisy = jpeg(grey if "grey" in name else eight_bits, 85)
    elif name == "camera":
        noisy = camera.corrupt(clean, 5e-3, rng)
    else:
        noisy = camera.demosaic(camera.mosaic(noisy, (0, 0)), (0, 0), name)
    assert noise_correlation(noisy) > 0.18
    check_independence(Singles(noisy, noisy, noisy))
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("warning")
    assert "python infer.py --restore PICTURES --output DIR" in lines[-1]


def test_noise_of_whole_columns_is_warned_of(clean, capsys):
    rng = np.random.default_rng(0)
    noisy = clean + rng.normal(0, 0.04, clean.shape) + rng.normal(0, 0.03, (1, 384, 1))
    check_independence(Singles(np.uint8(255 * noisy.clip(0, 1))))
    assert "warning: the pictures hold noise of whole rows or columns" in capsys.readouterr().out


def test_a_raw_file_s_mosaic_is_warned_of(clean, capsys):
    raw = camera.mosaic(clean * (0.5, 1, 0.7), (0, 0))[..., None] * 4000
    raw = np.uint16(raw + 200 + np.random.default_rng(1).normal(scale=60, size=raw.shape))
    check_independence(Singles(raw))
    assert "warning: values alternate from pixel to pixel" in capsys.readouterr().out


def test_what_is_no_number_says_nothing_of_the_noise(tmp_path, capsys):
    picture = np.random.default_rng(0).normal(size=(256, 128)).astype(np.float32)
    picture[:80] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", picture)
    check_independence(training_exposures(tmp_path / "a.tif", 32)[0])
    assert "correlation of 0.0" in capsys.readouterr().out.replace("-", "")


def test_pictures_without_noise_to_measure_are_said(capsys):
    flat = np.full((200, 200, 3), 255, np.uint8)
    with pytest.raises(InputError, match=r"0\.png has one value only"):
        check_independence(Singles(flat))
    flat[0, 0] = 0
    check_independence(Singles(flat))
    lines = capsys.readouterr().out.splitlines()
    assert "100% of the values of 0.png are at the end" in lines[-2]
    assert lines[-1:] == ["the pictures hold no noise whose correlation could be measured"]


def test_from_one_noisy_picture_to_its_restored_file_with_two_commands(tmp_path):
    rng = np.random.default_rng(3)
    clean = dead_leaves(rng, size=160)[..., 0] / 255
    noisy = (0.2 + 0.6 * clean + rng.normal(scale=0.05, size=clean.shape)) * 65535
    picture = tmp_path / "cell.png"
    write_png16(picture, np.rint(noisy).clip(0, 65535).astype(np.uint16)[..., None])
    options = (*SMALL, "--output-dir", tmp_path / "r")
    done = call_script("train_model.py", "single", picture, *options)
    assert "the noise of neighbouring pixels has a correlation of" in done.stdout
    assert "warning" not in done.stdout
    run = tmp_path / "r/single-cell"
    assert keras.saving.load_model(run / "model.keras").count_params() == 988_609
    assert f"python infer.py single cell --restore PICTURES --output DIR --models {run.parent}" in (
        done.stdout
    )
    assert "is finished" in call_script("train_model.py", "single", picture, *options).stdout
    use = ("infer.py", "single", "cell", "--models", run.parent)
    call_script(*use, "--restore", picture, "--output", tmp_path / "restored")
    restored = read_picture(tmp_path / "restored/cell.png").pixels
    assert restored.shape == (160, 160, 1)
    assert restored.dtype == np.uint16
    assert "single models have no clean pictures" in one_error_line(call_script(*use, check=2))
    line = one_error_line(call_script("infer.py", "--models", run.parent, check=2))
    assert "use --restore" in line


def test_what_single_cannot_be_trained_on_says_so(tmp_path):
    assert "single FOLDER" in call_script("train_model.py", "single", "kodak", check=2).stderr
    done = call_script("train_model.py", "single", tmp_path, "--clean-targets", check=2)
    assert "single has no clean targets" in done.stderr
    line = one_error_line(call_script("train_model.py", "single", tmp_path, check=2))
    assert "holds no picture" in line
    line = one_error_line(call_script("train_model.py", "single", tmp_path / "no", check=2))
    assert "does not exist" in line
    places(tmp_path, (100, 200), count=2)
    line = one_error_line(call_script("train_model.py", "single", tmp_path, check=2))
    assert "has 200 x 100 pixels, and crops are cut from 128 on a side" in line
