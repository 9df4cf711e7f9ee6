"""Scenes that are drawn, for what photographs show too little of: night skies, and pages.

A network that has not learned bright spots beside little noise, or thin black lines on white,
takes them for noise in part, or noise for them. `pairs` mixes them into the simulated camera's
scenes.
"""

import string
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from noise2noise.images import LUMINANCE, luminance

FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono"),
    *("DejaVuSerif", "DejaVuSerif-Italic"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic"),
)
FONT_SIZES = 8, 40  # pixels, smallest and largest
LETTERS = list(2 * string.ascii_lowercase + string.ascii_uppercase + string.digits + ".,()-")


def draw_sky(rng: np.random.Generator, size: int, channels: int) -> np.ndarray:
    """Draw a night sky, float32 (size, size, channels) in [0, 1]: stars, half of the time a glow.

    What is much brighter than all around it is rare in photographs, and as noise is: a network
    that has not learned such spots beside little noise digs holes around them, or smears them.
    """
    y, x = np.mgrid[:size, :size].astype(np.float32)
    sky = np.full((size, size, channels), 10 ** rng.uniform(-3, -1), np.float32)

    def shine(peak: float, sigma: float, reach: int) -> None:
        top, left = rng.uniform(-4, size + 4, 2)
        place = tuple(slice(max(0, int(n) - reach), max(0, int(n) + reach)) for n in (top, left))
        squares = (y[place] - top) ** 2 + (x[place] - left) ** 2
        color = peak * rng.uniform(0.6, 1, channels)
        sky[place] += color * np.exp(squares[..., None] / (-2 * sigma**2))

    if rng.random() < 0.5:
        shine(10 ** rng.uniform(-3, -1), rng.uniform(0.1, 1) * size, size)
    sigma = rng.uniform(0.7, 2.5)  # of all stars: the lens' and the air's
    for _ in range(int(10 ** rng.uniform(0, 2))):
        shine(10 ** rng.uniform(-3, 0.3), sigma, int(6 * sigma) + 1)
    return sky.clip(0, 1)


def draw_specimen(rng: np.random.Generator, scene: np.ndarray) -> np.ndarray:
    """Draw what glows on a black ground, as dyed cells do: what is brightest in a scene.

    Where there is no light there is no noise of it. A network that has not learned such areas
    takes noise beside them for the picture's own texture.

    Parameters
    ----------
    scene : float32 (size, size, channels) in [0, 1]

    Returns
    -------
    float32 of the scene's shape, in [0, 1]
    """
    shown = scene
    if rng.random() < 0.7:
        from scipy.ndimage import gaussian_filter

        shown = gaussian_filter(shown, 10 ** rng.uniform(-0.3, 0.5), axes=(0, 1))
    ground = np.quantile(shown, rng.uniform(0.1, 0.95))
    shown = (shown - ground).clip(0) / np.float32(max(1e-3, shown.max() - ground))
    colors = rng.random(scene.shape[2], np.float32)
    return shown * (colors / colors.max()) * np.float32(10 ** rng.uniform(-1, 0))


def draw_page(rng: np.random.Generator, scene: np.ndarray) -> np.ndarray:
    """Draw text, lines, grids and boxes on paper, or on the scene.

    Half of the pages are sharp to the pixel, as on screens, half soft, as printed and scanned.

    Parameters
    ----------
    scene : float32 (size, size, 3), or grey (size, size, 1), in [0, 1]

    Returns
    -------
    float32 of the scene's shape, in [0, 1]
    """
    size, channels = scene.shape[0], scene.shape[2]
    times = int(rng.integers(1, 4))  # drawn larger and averaged, or lines have no soft edges
    papers = rng.uniform(0.8, 1), rng.uniform(0, 0.2), rng.random()
    brightness = rng.choice(papers, p=(0.6, 0.15, 0.25))
    paper = _color(rng, brightness, 0.3 * rng.random() ** 2)
    if rng.random() < 0.3:  # a caption, a screen with a picture
        page = Image.fromarray(np.rint(scene * 255).astype(np.uint8).squeeze()).convert("RGB")
        page = page.resize((size * times, size * times), Image.Resampling.BICUBIC)
    else:
        page = Image.new("RGB", (size * times, size * times), paper)
    draw = ImageDraw.Draw(page)
    draw.fontmode = "1" if times == 1 and rng.random() < 0.2 else "L"
    bright = np.dot(paper, LUMINANCE) / 255
    for _ in range(rng.integers(1, 5)):
        # Mostly as far from the paper as can be; faint ones are there, too.
        strength = rng.random() ** 0.5
        ink = _color(rng, bright + strength * ((bright < 0.5) - bright), 0.5 * rng.random())
        kind = rng.choice((_text, _curves, _grid, _boxes), p=(0.5, 0.2, 0.15, 0.15))
        kind(draw, rng, size, times, ink)
    if times > 1:
        page = page.reduce(times)
    result = np.asarray(page) if channels == 3 else luminance(np.asarray(page))
    result = result / np.float32(255)
    if rng.random() < 0.5:
        from scipy.ndimage import gaussian_filter

        result = gaussian_filter(result, rng.uniform(0.3, 1.2), axes=(0, 1))
    if rng.random() < 0.3:  # light that falls from one side
        slope = np.linspace(1, rng.uniform(0.6, 1), size, dtype=np.float32)
        result = result * slope[:, None, None]
    return np.rot90(result, rng.integers(4))


def _color(rng: np.random.Generator, brightness: float, spread: float) -> tuple[int, ...]:
    """Draw a colour of about such a brightness in [0, 1]."""
    values = brightness + spread * rng.uniform(-0.5, 0.5) + 0.5 * spread * rng.normal(size=3)
    return tuple(int(n) for n in np.rint(values.clip(0, 1) * 255))


def _length(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a length in pixels, as often 4 to 8 as 8 to 16."""
    return float(np.exp(rng.uniform(*np.log((low, high)))))


# What is drawn on a page of so many pixels on a side, each drawn as times x times.


def _text(draw: ImageDraw.ImageDraw, rng, size: int, times: int, ink) -> None:
    """Write some lines of random words."""
    height = int(_length(rng, *FONT_SIZES) * times)
    font = load_font(str(rng.choice(FONTS)), height)
    place = tuple(rng.uniform(-0.5, 0.7, 2) * size * times)
    count = int(rng.integers(1, 2 + size * times // height))
    length = 1 + 2 * size * times // height
    letters = rng.choice(LETTERS, (count, length))
    letters[rng.random(letters.shape) < 0.18] = " "
    draw.multiline_text(
        place, "\n".join(map("".join, letters)), ink, font, spacing=rng.uniform(0, 0.6) * height
    )


@cache
def load_font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """Return a font that comes with Matplotlib, so that no machine lacks it."""
    import matplotlib  # slow to import

    path = Path(matplotlib.get_data_path()) / "fonts/ttf" / f"{name}.ttf"
    return ImageFont.truetype(path, size)


def _curves(draw: ImageDraw.ImageDraw, rng, size: int, times: int, ink) -> None:
    """Draw smooth curves, as of a chart or by hand."""
    width = max(1, round(_length(rng, 0.7, 5) * times))
    for _ in range(rng.integers(1, 12)):
        t = np.linspace(0, 1, 40)[:, None]
        waves = rng.integers(1, 5) * t * np.pi + rng.uniform(0, 2 * np.pi, 2)
        places = rng.random(2) + rng.normal(size=2) * t + rng.normal(size=2) / 5 * np.sin(waves)
        draw.line([tuple(place) for place in places * size * times], ink, width, "curve")


def _grid(draw: ImageDraw.ImageDraw, rng, size: int, times: int, ink) -> None:
    """Draw parallel lines, or a grid of them: ruled paper, hatching, tables."""
    spacing = _length(rng, 2, 40)
    width = max(1, round(_length(rng, 0.5, max(0.6, spacing / 3)) * times))
    left, top, wide, high = rng.uniform((0, 0, 0.2, 0.2), (0.6, 0.6, 1, 1)) * size * times
    slope = rng.choice((0, 0, rng.normal()))
    crossed = rng.random() < 0.3
    for n in np.arange(0, max(wide, high), spacing * times):
        if n < wide:
            draw.line((left + n, top, left + n + slope * high, top + high), ink, width)
        if crossed and n < high:
            draw.line((left, top + n, left + wide, top + n - slope * wide), ink, width)


def _boxes(draw: ImageDraw.ImageDraw, rng, size: int, times: int, ink) -> None:
    """Draw boxes and ovals, filled or not."""
    for _ in range(rng.integers(1, 8)):
        middle, half = rng.random(2), np.exp(rng.uniform(-4, -0.7, 2))
        box = (*((middle - half) * size * times), *((middle + half) * size * times))
        shape = draw.rectangle if rng.random() < 0.7 else draw.ellipse
        width = max(1, round(_length(rng, 0.7, 4) * times))
        shape(box, fill=ink if rng.random() < 0.4 else None, outline=ink, width=width)
