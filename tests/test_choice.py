"""Which network restores a picture that none is named for: by its colours and its noise."""

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
import tifffile
from conftest import call_script
from PIL import Image
from scipy.ndimage import gaussian_filter, laplace

from model import build_unet
from noise2noise import camera, images
from noise2noise.choice import BY_NOISE, look_at_noise
from noise2noise.deadleaves import dead_leaves
from noise2noise.images import LUMINANCE
from noise2noise.networks import PRETRAINED
from noise2noise.noise import are_counts
from noise2noise.ranges import to_8bit
from noise2noise.runs import save_model

PHOTO = dead_leaves(np.random.default_rng(5), size=256) / np.float32(255)


def noise(sigma: float, shape=PHOTO.shape) -> np.ndarray:
    return np.random.default_rng(0).normal(scale=sigma / 255, size=shape).astype(np.float32)


def jpeg(image: np.ndarray) -> np.ndarray:
    """Return what JPEG makes of an image, in [0, 1]."""
    file = io.BytesIO()
    Image.fromarray(to_8bit(image).squeeze()).save(file, "JPEG", quality=75)
    return np.asarray(Image.open(file)).reshape(image.shape) / np.float32(255)


def demosaiced(image: np.ndarray) -> np.ndarray:
    return camera.demosaic(camera.mosaic(image, (0, 0)), (0, 0), "edges")


def sharpened(image: np.ndarray) -> np.ndarray:
    return image - 2 * laplace(image, axes=(0, 1))


DELIVERED = {  # how noise of some strength gets into a picture's file
    "as it is": lambda clean, sigma: clean + noise(sigma, clean.shape),
    "smoothed": lambda clean, sigma: (
        clean + gaussian_filter(noise(sigma, clean.shape), (0.7, 0.7, 0))
    ),
    "sharpened": lambda clean, sigma: sharpened(clean + noise(sigma, clean.shape)),
    "JPEG": lambda clean, sigma: jpeg(clean + noise(sigma, clean.shape)),
    "mosaic": lambda clean, sigma: demosaiced(PHOTO + noise(sigma)),
}


def independent(path: Path) -> bool:
    with images.open_file(path) as file:
        return look_at_noise(file)[0]


# Far above JPEG's steps, and without colours, noise stays as it was.
STAYS = "JPEG", True, 40


@pytest.mark.parametrize(
    ("name", "grey", "sigma"),
    [kind for kind in itertools.product(DELIVERED, (False, True), (10, 40)) if kind != STAYS],
)
def test_noise_of_each_pixels_own_is_told_from_a_cameras(name, grey, sigma, tmp_path):
    noisy = DELIVERED[name](PHOTO @ LUMINANCE[:, None] if grey else PHOTO, sigma)
    if grey and name == "mosaic":
        noisy = noisy @ LUMINANCE[:, None]
    kind = "minisblack" if grey else "rgb"
    Image.fromarray(to_8bit(noisy).squeeze()).save(tmp_path / "8bit.png")
    deep = np.rint(noisy.clip(0, 1) * 65535).astype(np.uint16)
    tifffile.imwrite(tmp_path / "16bit.tif", deep.squeeze(), photometric=kind)
    tifffile.imwrite(tmp_path / "float.tif", noisy.squeeze() * np.float32(1e-20), photometric=kind)
    found = {path.name: independent(path) for path in tmp_path.iterdir()}
    assert set(found.values()) == {name == "as it is"}, found


def test_several_pages_count_and_what_is_no_value_does_not(tmp_path):
    noisy = (PHOTO + noise(25))[..., 0]
    smooth, blank, holes = gaussian_filter(noisy, 0.7), np.zeros_like(noisy), noisy.copy()
    holes[:200] = np.nan
    for pages, expected in (
        ([noisy, blank, noisy], True),
        ([noisy, smooth, noisy], False),
        ([noisy, noisy, smooth], False),
        ([blank, blank, blank], True),  # without noise
        ([holes], True),
        ([np.where(np.isnan(holes), np.float32(-9999), holes)], True),
    ):
        tifffile.imwrite(tmp_path / "a.tif", np.stack(pages), photometric="minisblack")
        assert independent(tmp_path / "a.tif") == expected
    hidden = np.where(np.arange(256)[:, None] < 200, smooth, noisy)
    shown = 255 * (np.arange(256) >= 200)[:, None].repeat(256, axis=1)
    pixels = np.stack((to_8bit(hidden), np.uint8(shown)), axis=2)
    Image.fromarray(pixels).save(tmp_path / "transparent.png")
    assert independent(tmp_path / "transparent.png")
    colour = PHOTO + noise(25)
    colour[:150, :, 0], colour[150:170] = np.nan, np.inf
    tifffile.imwrite(tmp_path / "colour.tif", colour, photometric="rgb")
    assert independent(tmp_path / "colour.tif")
    for smoothed, expected in ((0.3, True), (0.42, False)):  # as by resizing
        grey = PHOTO[..., 0] + gaussian_filter(noise(40)[..., 0], smoothed)
        Image.fromarray(to_8bit(grey)).save(tmp_path / "smoothed.png")
        assert independent(tmp_path / "smoothed.png") == expected
    photons = np.random.default_rng(0).poisson(2 * PHOTO[..., 0])  # none in many pixels
    Image.fromarray(np.uint8(20 * photons)).save(tmp_path / "photons.png")
    assert independent(tmp_path / "photons.png")
    dark = PHOTO / 10 + gaussian_filter(noise(25), (0.7, 0.7, 0))  # half of it is cut off
    Image.fromarray(to_8bit(dark)).save(tmp_path / "dark.png")
    assert not independent(tmp_path / "dark.png")
    both = np.stack((noisy, smooth), axis=2)  # channels, one of which is no colour
    tifffile.imwrite(tmp_path / "two.tif", both, photometric="minisblack", planarconfig="contig")
    assert not independent(tmp_path / "two.tif")
    Image.fromarray(to_8bit(noisy)).save(tmp_path / "a.jpg", quality=100)
    assert not independent(tmp_path / "a.jpg")  # its kind says so


@pytest.mark.parametrize("curved", [False, True])
def test_white_noise_on_fine_fringes_is_each_pixels_own_and_grain_on_them_is_not(curved, tmp_path):
    """Interferograms, gratings: no patch is without them."""
    y, x = np.mgrid[:256, :256]
    phase = np.hypot(x - 100, y + 40) if curved else x + y / 3
    fringes = 0.5 + 0.3 * np.sin(2 * np.pi * phase / 8)
    white = noise(25)[..., 0]
    film = gaussian_filter(white, 1.0)
    film *= white.std() / film.std()
    coarse = gaussian_filter(white, 1.5)
    coarse *= white.std() / coarse.std()
    for added, expected in (
        (white, True),
        (gaussian_filter(white, 0.5), False),
        (film + np.random.default_rng(2).normal(0, 0.05, film.shape), False),
        (coarse + np.random.default_rng(2).normal(0, 0.02, film.shape), False),
    ):
        Image.fromarray(to_8bit(np.float32(fringes + added))).save(tmp_path / "fringes.png")
        assert independent(tmp_path / "fringes.png") == expected


def cells(channels: int, brightest: float) -> np.ndarray:
    """Return photons of what glows on a black ground: (256, 256, channels)."""
    rng = np.random.default_rng(1)
    spots = np.zeros((256, 256, channels))
    spots[tuple(rng.integers(256, size=(2, 90)))] = rng.random((90, channels))
    spots = gaussian_filter(spots, (5, 5, 0))
    return rng.poisson(spots / spots.max() * brightest)


def test_photons_on_a_black_ground_are_a_sensors(tmp_path):
    thin = np.zeros((256, 256))
    thin[np.arange(256), (128 + 100 * np.sin(np.arange(256) / 40)).astype(int)] = 1
    thin = gaussian_filter(thin, 1.2)
    for brightest in (1, 10, 40):
        counts = np.random.default_rng(0).poisson(thin / thin.max() * brightest)
        tifffile.imwrite(tmp_path / "thin.tif", 8 * counts.astype(np.uint16))
        assert independent(tmp_path / "thin.tif"), brightest
        smooth = gaussian_filter(counts.astype(np.float32), 0.7)
        tifffile.imwrite(tmp_path / "smooth.tif", smooth)
        assert not are_counts(smooth[..., None])
    for channels, brightest in itertools.product((1, 3), (8, 30, 100)):
        counts = cells(channels, brightest)
        kind = "rgb" if channels == 3 else "minisblack"
        tifffile.imwrite(tmp_path / "a.tif", counts.squeeze().astype(np.float32), photometric=kind)
        assert independent(tmp_path / "a.tif"), (channels, brightest)
        Image.fromarray(np.uint8(100 + counts.squeeze())).save(tmp_path / "a.png")
        assert independent(tmp_path / "a.png"), (channels, brightest)


@pytest.mark.parametrize("sigma", [8, 30])
def test_noise_that_colours_share_is_seen(sigma, tmp_path):
    one, own = noise(sigma, (256, 256, 1)), noise(sigma, (257, 256, 3))[1:]

    def look(noise):
        Image.fromarray(to_8bit(PHOTO * 0.8 + 0.1 + noise)).save(tmp_path / "a.png")
        with images.open_file(tmp_path / "a.png") as file:
            return look_at_noise(file)

    assert look(own) == (True, False)
    assert look(np.sqrt(0.15) * one + np.sqrt(0.85) * own) == (True, False)
    assert look(np.sqrt(0.4) * one + np.sqrt(0.6) * own) == (True, True)
    assert look(np.concatenate((one, one, own[..., 2:]), axis=2)) == (True, True)  # two of them
    assert look(np.sqrt(0.8) * one + np.sqrt(0.2) * own) == (True, True)
    assert look(one) == (True, True)
    assert look(one * np.float32((1, 0.9, 0.7))) == (True, True)  # tinted
    smooth, own = (gaussian_filter(values, (0.6, 0.6, 0)) for values in (one, own))
    assert look(smooth) == (False, True)  # as of a toned print
    assert look(smooth + 0.5 * own) == (False, False)


def test_grain_that_colours_share_is_taken_away_from_each(tmp_path):
    """Of JPEG files, too; but not what has gone through a mosaic."""
    smooth = gaussian_filter(noise(60, (256, 256, 1)), (0.8, 0.8, 0))
    photo = 0.15 + PHOTO * np.float32((0.6, 0.5, 0.4))
    for name, noisy in (("a.png", photo + smooth), ("a.jpg", photo + smooth)):
        Image.fromarray(to_8bit(noisy)).save(tmp_path / name, quality=90)
        command = ("infer.py", "--models", PRETRAINED, "--restore", tmp_path / name, "--output")
        said = call_script(*command, tmp_path / "out").stdout
        assert f"{name} is in colour, with noise that its colours share, and no network" in said
        assert "camera-bsds300-grey restores it" in said
        pair = (np.asarray(Image.open(tmp_path / where / name)) / 255.0 for where in (".", "out"))
        before, after = (np.mean((image - photo) ** 2) for image in pair)
        assert after < 0.45 * before, (before, after)
    for quality in (75, 90):
        shot = to_8bit(demosaiced(photo + noise(20)))
        Image.fromarray(shot).save(tmp_path / "b.jpg", quality=quality)
        with images.open_file(tmp_path / "b.jpg") as file:
            assert look_at_noise(file) == (False, False)


def test_light_that_colours_share_the_noise_of_is_seen_in_the_dark(tmp_path):
    """As of a path tracer: in linear light, with noise that grows with it."""
    rng = np.random.default_rng(0)
    linear = PHOTO**2.2
    one, own = rng.gamma(4, 1 / 4, (256, 256, 1)), rng.gamma(20, 1 / 20, linear.shape)
    tifffile.imwrite(tmp_path / "a.tif", np.float32(linear * one * own), photometric="rgb")
    with images.open_file(tmp_path / "a.tif") as file:
        assert look_at_noise(file) == (True, True)


def test_noise_that_colours_share_is_taken_away_from_each(tmp_path):
    noisy = to_8bit(PHOTO + noise(25, (256, 256, 1)))
    Image.fromarray(noisy).save(tmp_path / "a.png")
    command = ("infer.py", "--models", PRETRAINED, "--restore", tmp_path / "a.png", "--output")
    said = call_script(*command, tmp_path / "out").stdout
    assert "is in colour, with noise of each pixel's own that its colours share" in said
    assert "sensor-bsds300-grey restores it" in said
    restored = np.asarray(Image.open(tmp_path / "out/a.png")) / 255.0
    errors = [np.mean((image - PHOTO) ** 2) for image in (restored, noisy / 255.0)]
    assert errors[0] < 0.25 * errors[1]  # by sensor-bsds300 0.9 of it would stay


def test_values_that_nothing_can_be_told_of_are_no_sensors(tmp_path):
    for size, value in ((1, 0), (40, np.nan), (40, 1.7e308), (100, 1e-310)):
        values = value * np.random.default_rng(0).random((size, size))
        tifffile.imwrite(tmp_path / "odd", values)
        with np.errstate(all="raise", under="ignore"):
            assert independent(tmp_path / "odd") == (value == 1e-310)


def test_each_page_gets_the_network_for_its_colours(tmp_path):
    noisy = to_8bit(PHOTO[:64, :64] + noise(25, (64, 64, 3)))
    pages = {"colour": noisy, "grey": noisy[..., 0]}
    for order in (("colour", "grey"), ("grey", "colour")):
        path = tmp_path / f"{order[0]}.tif"
        with tifffile.TiffWriter(path) as file:
            for name in order:
                file.write(pages[name], photometric="rgb" if name == "colour" else "minisblack")
        command = ("infer.py", "--models", PRETRAINED, "--restore", path, "--output")
        call_script(*command, tmp_path / "out")
        with images.open_file(tmp_path / "out" / path.name) as file:
            grey = file.read(order.index("grey")).pixels[..., 0]
        change = np.abs(grey.astype(float) - pages["grey"])
        assert change.mean() > 10  # 0.4 by the network for colours, noise has 20


def test_each_picture_gets_the_network_for_its_colours_and_noise(tmp_path):
    folder, source = tmp_path / "networks", tmp_path / "in"
    folder.mkdir()
    source.mkdir()
    for (grey, _), name in BY_NOISE.items():
        channels = 1 if grey else 3
        training = {"filter": name.split("-")[0], "grey": grey or name == "camera-bsds300"}
        save_model(build_unet(channels, channels), folder / f"{name}.keras", training)
    noisy = to_8bit(PHOTO + noise(25))
    Image.fromarray(noisy).save(source / "colour.png")
    Image.fromarray(noisy[..., 0]).save(source / "grey.png")
    Image.fromarray(noisy[..., 0]).save(source / "grey.jpg")
    Image.fromarray(noisy).save(source / "photo.jpg")

    def restore(*words):
        command = ("infer.py", *words, "--models", folder, "--restore", source, "--overwrite")
        return call_script(*command, "--output", tmp_path / "out").stdout

    said = restore()
    for words in (
        "colour.png is in colour, with noise of each pixel's own, and no network is named: "
        "sensor-bsds300 restores it",
        "grey.png is grey, with noise of each pixel's own, and no network is named: "
        "sensor-bsds300-grey restores it",
        "photo.jpg is in colour, and no network is named: camera-bsds300 restores it",
        "grey.jpg is grey, and no network is named: camera-bsds300-grey restores it",
        "restored 4 of 4 pictures with camera-bsds300 and camera-bsds300-grey and sensor-bsds300 "
        "and sensor-bsds300-grey",
    ):
        assert words in said
    assert "with camera-bsds300 and camera-bsds300-grey," in restore("camera")
    said = restore("sensor")
    assert "with sensor-bsds300 and sensor-bsds300-grey," in said
    assert "is compressed with losses (JPEG)" in said
    (folder / "sensor-bsds300.keras").unlink()
    (folder / "camera-bsds300-grey.keras").unlink()
    said = restore()
    assert "with camera-bsds300 and sensor-bsds300-grey," in said
    assert "grey.jpg is grey, and no network is named: camera-bsds300 restores it" in said
    for path in folder.iterdir():
        path.unlink()
    save_model(build_unet(), folder / "sensor-bsds300.keras", {"filter": "sensor"})
    said = restore()
    assert "grey.jpg is grey, and sensor-bsds300, trained on colour only, does little to it" in said
