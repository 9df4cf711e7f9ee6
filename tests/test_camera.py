"""The simulated camera: what it promises of inputs, of targets, and of the mosaic between."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from noise2noise import camera, drawn
from noise2noise.camera import Camera, deliver, demosaic, develop, draw_camera, mosaic
from noise2noise.deadleaves import dead_leaves
from noise2noise.filters import FILTERS
from noise2noise.images import luminance
from noise2noise.noise import noise_correlation
from noise2noise.pairs import CameraPairs

COPIES = 3000
IMAGE = dead_leaves(np.random.default_rng(3), size=64)
SCENE = IMAGE[:24, :24] / np.float32(255)
CAMERAS = {
    "bayer": Camera(gains=(2.0, 1.6), exposure=0.8, demosaicing="bilinear", phase=(0, 1)),
    "edges, sharpened": Camera(demosaicing="edges", sharpening=0.8, tone=0.6),
    "smoothed": Camera(blur=0.7),
    "scaled, colours smoothed": Camera(scale=0.8, chroma_blur=3),
    "white noise": Camera(gamma=1, demosaicing="bilinear"),
    "grey": Camera(grey=True, gamma=1),
    "grain": Camera(gamma=1, grain=0.8),
    "rows": Camera(demosaicing="bilinear", rows=0.5),
}


def standard_errors_off(images: np.ndarray, mean: np.ndarray, error: float = 0) -> np.ndarray:
    """By how many standard errors the images' mean is off from `mean`, itself known to `error`."""
    deviation = np.hypot(images.std(0, dtype=np.float64) / COPIES**0.5, error)
    return (images.mean(0, dtype=np.float64) - mean) / deviation


@pytest.mark.parametrize("name", CAMERAS)
def test_the_mean_of_many_targets_is_that_of_many_photographs(name):
    shot = CAMERAS[name]
    rng = np.random.default_rng(0)
    noise = 5e-3, 1e-4
    targets = np.stack([develop(SCENE, shot, noise, rng) for _ in range(COPIES)])
    if shot.gamma == 1:  # where nothing is cut off, that is the scene itself
        expected, error = develop(SCENE, shot, (0, 0), rng), 0
    else:
        inputs = [deliver(develop(SCENE, shot, noise, rng), shot) for _ in range(COPIES)]
        expected = np.mean(inputs, axis=0, dtype=np.float64)
        error = np.std(inputs, axis=0, dtype=np.float64) / COPIES**0.5
    off = standard_errors_off(targets, expected, error)
    assert np.abs(off).max() < 5
    assert np.sqrt(np.mean(off**2)) == pytest.approx(1, abs=0.15)
    assert targets.std(0).min() > 0  # none of it is clean


def test_without_noise_a_camera_with_a_tone_curve_shows_the_scene():
    shot = Camera(tone=0.7, gains=(2.0, 1.5))
    image = develop(SCENE, shot, (0, 0), np.random.default_rng(0))
    np.testing.assert_allclose(image, SCENE, atol=0.5 / 255)


def test_the_sensors_noise_is_what_the_formula_says():
    shot = Camera(gamma=1)
    rng = np.random.default_rng(0)
    for brightness in (0.1, 0.9):
        flat = np.full((200, 200, 3), brightness, np.float32)
        image = develop(flat, shot, (0.01, 0.0004), rng)
        assert image.var() == pytest.approx(0.01 * brightness + 0.0004, rel=0.02)


def test_light_is_counted_photon_by_photon():
    flat = np.full((200, 200, 1), 0.05, np.float32)
    counts = develop(flat, Camera(gamma=1, counts=True), (0.1, 0), np.random.default_rng(0))
    assert counts.dtype == np.float32
    assert counts.max() == pytest.approx(0.6)
    np.testing.assert_allclose(counts / 0.1, np.rint(counts / 0.1), atol=1e-5)
    assert counts.mean() == pytest.approx(0.05, rel=0.02)
    assert counts.var() == pytest.approx(0.1 * 0.05, rel=0.03)


@pytest.mark.parametrize("channels", [1, 3])
def test_specimens_glow_on_a_ground_without_noise(channels, monkeypatch):
    monkeypatch.setattr("noise2noise.pairs.SPECIMENS", 1)
    monkeypatch.setattr("noise2noise.pairs.SKIES", 0)
    images = [IMAGE @ np.ones((3, channels)) // channels] if channels == 1 else [IMAGE]
    images = [np.tile(image, (3, 3, 1)).astype(np.uint8) for image in images]
    batch = CameraPairs(images, FILTERS["sensor"], 60, 64, 1, channels=channels).make(0, range(60))
    inputs, targets, weights = batch
    assert np.isfinite(weights).all()
    same = np.mean(inputs == targets, axis=(1, 2, 3))
    assert np.mean(same > 0.2) > 0.15  # black, or an offset's grey, in both
    assert np.mean(same < 0.01) > 0.1  # others have the noise of reading, too
    assert np.median(np.ptp(inputs, axis=(1, 2, 3))) > 0.3


def test_the_noise_of_a_sensor_alone_is_independent_but_for_rows_and_columns():
    rng = np.random.default_rng(0)
    shots = [camera.draw_sensor(rng) for _ in range(300)]
    for shot in shots:
        assert shot == Camera(
            *(shot.gamma, 0.0, False),
            **{name: getattr(shot, name) for name in ("rows", "columns", "clipped", "counts")},
        )
        assert shot.gamma == 1
    assert 10 < sum(bool(shot.rows or shot.columns) for shot in shots) < 60
    noises = [camera.draw_noise(shot, rng) for shot in shots]
    assert 100 < sum(a > 0 for a, _ in noises) < 200  # in colour, too
    flat = np.full((200, 200, 3), 0.5, np.float32)
    noise = FILTERS["sensor"].corrupt(flat, 0.01, rng) - flat
    assert noise.var() == pytest.approx(0.005 + 0.02**2, rel=0.02)
    assert abs(noise_correlation(noise)) < 0.05
    for shot in (camera.draw_telescope(rng, own=True) for _ in range(100)):
        assert not (shot.grain or shot.demosaicing)


@pytest.mark.parametrize("name", ["camera", "sensor"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("skies", [0, 1])
def test_a_training_on_sensors_has_no_noise_that_pixels_share(name, channels, skies, monkeypatch):
    flat = [np.full((300, 300, channels), 128, np.uint8)]
    monkeypatch.setattr("noise2noise.pairs.SKIES", skies)
    pairs = CameraPairs(flat, FILTERS[name], 1, 64, 100, channels=channels)
    found = []
    for number in range(100):
        one, other, _ = pairs.make(number, [0])
        found.append(abs(noise_correlation((one - other)[0])))
    far = np.mean(np.array(found) > 0.2)
    assert far > 0.05 if name == "camera" else far <= 0.01


def test_grain_is_as_strong_as_other_noise_and_as_coarse_as_asked_for():
    flat = np.full((400, 400, 3), 0.5, np.float32)
    image = develop(flat, Camera(gamma=1, grain=1.0), (0.01, 0), np.random.default_rng(0)) - flat
    assert image.var() == pytest.approx(0.005, rel=1e-3)
    beside = np.mean(image[1:] * image[:-1]), np.mean(image[:, 1:] * image[:, :-1])
    expected = np.exp(-1 / 4)  # a Gaussian's correlation with itself, moved by its sigma
    np.testing.assert_allclose(np.divide(beside, image.var()), expected, rtol=0.02)
    assert abs(np.corrcoef(image[..., 0].ravel(), image[..., 1].ravel())[0, 1]) < 0.02


@pytest.mark.parametrize(("shared", "axis"), [("rows", 1), ("columns", 0)])
def test_rows_and_columns_share_noise(shared, axis):
    flat = np.full((400, 400, 3), 0.5, np.float32)
    shot = Camera(gamma=1, **{shared: 0.6})
    image = develop(flat, shot, (0, 1e-4), np.random.default_rng(0)) - flat
    assert image.mean(axis).std() == pytest.approx(0.6 * 0.01, rel=0.05)
    assert image.std(axis).mean() == pytest.approx(0.01, rel=0.01)
    assert image.mean(1 - axis).std() < 0.01 / 400**0.5 * 1.2


def test_white_balance_amplifies_noise_and_exposure_darkens():
    shot = Camera(gains=(2.0, 1.5), exposure=0.6)
    flat = np.full((200, 200, 3), 0.5, np.float32)
    image = develop(flat, shot, (0, 1e-4), np.random.default_rng(0))
    noise = image.std((0, 1)) / image.std((0, 1))[1]
    np.testing.assert_allclose(noise, (2, 1, 1.5), rtol=0.03)
    np.testing.assert_allclose(image.mean((0, 1)), 0.5 * 0.6 ** (1 / 2.2), rtol=0.01)


def test_sharpening_steepens_edges_and_smoothing_takes_noise():
    step = np.full((16, 16, 3), 0.25, np.float32)
    step[:, 8:] = 0.75
    rng = np.random.default_rng(0)
    image = develop(step, Camera(sharpening=0.6), (0, 0), rng)
    overshoot = 0.6 * 0.5 / 3  # a third of the box beside the edge lies behind it
    expected = step[8, 6:10, 0] + [0, -overshoot, overshoot, 0]
    np.testing.assert_allclose(image[8, 6:10, 0], expected, atol=1e-6)
    scene = np.full((200, 200, 3), 0.5, np.float32)
    plain, smooth, smooth_colors = (
        develop(scene, Camera(gamma=1, **options), (0, 1e-3), np.random.default_rng(0))
        for options in ({}, {"blur": 0.8}, {"chroma_blur": 5})
    )
    assert smooth.std() < plain.std() / 2
    np.testing.assert_allclose(
        smooth_colors @ camera.LUMINANCE, plain @ camera.LUMINANCE, atol=1e-5
    )
    assert np.ptp(smooth_colors, 2).mean() < np.ptp(plain, 2).mean() / 3


@pytest.mark.parametrize("quality", [60, 95])
def test_an_input_is_stored_as_jpeg_of_the_cameras_quality(quality):
    file = io.BytesIO()
    Image.fromarray(IMAGE).save(file, "JPEG", quality=quality, subsampling=2)
    image = deliver(IMAGE / np.float32(255), Camera(quality=quality, subsampling=2))
    np.testing.assert_allclose(image * 255, np.asarray(Image.open(file)), atol=1e-3)


@pytest.mark.parametrize("method", ["bilinear", "edges"])
@pytest.mark.parametrize("phase", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_a_mosaic_keeps_what_the_sensor_saw_and_gradients_come_back(method, phase):
    rows, columns = np.mgrid[:32, :32].astype(np.float32) / 100
    image = np.stack((rows, 0.2 + columns, 0.1 + rows + columns), axis=2)
    seen = mosaic(image, phase)
    again = demosaic(seen, phase, method)
    np.testing.assert_allclose(mosaic(again, phase), seen, atol=1e-6)
    if method == "bilinear":
        np.testing.assert_allclose(again[2:-2, 2:-2], image[2:-2, 2:-2], atol=1e-6)
    grey = np.repeat(rows[..., None], 3, axis=2)
    again = demosaic(mosaic(grey, phase), phase, method)
    np.testing.assert_allclose(again[4:-4, 4:-4], grey[4:-4, 4:-4], atol=1e-6)


def test_edges_beat_bilinear_on_a_picture():
    image = dead_leaves(np.random.default_rng(0)) / np.float32(255)
    errors = [
        np.mean((demosaic(mosaic(image, (0, 0)), (0, 0), method) - image) ** 2)
        for method in ("edges", "bilinear")
    ]
    assert errors[0] < errors[1] / 1.5


def pairs(images, **options):
    return CameraPairs(images, FILTERS["camera"], 32, 64, 5, **options)


def test_inputs_are_as_files_hold_them_and_targets_are_not():
    inputs, targets, _ = pairs([dead_leaves(np.random.default_rng(k)) for k in range(4)]).make(
        0, range(32)
    )
    assert inputs.shape == targets.shape == (32, 64, 64, 3)
    distance = np.abs(inputs * 255 - np.rint(inputs * 255)).max((1, 2, 3))
    in_8_bits = distance < 1e-4
    assert 20 < in_8_bits.sum() < 32  # a few are as files of floats hold them
    assert inputs[in_8_bits].min() >= 0
    assert inputs[in_8_bits].max() <= 1
    assert inputs[~in_8_bits].min() < 0
    assert distance[~in_8_bits].min() > 0.4
    assert np.abs(targets * 255 - np.rint(targets * 255)).max((1, 2, 3)).min() > 0.4
    assert targets.min() < 0
    grey = (inputs == inputs[..., :1]).all((1, 2, 3))
    assert 0 < grey.sum() < 16
    np.testing.assert_array_equal(targets[grey], np.repeat(targets[grey][..., :1], 3, -1))


def test_the_less_noise_a_crop_has_the_more_it_counts(monkeypatch):
    monkeypatch.setattr("noise2noise.pairs.PAGES", 0)  # dark ones would be taken for skies
    images = [np.full((128, 128, 3), 128, np.uint8)]
    for clean in (False, True):
        inputs, targets, weights = pairs(images, clean_targets=clean).make(0, range(32))
        assert weights.shape == inputs.shape[:3]
        np.testing.assert_array_equal(weights, np.repeat(weights[:, :1], 64, 1))
        weights, squares = weights[:, 0, 0], (inputs - targets) ** 2 / 2
        sky = inputs.mean((1, 2, 3)) < 0.3
        assert 0 < sky.sum() < 8
        std = 255 * np.sqrt(np.mean(squares, axis=(1, 2, 3)))
        np.testing.assert_allclose(weights[~sky], 1 / (1 + std[~sky] / 5), rtol=1e-5)
        assert weights[~sky].max() > 2 * weights[~sky].min()
        dark = 255 * np.sqrt(np.median(squares, axis=(1, 2, 3)) / 0.455)  # stars are few
        expected = np.minimum((2 / dark[sky]) ** 1.5, 300)
        np.testing.assert_allclose(weights[sky], expected, rtol=0.1)


@pytest.mark.parametrize("channels", [1, 3])
def test_skies_have_stars_far_above_their_noise(channels):
    rng = np.random.default_rng(0)
    noise, least, brightest = [], [], []
    for _ in range(50):
        sky = drawn.draw_sky(rng, 80, channels)
        assert sky.shape == (80, 80, channels)
        assert 0 <= sky.min() < 0.3
        assert sky.max() <= 1
        shot = camera.draw_telescope(rng, grey=channels == 1)
        faint = camera.draw_faint_noise(rng)
        shots = camera.two_exposures(sky, 64, shot, faint, faint, rng, rng)
        assert all(image.shape == (64, 64, channels) for image in shots)
        noise.append(np.median(np.abs(shots[0] - shots[1])))
        least.append(shots[0].min())
        brightest.append(sky.max() - np.median(sky))
    assert np.median(np.array(brightest) / noise) > 30
    assert min(least) < 0  # nothing is cut off


@pytest.mark.parametrize("channels", [1, 3])
def test_pages_have_thin_lines_on_even_paper(channels):
    scene = np.full((96, 96, channels), 0.5, np.float32)
    even, steep = [], []
    for seed in range(60):
        page = drawn.draw_page(np.random.default_rng(seed), scene)
        assert page.shape == scene.shape
        assert page.dtype == np.float32
        assert 0 <= page.min() <= page.max() <= 1
        np.testing.assert_array_equal(page, drawn.draw_page(np.random.default_rng(seed), scene))
        steps = np.abs(np.diff(page, axis=0))
        even.append(np.mean(steps < 0.01))
        steep.append(np.mean(steps > 0.25))
    assert np.median(even) > 0.6  # most of a page is paper
    assert np.mean(np.array(steep) > 0.02) > 0.4  # with letters and lines of full contrast
    assert np.mean(np.array(steep) == 0) > 0.1  # or faint and soft ones only


def test_of_six_scenes_about_one_is_a_page():
    images = [np.full((128, 128, 3), 128, np.uint8)]  # on which nothing else draws a line
    batches = pairs(images, clean_targets=True)
    targets = np.concatenate([batches.make(number, range(32))[1] for number in range(6)])
    bright = targets.mean((1, 2, 3)) > 0.3  # no sky
    drawn_on = np.ptp(targets[:, 8:-8, 8:-8], axis=(1, 2, 3)) > 0.05
    assert 0.1 < np.mean(bright & drawn_on) < 0.25


def test_clean_targets_belong_to_the_same_inputs():
    images = [IMAGE] * 2  # smaller than a crop and what is around it, so mirrored
    noisy, clean = (pairs(images, clean_targets=c).make(3, range(8)) for c in (False, True))
    np.testing.assert_array_equal(noisy[0], clean[0])
    assert not np.array_equal(noisy[1], clean[1])


def test_grey_pictures_have_one_channel_and_no_mosaic():
    rng = np.random.default_rng(0)
    drawn = [draw_camera(rng, grey=True) for _ in range(200)]
    assert all(shot.grey and not shot.demosaicing for shot in drawn)
    assert {shot.gamma for shot in drawn} == {1, camera.GAMMA}
    inputs, targets, _ = pairs([luminance(IMAGE)], channels=1).make(0, range(4))
    assert inputs.shape == targets.shape == (4, 64, 64, 1)


def test_every_camera_gives_crops_of_the_size_asked_for():
    rng = np.random.default_rng(1)
    for _ in range(100):
        shot = draw_camera(rng)
        shot = dataclasses.replace(shot, scale=rng.uniform(0.75, 1.25))
        size = camera.scene_size(shot, 32)
        scene = np.zeros((size, size, 3), np.float32)
        for image in camera.two_exposures(scene, 32, shot, (0, 0), (0, 0), rng, rng):
            assert image.shape[:2] == (32, 32)


def test_the_scored_noise_is_the_same_every_time():
    noisy = [
        FILTERS["camera"].corrupt(SCENE, 5e-3, np.random.default_rng(seed)) for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(noisy[0], noisy[1])
    assert not np.array_equal(noisy[0], noisy[2])
