"""The simulated camera: two exposures of one scene, as a camera would deliver them.

A network trained on white noise restores white noise and nothing else; what people bring has
been through a camera. Here a scene is taken back to the light that reached the sensor, gets the
sensor's noise, and is developed as cameras do it. It stays Noise2Noise: the target is a second
exposure with noise of its own, developed alike, and never a clean image. Its mean is the mean of
many photographs, as the truth of real ones is measured.

In scene-linear light v, the sensor's noise has the variance a v + b (shot noise and read noise,
Foi et al. 2008), with log a uniform and log b = 2.18 log a + 1.20 + N(0, 0.26), as Brooks et al.
2019 fitted it to photographs of the Darmstadt set; the tone curve is theirs too. White balance,
mosaic, demosaicing, gamma and JPEG around it follow Guo et al. 2019 (CBDNet). What a network
learns to remove is the noise: what the camera does to the scene itself is in the mean of the
target as in the input.

Scenes are pictures, and some that are drawn (`drawn`): night skies, and pages with text and lines.
"""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from noise2noise.images import LUMINANCE

GAMMA = 2.2
BLOCK = 8  # pixels on a side of JPEG's
BORDER = 4  # pixels around a crop that demosaicing and sharpening need
CURVE = np.linspace(0, 1, 1025, dtype=np.float32)  # where tone curves are inverted
SHOT = 3e-5, 2e-2  # the range of a
COUNTING = 1e-3, 0.1  # the same for grey sensors that count little light: 10 to 1000 photons
FEW = 2e-3, 0.5  # the same for specimens: 2 to 500
READ_NOISE = 0.02  # of `count`


@dataclass(frozen=True)
class Camera:
    """A camera and how it develops; all but the noise is the same for both exposures."""

    # 1 for sensors whose values are stored as they are: microscopes, scanners, and the white noise
    # that others test with.
    gamma: float = GAMMA
    # The share of an S-shaped curve, 3 x^2 - 2 x^3, in what is displayed: cameras add contrast,
    # which makes noise strongest in the middle tones.
    tone: float = 0.0
    grey: bool = False  # it sees one channel, and has no mosaic
    exposure: float = 1.0
    gains: tuple[float, float] = (1.0, 1.0)  # white balance of red and blue
    demosaicing: str = ""  # "bilinear", "edges" (Hamilton and Adams 1997); "": without a mosaic
    phase: tuple[int, int] = (0, 0)  # of the Bayer mosaic
    chroma_blur: int = 0  # pixels of a box that in-camera denoising smooths colour with
    blur: float = 0.0  # pixels: sigma of the Gaussian that it smooths everything with
    sharpening: float = 0.0  # amount of an unsharp mask
    grain: float = 0.0  # pixels: sigma of the Gaussian that smooths the noise, as film has it
    rows: float = 0.0  # noise that a whole row shares, in parts of what each pixel has
    columns: float = 0.0  # the same of columns
    scale: float = 1.0  # of the delivered picture
    quality: int = 0  # JPEG's; 0: none
    subsampling: int = 0  # Pillow's: 0 is 4:4:4, 2 is 4:2:0
    clipped: bool = True  # to 8 bits; False for files that keep what noise takes below black
    # It may count little light (COUNTING), as grey ones without gamma may, photon by photon.
    counts: bool = False


TEST = Camera(tone=0.5, gains=(2.0, 1.6), demosaicing="edges", quality=90, subsampling=2)
GREY_TEST = Camera(tone=0.5, grey=True, quality=90)


def draw_camera(rng: np.random.Generator, grey: bool = False) -> Camera:
    """Draw a camera, for one pair of exposures; with `grey` one without colours for certain."""
    draw = {
        "grey": grey or rng.random() < 0.2,
        "phase": tuple(rng.integers(2, size=2)),
        "subsampling": int(rng.choice((0, 2))),
        "quality": int(rng.integers(60, 100)),
    }
    if rng.random() < (0.5 if grey else 0.25):
        share = 0.2 if grey else 0.4
        draw |= {
            "gamma": 1,
            "demosaicing": str(rng.choice(("", "bilinear"), p=(0.75, 0.25))),
            "clipped": rng.random() < 0.5,
        }
    else:
        share = 0.6
        draw |= {
            "demosaicing": str(rng.choice(("", "bilinear", "edges"), p=(0.25, 0.4, 0.35))),
            "tone": rng.random(),
            "exposure": rng.uniform(0.6, 1),
            "gains": tuple(rng.uniform(1.2, 2.4, 2)),
            "chroma_blur": int(rng.choice((3, 5, 7, 9))) if rng.random() < 0.5 else 0,
            "blur": rng.uniform(0.4, 0.9) if rng.random() < 0.5 else 0.0,
            "sharpening": rng.uniform(0, 1) if rng.random() < 0.3 else 0.0,
            "scale": rng.uniform(0.75, 1.25) if rng.random() < 0.2 else 1.0,
        }
    if draw["grey"]:
        draw["demosaicing"] = ""
    if not draw["demosaicing"] and rng.random() < (0.25 if grey else 0.4):
        draw["grain"] = rng.uniform(0.4, 1.6)
    if rng.random() < 0.1:
        draw[str(rng.choice(("rows", "columns")))] = rng.random()
    if rng.random() >= share or not draw.get("clipped", True):
        draw["quality"] = 0
    return Camera(**draw)


def draw_sensor(rng: np.random.Generator, grey: bool = False) -> Camera:
    """Draw a sensor whose values are stored as they are, so that each pixel's noise is its own.

    Microscopes, and the white noise that others test with; now and then rows or columns share some.
    """
    draw = {"grey": grey, "clipped": rng.random() < 0.5}
    if rng.random() < 0.1:
        draw[str(rng.choice(("rows", "columns")))] = rng.random()
    return Camera(gamma=1, counts=True, **draw)


def draw_telescope(rng: np.random.Generator, grey: bool = False, own: bool = False) -> Camera:
    """Draw a camera for night skies: its files hold the sensor's values as they are.

    `own`: each pixel's noise is its own, for certain.
    """
    draw = {"grey": grey, "phase": tuple(rng.integers(2, size=2))}
    if not own and rng.random() < 0.1:
        draw["grain"] = rng.uniform(0.4, 1.2)
    elif not own and not grey and rng.random() < 0.5:
        draw["demosaicing"] = "bilinear"
    return Camera(gamma=1, clipped=False, **draw)


def draw_faint_noise(rng: np.random.Generator) -> tuple[float, float]:
    """Draw the (a, b) of `draw_noise` for a sky: of little noise beside its brightest stars."""
    return 10 ** rng.uniform(-6.5, -3), 10 ** rng.uniform(-9, -4)


def draw_few_photons(rng: np.random.Generator) -> tuple[float, float]:
    """Draw the (a, b) of `draw_noise` for a specimen: counted light, half of the time alone."""
    read = rng.uniform(0, 30) / 255 if rng.random() < 0.5 else 0.0
    return np.exp(rng.uniform(*np.log(FEW))), read**2 * rng.random() ** 4


def draw_noise(camera: Camera, rng: np.random.Generator) -> tuple[float, float]:
    """Draw the sensor's (a, b): the noise of light v has the variance a v + b."""
    if camera.gamma == 1:
        white = (rng.uniform(0, 50) / 255) ** 2
        if not (camera.grey or camera.counts) or rng.random() < 0.5:
            return 0.0, white
        a = np.exp(rng.uniform(*np.log(COUNTING)))
        return a, white * rng.random() ** 4
    log_a = rng.uniform(*np.log(SHOT))
    return np.exp(log_a), read_noise(log_a, rng.normal(0, 0.26))


def read_noise(log_a: float, off: float = 0.0) -> float:
    """Return b: log b = 2.18 log a + 1.20, and how far off that it lies (Brooks et al. 2019)."""
    return np.exp(2.18 * log_a + 1.2 + off)


def scene_size(camera: Camera, size: int) -> int:
    """Pixels on a side of the scene that a crop of `size` pixels is developed from."""
    return int(np.ceil((size + BLOCK + 2 * BORDER) / camera.scale))


def develop(
    scene: np.ndarray, camera: Camera, noise: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """Expose a scene once, and develop it up to the file.

    Parameters
    ----------
    scene : float32 (height, width, 3) in [0, 1], or grey (height, width, 1)
        As displayed.
    noise : (float, float)
        The sensor's (a, b).

    Returns
    -------
    float32 (height, width, 3), 1 channel for a grey camera
        In [0, 1]; without a gamma curve any value, so that its mean is the scene.
    """
    image = scene @ LUMINANCE[:, None] if camera.grey and scene.shape[2] == 3 else scene
    gains = np.ones(image.shape[2], np.float32)
    curved = camera.gamma != 1
    if curved:
        if not camera.grey:
            gains[[0, 2]] = camera.gains
        if camera.tone:
            untoned = np.interp(CURVE, tone_curve(CURVE, camera), CURVE).astype(np.float32)
            image = untoned[np.rint(image * (len(CURVE) - 1)).astype(np.int32)]
        image = image**camera.gamma * np.float32(camera.exposure) / gains
    if camera.demosaicing:
        image = mosaic(image, camera.phase)
    a, b = np.float32(noise)
    if camera.counts and a:
        image = rng.poisson(image / a).astype(np.float32) * a
        a = 0
    values = _noise(image.shape, camera, rng)
    image = image + values * np.sqrt(a * image + b)
    if camera.demosaicing:
        image = demosaic(image, camera.phase, camera.demosaicing)
    if curved:
        image = (image * gains).clip(0, 1) ** np.float32(1 / camera.gamma)
        image = tone_curve(image, camera)
    image = _finish(image, camera)
    return image.clip(0, 1) if curved else image


def _noise(shape: tuple[int, ...], camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """Return noise of variance 1, and what rows or columns share besides."""
    values = rng.standard_normal(shape, dtype=np.float32)
    if camera.grain:
        from scipy.ndimage import gaussian_filter

        values = gaussian_filter(values, camera.grain, axes=(0, 1))
        values /= values.std()
    for axis, share in ((1, camera.rows), (0, camera.columns)):
        if share:
            alike = (*shape[:axis], 1, *shape[axis + 1 :])
            values += np.float32(share) * rng.standard_normal(alike, dtype=np.float32)
    return values


def tone_curve(image: np.ndarray, camera: Camera) -> np.ndarray:
    """Return the tones that values in [0, 1] are displayed as."""
    tone = np.float32(camera.tone)
    return (1 - tone) * image + tone * image * image * (3 - 2 * image) if tone else image


def _finish(image: np.ndarray, camera: Camera) -> np.ndarray:
    """Smooth colours, smooth, scale, sharpen."""
    if camera.chroma_blur and not camera.grey:
        luminance = image @ LUMINANCE[:, None]
        image = luminance + _box(image - luminance, camera.chroma_blur)
    if camera.blur:
        from scipy.ndimage import gaussian_filter

        image = gaussian_filter(image, (camera.blur, camera.blur, 0), truncate=2.5)
    if camera.scale != 1:
        image = _scaled(image, camera.scale)
    if camera.sharpening:
        image = image + np.float32(camera.sharpening) * (image - _box(image, 3))
    return image


def deliver(image: np.ndarray, camera: Camera) -> np.ndarray:
    """Return a developed image as a file holds it: clipped, in 8 bits, as JPEG if so: float32."""
    if not camera.clipped:
        return image
    image = np.rint(image.clip(0, 1) * 255).astype(np.uint8)
    if camera.quality:
        file = io.BytesIO()
        picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        picture.save(file, "JPEG", quality=camera.quality, subsampling=camera.subsampling)
        image = np.asarray(Image.open(file)).reshape(image.shape)
    return np.divide(image, 255, dtype=np.float32)


def two_exposures(scene, size, camera, noise, target_noise, rng, target_rng):
    """Return the input and the target that a camera makes of a scene.

    The input is compressed and rounded besides; the target is not, for its mean would suffer.

    Parameters
    ----------
    scene : float32 (n, n, 3) in [0, 1], or grey (n, n, 1)
        Of n = `scene_size(camera, size)` pixels or more.
    noise, target_noise : (float, float)
        The sensor's (a, b), for each.

    Returns
    -------
    Two of float32 (size, size, 3), 1 channel for a grey camera
        In [0, 1], but for a target without a gamma curve, and an input that is not clipped.
    """
    shot = develop(scene, camera, noise, rng)
    shot = deliver(shot[BORDER:-BORDER, BORDER:-BORDER], camera)
    target = develop(scene, camera, target_noise, target_rng)
    target = target[BORDER:-BORDER, BORDER:-BORDER]
    top, left = rng.integers(BLOCK, size=2)  # pictures are cropped: JPEG's blocks begin anywhere
    part = np.s_[top : top + size, left : left + size]
    return shot[part], target[part]


def corrupt(image: np.ndarray, a: float, rng: np.random.Generator) -> np.ndarray:
    """Return an image as one stated camera delivers it, to test with: `TEST`, of noise (a, b).

    Parameters
    ----------
    image : float32 (height, width, 3) in [0, 1], or grey (height, width, 1)
    a : float
        The shot noise's variance at full light; b is `read_noise`'s.

    Returns
    -------
    float32 of the image's shape, in [0, 1], in steps of 1/255
    """
    noise = a, read_noise(np.log(a))
    camera = TEST if image.shape[2] == 3 else GREY_TEST
    return deliver(develop(image, camera, noise, rng), camera)


def count(image: np.ndarray, a: float, rng: np.random.Generator) -> np.ndarray:
    """Return an image as a sensor counts it: with noise of the variance a x + 0.02^2.

    Parameters
    ----------
    image : float32 (height, width, channels) in [0, 1]
    a : float
        The shot noise's variance at full light: that of 1 / a photons.

    Returns
    -------
    float32 of the image's shape, any value; its mean is `image`
    """
    sensor = Camera(gamma=1, grey=image.shape[2] == 1, clipped=False)
    return develop(image, sensor, (a, READ_NOISE**2), rng)


def mosaic(image: np.ndarray, phase: tuple[int, int]) -> np.ndarray:
    """Keep of each pixel the one colour that a Bayer sensor (RGGB) sees: (height, width)."""
    red_row, red_column = phase
    seen = image[..., 1].copy()
    seen[red_row::2, red_column::2] = image[red_row::2, red_column::2, 0]
    seen[1 - red_row :: 2, 1 - red_column :: 2] = image[1 - red_row :: 2, 1 - red_column :: 2, 2]
    return seen


def demosaic(seen: np.ndarray, phase: tuple[int, int], method: str) -> np.ndarray:
    """Fill in a Bayer mosaic: (height, width) to (height, width, 3).

    "bilinear" takes the mean of each colour's nearest neighbours. "edges" first fills in green
    along the direction in which the picture changes less, then red and blue by their differences
    from green (Hamilton and Adams 1997).
    """
    red = np.zeros(seen.shape, bool)
    red[phase[0] :: 2, phase[1] :: 2] = True
    blue = np.zeros(seen.shape, bool)
    blue[1 - phase[0] :: 2, 1 - phase[1] :: 2] = True
    colored = red | blue
    p = np.pad(seen, 2, mode="reflect")  # which keeps the mosaic's phase
    up, down, left, right = p[1:-3, 2:-2], p[3:-1, 2:-2], p[2:-2, 1:-3], p[2:-2, 3:-1]
    if method == "bilinear":
        green = np.where(colored, (up + down + left + right) / 4, seen)
        base = np.float32(0)
    elif method == "edges":
        vertical, horizontal = (
            2 * seen - p[:-4, 2:-2] - p[4:, 2:-2],
            2 * seen - p[2:-2, :-4] - p[2:-2, 4:],
        )
        steps = np.abs(left - right) + np.abs(horizontal) - np.abs(up - down) - np.abs(vertical)
        along_rows = (left + right) / 2 + horizontal / 4
        along_columns = (up + down) / 2 + vertical / 4
        green = np.where(colored, np.where(steps < 0, along_rows, along_columns), seen)
        base = green
    else:
        raise ValueError(f"no demosaicing is called {method!r}")
    channels = [_fill(seen - base, where) + base for where in (red, blue)]
    return np.stack((channels[0], green, channels[1]), axis=2)


def _fill(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Interpolate bilinearly what is known at every second pixel of every second row."""
    p = np.pad(np.where(known, values, 0), 1, mode="reflect")
    rows = p[:-2] + 2 * p[1:-1] + p[2:]
    return (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 4


def _scaled(image: np.ndarray, scale: float) -> np.ndarray:
    height, width = (int(np.ceil(n * scale)) for n in image.shape[:2])
    channels = [Image.fromarray(np.ascontiguousarray(c)) for c in np.moveaxis(image, 2, 0)]
    return np.stack(
        [np.asarray(c.resize((width, height), Image.Resampling.BICUBIC)) for c in channels], axis=2
    )


def _box(image: np.ndarray, size: int) -> np.ndarray:
    """Mean over boxes of an odd size."""
    from scipy.ndimage import uniform_filter  # half a second, that restoring can do without

    return uniform_filter(image, (size, size, 0), mode="nearest")
