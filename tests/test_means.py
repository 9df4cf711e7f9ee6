"""Restored pictures keep the local means of noisy ones, where the noise has zero mean."""

import numpy as np
import pytest
import tifffile
from conftest import REPOSITORY
from rich.progress import Progress

import infer
from noise2noise.filters import FILTERS
from noise2noise.images import open_file, read_picture
from noise2noise.networks import Trained, find_models
from noise2noise.ranges import measure
from noise2noise.restore import restore_file
from noise2noise.tiles import _ends, restore_image


class Darkening:
    """A network that takes the noise away and gets brightness wrong, more so where it is dark."""

    output_shape = (None, None, None, 3)

    @staticmethod
    def predict_on_batch(images):
        smooth = images.mean((1, 2), keepdims=True)
        return np.broadcast_to(0.9 * smooth + 0.03, images.shape)


class Flat(Darkening):
    def __init__(self, value):
        self.value = value

    def predict_on_batch(self, images):
        return np.full_like(images, self.value)


def flat(value, size=(200, 301, 3), seed=0):
    noise = np.random.default_rng(seed).standard_normal(size, np.float32)
    return np.float32(value + noise * 25 / 255)


@pytest.mark.parametrize("value", [0, 0.02, 0.5, 1])
def test_flat_areas_keep_their_mean(value):
    noisy = flat(value)
    restored = restore_image(Darkening(), noisy, keep_means=True)
    assert abs(restore_image(Darkening(), noisy).mean() - noisy.mean()) > 0.002
    assert abs(restored.mean() - noisy.mean()) < 1e-4
    assert np.abs(restored - value).max() < 0.03  # and little of the noise comes back


def test_where_noise_is_cut_off_at_black_the_mean_darkens_only_and_at_white_lightens_only():
    dark = np.uint8(np.rint(np.clip(flat(0), 0, 1) * 255))  # its mean is 10, the scene's 0
    for noisy, sign in ((dark, 1), (255 - dark, -1)):
        means = {}
        for level in (3, 40):
            network = Flat(level / 255 if sign > 0 else 1 - level / 255)
            means[level] = restore_image(network, noisy, keep_means=True).mean()
        assert means[3] == (3 if sign > 0 else 252)
        assert abs(means[40] - noisy.mean()) < 0.5


def test_a_few_black_values_do_not_keep_what_was_darkened_from_its_mean():
    noisy = np.full((200, 301, 1), 150, np.uint8)
    noisy[np.random.default_rng(0).random(noisy.shape) < 0.03] = 0
    restored = restore_image(Flat(0.3), noisy, keep_means=True)
    assert 0.3 * 255 + 50 < restored.mean() < noisy.mean()


@pytest.mark.parametrize(("filter", "kept"), [("gaussian", True), (None, True), ("text", False)])
def test_restored_files_keep_means_where_the_noise_has_zero_mean(tmp_path, filter, kept):
    pixels = np.uint8(np.clip(flat(0.5, (96, 96, 3)), 0, 1) * 255)
    for colors, options in ((3, {"photometric": "rgb"}), (2, {"photometric": "minisblack"})):
        tifffile.imwrite(tmp_path / "a.tif", pixels[..., :colors], planarconfig="contig", **options)
        trained = Trained("a", FILTERS.get(filter), tmp_path)
        with open_file(tmp_path / "a.tif") as file, Progress(disable=True) as progress:
            restore_file({colors: (Darkening(), trained)}, file, tmp_path / "b.tif", progress)
        after = read_picture(tmp_path / "b.tif").pixels
        assert (abs(after.mean() - pixels[..., :colors].mean()) < 1) == kept


class Dull(Darkening):
    """A network that takes contrast away, little enough to stay within the values around."""

    @staticmethod
    def predict_on_batch(images):
        return 0.8 * images + 0.1


def test_noise_is_cut_off_at_the_ends_of_the_type_alone():
    assert _ends(np.dtype(np.uint8), None) == (0, 255)
    black, white = _ends(
        np.dtype(np.uint16), (100, 200)
    )  # counts, among which 0 is one like others
    assert np.isnan(black)
    assert white == 65535


def ramp(width):
    values = np.linspace(0.2, 0.8, width, dtype=np.float32)
    return np.broadcast_to(values[:, None], (96, width, 3)).copy()


def test_what_is_no_number_does_not_count_in_the_means_around():
    whole = np.concatenate((np.full((96, 64, 3), np.nan, np.float32), ramp(128)), axis=1)
    restored = restore_image(Dull(), whole, span=(0, 1), keep_means=True)
    alone = restore_image(Dull(), whole[:, 64:], span=(0, 1), keep_means=True)
    np.testing.assert_allclose(restored[:, 64:], alone, atol=1e-3)
    assert np.isnan(restored[:, :64]).all()


def test_means_lie_where_they_were_taken():
    restored = restore_image(Dull(), ramp(256), keep_means=True)
    np.testing.assert_allclose(restored[:, 112:144], ramp(256)[:, 112:144], atol=3e-4)


def test_means_are_those_of_the_whole_image_in_tiles_too():
    noisy = flat(0.4, (700, 500, 3))
    whole = restore_image(Flat(0.5), noisy, keep_means=True)
    tiled = restore_image(Flat(0.5), noisy, max_tile=384, keep_means=True)
    np.testing.assert_allclose(whole, tiled, atol=1e-6)


def test_the_sky_between_stars_keeps_its_mean_and_loses_its_noise():
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:256, :256]
    sky = np.full((256, 256), 1000.0)
    for _ in range(15):
        peak, (top, left) = 10 ** rng.uniform(2, 4.6), rng.uniform(0, 256, 2)
        sky += peak * np.exp(-((y - top) ** 2 + (x - left) ** 2) / 8)
    noisy = np.uint16(np.rint(rng.poisson(sky) + rng.normal(0, 8, sky.shape)))[..., None]
    (trained,) = find_models("camera", "bsds300", folders=[REPOSITORY / "pretrained"])
    network = infer.load_model(trained.path)
    image, empty = np.repeat(noisy, 3, axis=2), sky < 1001
    restored = restore_image(network, image, span=measure([noisy]), keep_means=True)[..., 0]
    assert abs(restored[empty].mean() / 1000 - 1) < 0.002
    assert restored[empty].std() < 0.25 * noisy[..., 0][empty].std()
    errors = [np.sqrt(np.mean((values - sky) ** 2)) for values in (restored, noisy[..., 0])]
    assert errors[0] < 0.5 * errors[1]
