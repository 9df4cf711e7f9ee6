"""The embedded data set: dead leaves, pictures of overlapping discs, generated without end.

Discs whose radii follow a power law hide each other as leaves on the ground do, and give
pictures with the edges, scales and statistics of photographs (Lee, Mumford, Huang 2001).
Networks trained on them denoise photographs nearly as well as ones trained on photographs
(Achddou, Gousseau, Ladjal 2021). No download, so it works behind any firewall.
"""

import numpy as np
from PIL import Image, ImageDraw

from noise2noise.cache import Cache
from noise2noise.images import luminance

SIZE = 256  # pixels on a side of a picture
SUPERSAMPLING = 3  # a disc's edge is drawn at three times the resolution, then averaged
RADII = (1.0, 160.0)  # pixels, smallest and largest
EXPONENT = 3.0  # of the radii's density r^-3, which makes the pictures scale-invariant


def dead_leaves(rng: np.random.Generator, size: int = SIZE) -> np.ndarray:
    """Generate one picture: uint8 (size, size, 3)."""
    side = size * SUPERSAMPLING
    radii = _radii(rng, side) * SUPERSAMPLING
    centers = rng.uniform(-radii[:, None] / 2, side + radii[:, None] / 2, (len(radii), 2))
    # Which leaf is on top at each point: the painter's way, from the bottom up.
    leaves = Image.new("I", (side, side))
    draw = ImageDraw.Draw(leaves)
    shapes = rng.random(len(radii))
    for leaf, (radius, (x, y), shape) in enumerate(
        zip(radii.tolist(), centers.tolist(), shapes.tolist(), strict=True)
    ):
        if shape < 0.8:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=leaf)
        else:  # straight edges and corners, which photographs have and discs have not
            turn = shape * 1000
            corners = turn + np.pi / 2 * np.arange(4) + (0.0, 0.5, 0.0, 0.5)
            points = np.stack((x + radius * np.cos(corners), y + radius * np.sin(corners)), 1)
            draw.polygon(points.ravel().tolist(), fill=leaf)
    top = np.asarray(leaves)
    picture = _colors(rng, centers / side)[top]
    picture += _shading(rng, top, radii, side)[..., None]
    picture = picture.reshape(size, SUPERSAMPLING, size, SUPERSAMPLING, 3).mean((1, 3))
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def _radii(rng: np.random.Generator, side: int) -> np.ndarray:
    """Draw enough radii of density r^-3 for four times the square's area, some of it outside."""
    high = RADII[1] ** (1 - EXPONENT)
    smallest = 2 ** rng.uniform(0, 2)  # some pictures have little fine detail, as photographs do
    low = (RADII[0] * smallest) ** (1 - EXPONENT)
    radii = (low + rng.random(20_000) * (high - low)) ** (1 / (1 - EXPONENT))
    covered = np.cumsum(np.pi * (radii * SUPERSAMPLING) ** 2)
    return radii[: np.searchsorted(covered, 4 * side**2) + 1]


def _colors(rng: np.random.Generator, places: np.ndarray) -> np.ndarray:
    """Draw a colour for each leaf, float32 (leaves, 3), neighbours alike.

    Photographs vary much in brightness, little and jointly in hue, and slowly from place to
    place: here brightness and two colour differences are a smooth random field of the place
    (in [0, 1]^2) and a share of each leaf's own.
    """
    count = len(places)
    field = np.zeros((count, 3))
    for frequency in (1, 2, 4):
        waves = rng.normal(size=(2, 3)) * 2 * np.pi * frequency / 2
        field += np.sin(places @ waves + rng.uniform(0, 2 * np.pi, 3)) / frequency
    own = rng.laplace(size=(count, 3)) / np.sqrt(2)
    mix = rng.uniform(0.3, 0.9)
    spread = np.array([rng.uniform(0.14, 0.36), *rng.gamma(2.0, 0.025, 2)])
    center = np.array([rng.uniform(0.25, 0.65), *rng.normal(scale=0.05, size=2)])
    luma, blue, red = (center + spread * (mix * own + (1 - mix) * field)).T
    # Dark places have little colour.
    blue, red = (difference * np.clip(luma * 2, 0, 1) for difference in (blue, red))
    colors = np.stack((luma + 1.4 * red, luma - 0.34 * blue - 0.71 * red, luma + 1.77 * blue), 1)
    return colors.astype(np.float32)


def _shading(rng: np.random.Generator, top: np.ndarray, radii: np.ndarray, side: int) -> np.ndarray:
    """Give some leaves a gradient, some a texture: float32 (side, side), for all channels."""
    count = len(radii)
    along = np.linspace(-1, 1, side, dtype=np.float32)
    slopes = rng.laplace(scale=0.08, size=(2, count)).astype(np.float32)
    shade = slopes[0][top] * along[:, None] + slopes[1][top] * along
    # Texture: noise of a random scale, strong on some leaves and absent on most.
    strengths = (rng.random(count) < 0.5) * rng.gamma(1.5, 0.03, count)
    scale = int(2 ** rng.uniform(0, 3) * SUPERSAMPLING)
    coarse = rng.standard_normal((side // scale + 2,) * 2, dtype=np.float32)
    grain = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
    shade += strengths.astype(np.float32)[top] * np.asarray(grain)
    return shade


class DeadLeaves:
    """Images without end, so without a length: `images[k]` is the k-th of `seed`, any k."""

    window = 48  # images that crops are taken from at a time
    crops_per_image = 32  # a new image comes for every so many crops

    def __init__(self, seed: int, grey: bool = False):
        self._seed, self._grey = seed, grey
        self._cached = Cache(self._make)

    def _make(self, k: int) -> np.ndarray:
        image = dead_leaves(np.random.default_rng((self._seed, k)))
        return luminance(image) if self._grey else image

    def __getitem__(self, k: int) -> np.ndarray:
        return self._cached[k]
