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
from noise2noise.deadleaves import dead_leaves
from noise2noise.images import LUMINANCE
from noise2noise.networks import DEFAULTS, PRETRAINED
from noise2noise.ranges import to_8bit
from noise2noise.restore import Series
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
        return Series().noise_is_independent(file)


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
        ([blank, blank, blank], False),
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
    halved = Image.fromarray(to_8bit(PHOTO + noise(50))).resize((128, 128))
    halved.save(tmp_path / "halved.png")
    halved.convert("L").save(tmp_path / "halved-grey.png")
    assert independent(tmp_path / "halved.png")  # nearly
    assert not independent(tmp_path / "halved-grey.png")
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


def test_a_series_is_restored_alike_where_it_is_hard_to_tell(tmp_path):
    clean = 0.2 + PHOTO[..., 0] / 2
    other = 0.2 + dead_leaves(np.random.default_rng(6), size=256)[..., 0] / np.float32(510)
    files = {"near": (clean, 0.42), "of another": (other, 0.42), "clear": (clean, 0.2)}
    for name, (scene, blur) in {**files, "far": (clean, 0.7)}.items():
        noisy = scene + gaussian_filter(noise(25, scene.shape), blur)
        tifffile.imwrite(tmp_path / name, np.rint(noisy.clip(0, 1) * 65535).astype(np.uint16))
    alone = independent(tmp_path / "near"), independent(tmp_path / "of another")
    for first, expected in (("clear", True), ("far", False)):
        found, series = [], Series()
        for name in (first, "near", "near", "of another", "near"):
            with images.open_file(tmp_path / name) as file:
                found.append(series.noise_is_independent(file))
        assert found == [expected] * 3 + [alone[1], alone[0]]
    series = Series()
    for size, value in ((1, 0), (40, np.nan), (40, 1.7e308), (40, 1.7e308)):
        tifffile.imwrite(tmp_path / "odd", np.full((size, size), value))
        with images.open_file(tmp_path / "odd") as file, np.errstate(all="raise"):
            assert not series.noise_is_independent(file)


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
    for (grey, _), name in DEFAULTS.items():
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
    assert "is JPEG, whose noise is not independent" in said
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
