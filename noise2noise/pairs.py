"""What a training batch is: crops of images, corrupted twice.

A process that makes batches starts without Keras. `data.py` gives them to Keras.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from noise2noise import cache, camera, drawn
from noise2noise.filters import Filter
from noise2noise.ranges import to_network

TRAINING, VALIDATION = 0, 1  # streams of random numbers
LITTLE_NOISE = 5 / 255  # standard deviation: a crop with so much counts half as one without
SKIES = 0.1  # the share of a camera's crops that show a night sky
PAGES = 0.2  # the share of the others that show text or lines
SPECIMENS = 0.2  # the share of a sensor's others that show what glows on a black ground
FAINT_NOISE = 2 / 255  # a sky with so much counts 1, with less more
MEDIAN_SQUARE = 0.455  # of Gaussian noise of variance 1
# Two pixels side by side of a cell of 2 x 2, in order: input and target.
NEIGHBOURS = np.array([(0, 1), (0, 2), (1, 3), (2, 3), (1, 0), (2, 0), (3, 1), (3, 2)])


class NoisyPairs:
    """Every batch of a training, by its number: `(input, target)` or `(input, target, weight)`.

    Crops are flipped and turned by quarters at random. Input and target are corrupted
    independently, each with a strength of its own drawn from the filter's training range.
    Every draw comes from a generator seeded by (seed, epoch, index, stream) and the crop, so any
    batch, or a part of it, can be made again, by any thread or process and in any order.

    Parameters
    ----------
    images : sequence of uint8 (height, width, 3), grey (height, width, 1)
        Such as `ImageFiles` or `DeadLeaves`.
    filter : Filter or None
        What corrupts the crops.
    batch_size, crop_size, steps : int
        Crops per batch, pixels on a side, batches per epoch.
    clean_targets : bool
        Leave the targets as they are.
    seed : int
    stream : int
        Of two with one seed and different streams, no crop has a draw in common.
    channels : int
        Of the images: 3, or 1 for grey ones.
    large_from : int or None
        Number of the batch from which on each has a quarter as many crops, of twice the size. On
        crops of 64 pixels the U-Net's innermost layers see 2x2 values and the padding around
        them, never what is between: trained so alone for long, it breaks down on larger pictures.
    flat_areas : float
        Share of the crops that have an area of one colour (`paint`); not of a camera's.
    """

    def __init__(
        self,
        images,
        filter: Filter | None,
        batch_size: int,
        crop_size: int,
        steps: int,
        clean_targets: bool = False,
        seed: int = 0,
        stream: int = TRAINING,
        channels: int = 3,
        large_from: int | None = None,
        flat_areas: float = 0.0,
    ):
        self.images = images
        self.filter = filter
        self.batch_size = batch_size
        self.crop_size = crop_size
        self.steps = steps
        self.clean_targets = clean_targets
        self.weighted = bool(filter and filter.mask) and not clean_targets
        self.seed = seed
        self.stream = stream
        self.channels = channels
        self.large_from = large_from
        self.flat_areas = flat_areas
        # Images too many to keep, or generated without end, serve several crops for one
        # decoding: crops come from a window of so many images, which moves on (`cache.window`).
        self.window = getattr(images, "window", 0)
        self.crops_per_image = getattr(images, "crops_per_image", 1)

    def size(self, number: int) -> int:
        """Return the pixels on a side of the crops of batch `number`."""
        return self.crop_size * (2 if self._is_large(number) else 1)

    def crops(self, number: int, usual: range) -> range:
        """Return the crops of batch `number` that stand for some of a usual one."""
        return range(usual.start // 4, usual.stop // 4) if self._is_large(number) else usual

    def _is_large(self, number: int) -> bool:
        return self.large_from is not None and number >= self.large_from

    def shapes(self, number: int, crops: int) -> list[tuple[int, ...]]:
        """Return the shapes of the arrays of so many crops of batch `number`."""
        shape = (crops, *(2 * [self.size(number)]))
        return [(*shape, self.channels)] * 2 + ([shape] if self.weighted else [])

    def make(self, number: int, crops: Sequence[int]) -> tuple[np.ndarray, ...]:
        """Return some crops of batch `number`, counted from the training's beginning.

        float32: input and target (crops, size, size, channels), any value, and where the filter
        drops pixels weight (crops, size, size), 1 where the target says something, 0 where it
        does not (a camera's: `CameraPairs`). Raises `InputError` for a picture that cannot be read.
        """
        chosen, streams = self._sample_plan(number)
        size = self.size(number)
        beginnings = [stream.bit_generator.state for stream in streams]
        batch = tuple(np.empty(shape, np.float32) for shape in self.shapes(number, len(crops)))
        for j, crop in enumerate(crops):
            # Far apart in each stream, so that a crop does not depend on those before it.
            for stream, beginning in zip(streams, beginnings, strict=True):
                stream.bit_generator.state = beginning
                stream.bit_generator.advance(crop << 64)
            pair = self._pair(int(chosen[crop]), size, *streams)
            for array, values in zip(batch, pair[: len(batch)], strict=True):
                array[j] = values
        return batch

    def workers_crops(self, number: int, crops: range, i: int, count: int) -> Sequence[int]:
        """Return which crops of batch `number` the i-th of `count` workers makes."""
        large = self.window or getattr(self.images, "total", 0) > cache.CACHE_BYTES
        if hasattr(self.images, "__len__"):  # or they are generated
            # Of so few images most processes would have none.
            large = large and min(self.window or len(self.images), len(self.images)) >= count
        if not large:
            return crops[i::count]
        # An image serves crops of many batches: no two processes decode, generate or keep one.
        chosen, _ = self._sample_plan(number)
        return [crop for crop in crops if chosen[crop] % count == i]

    def _sample_plan(self, number: int):
        """Return the image of each of a batch's crops, and three streams of random numbers."""
        epoch, index = divmod(number, self.steps)
        # One stream each, so that crops and inputs are the same with clean targets.
        rng = np.random.default_rng((self.seed, epoch, index, self.stream))
        choice, *streams = rng.spawn(4)
        return self._images(number, choice), streams

    def _images(self, number: int, rng: np.random.Generator) -> np.ndarray:
        """Return the indices of the images that batch `number` is cut from."""
        crops = len(self.crops(number, range(self.batch_size)))
        if not self.window:
            # The report's shuffled indices: an order per epoch, gone through again and again.
            epoch, index = divmod(number, self.steps)
            order = self._order(epoch)
            return order[np.arange(index * crops, (index + 1) * crops) % len(order)]
        places = (number * crops + np.arange(crops)) // self.crops_per_image
        places += rng.integers(self.window, size=crops)
        if not hasattr(self.images, "__len__"):
            return places
        rounds, places = np.divmod(places, len(self.images))
        orders = {r: self._order(r) for r in np.unique(rounds)}
        return np.array([orders[r][k] for r, k in zip(rounds, places, strict=True)])

    def _order(self, round_: int) -> np.ndarray:
        """Return the images' order, shuffled anew for each round."""
        return np.random.default_rng((self.seed, round_)).permutation(len(self.images))

    def _pair(self, k: int, size: int, crop_rng, input_rng, target_rng):
        """Return input, target and the target's weights from a random part of image k."""
        (clean,) = self._cut(crop_rng, size, self.images[k])
        if self.flat_areas and crop_rng.random() < self.flat_areas:
            paint(clean, crop_rng)
        corrupted, _ = self._corrupt(clean, input_rng)
        return corrupted, *((clean, 1) if self.clean_targets else self._corrupt(clean, target_rng))

    def _cut(self, rng: np.random.Generator, size: int, *images: np.ndarray) -> list[np.ndarray]:
        """Cut the same random part of each image, turned and flipped alike, to float32.

        Images that are smaller go on as mirrored.
        """
        if missing := max(0, size - min(images[0].shape[:2])):
            sides = ((0, missing), (0, missing), (0, 0))
            images = [np.pad(image, sides, mode="symmetric") for image in images]
        top, left = (rng.integers(n - size + 1) for n in images[0].shape[:2])
        turns, flip = rng.integers(4), rng.integers(2)
        crops = []
        for image in images:
            crop = np.rot90(image[top : top + size, left : left + size], turns)
            crop = crop[:, ::-1] if flip else crop
            crops.append(to_network(crop, getattr(self.images, "span", None)))
        return crops

    def _corrupt(self, clean: np.ndarray, rng: np.random.Generator):
        """Return a corrupted crop and the weight of each of its pixels as a target: its mask."""
        strength = rng.uniform(*self.filter.training)
        if self.filter.mask is None:
            return self.filter.corrupt(clean, strength, rng), 1
        mask = self.filter.mask(clean.shape, strength, rng)
        return clean * mask, mask[..., 0]


def paint(crop: np.ndarray, rng: np.random.Generator) -> None:
    """Give a float32 crop a random area of one colour: half of the time black, half a whole side.

    Areas without any structure are rare in photographs, but not in picture files: frames, bars,
    drawings, Kodak's line of black at one side. A network that has not learned them takes an
    area of black for one of lost pixels, and makes it grey.
    """
    size = len(crop)
    height, width = ((size + 1) ** rng.random(2)).astype(int)  # as often 1 to 2 as 32 to 64
    colour = 0 if rng.random() < 0.5 else rng.random(crop.shape[-1])
    if rng.random() < 0.5:
        np.rot90(crop, rng.integers(4))[:height] = colour
        return
    top, left = rng.integers(size - height + 1), rng.integers(size - width + 1)
    crop[top : top + height, left : left + width] = colour


class CapturedPairs(NoisyPairs):
    """Two different exposures of a scene, any ordered pair or near ones; of `scenes.Scenes`."""

    def _pair(self, k: int, size: int, crop_rng, input_rng, target_rng):
        exposures = self.images[k]
        chosen = input_rng.choice(len(exposures), 2, replace=False)
        if far := self.images.neighbours:  # in time
            first = int(chosen[0])
            near = [i for i in range(first - far, first + far + 1) if 0 <= i < len(exposures)]
            near.remove(first)
            chosen = first, near[input_rng.integers(len(near))]
        return *self._cut(crop_rng, size, *(exposures[i] for i in chosen)), 1


class SinglePairs(NoisyPairs):
    """One exposure, sub-sampled twice: two random neighbours of each cell of 2 x 2 pixels.

    The random neighbour sub-sampling of Neighbor2Neighbor (Huang et al., CVPR 2021), from regions
    of twice the crop's size; of `scenes.Scenes` of one exposure each. A batch is `(region, chosen,
    target)`: `chosen` (crops, size, size) says which of `NEIGHBOURS` of each cell are input and
    target, so that the input can be cut from the region, and the region be restored whole
    (`neighbours`).
    """

    def shapes(self, number: int, crops: int) -> list[tuple[int, ...]]:
        """Return the shapes of the arrays of so many crops of batch `number`."""
        size, channels = self.size(number), self.channels
        region, chosen = (crops, 2 * size, 2 * size, channels), (crops, size, size)
        return [region, chosen, (*chosen, channels)]

    def _pair(self, k: int, size: int, crop_rng, input_rng, target_rng):
        (region,) = self._cut(crop_rng, 2 * size, self.images[k][0])
        cells = region.reshape(size, 2, size, 2, -1).swapaxes(1, 2).reshape(size, size, 4, -1)
        chosen = input_rng.integers(len(NEIGHBOURS), size=(size, size))
        second = NEIGHBOURS[chosen, 1][..., None, None]
        return region, chosen, np.take_along_axis(cells, second, axis=2)[:, :, 0]


class CameraPairs(NoisyPairs):
    """Two exposures of a scene by one simulated camera, another one for each crop.

    A crop's weight is the less the more noise it has: what is left of noise grows with it, and
    without weights strong noise were nearly all that is learned from. It is in (0, 1); of night
    skies, whose noise is far weaker, up to 300.
    """

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.weighted = True

    def _pair(self, k: int, size: int, crop_rng, input_rng, target_rng):
        grey, offset = self.channels == 1, 0.0
        if sky := crop_rng.random() < SKIES:
            shot = camera.draw_telescope(crop_rng, grey, self.filter.independent)
            scene = drawn.draw_sky(crop_rng, camera.scene_size(shot, size), self.channels)
            noise = target_noise = camera.draw_faint_noise(input_rng)
        else:
            shot = self.filter.draw_camera(crop_rng, grey)
            (scene,) = self._cut(crop_rng, camera.scene_size(shot, size), self.images[k])
            if crop_rng.random() < PAGES:
                scene = drawn.draw_page(crop_rng, scene)
            draw = partial(camera.draw_noise, shot)
            if self.filter.independent and crop_rng.random() < SPECIMENS:
                scene = drawn.draw_specimen(crop_rng, scene)
                offset = crop_rng.uniform(0, 0.3) if crop_rng.random() < 0.3 else 0.0
                draw = camera.draw_few_photons
            noise, target_noise = draw(input_rng), draw(target_rng)
        target_noise = (0, 0) if self.clean_targets else target_noise
        shots = camera.two_exposures(scene, size, shot, noise, target_noise, input_rng, target_rng)
        shots = [shot + np.float32(offset) for shot in shots]
        squares = (shots[0] - shots[1]) ** 2 / 2
        if sky:  # its bright stars have more noise: their pixels are few
            std = np.sqrt(np.median(squares) / MEDIAN_SQUARE)
            return *shots, min((FAINT_NOISE / (std + 1e-5)) ** 1.5, 300)
        return *shots, LITTLE_NOISE / (np.sqrt(np.mean(squares)) + LITTLE_NOISE)
