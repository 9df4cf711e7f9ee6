"""Noisy pairs: batches of corrupted (input, target) crops from pictures.

    python data.py               one picture under each filter: weak, test and strong
    python data.py FOLDER        the same with the first picture of FOLDER

The filters themselves are in filters.py; all of them can be had from here.
"""

import argparse
from pathlib import Path

import numpy as np

from deadleaves import CROPS_PER_PICTURE, WINDOW, dead_leaves
from devices import keras
from errors import InputError, run_main
from filters import FILTERS, Filter, bernoulli, bernoulli_mask, gaussian, impulse, poisson, text
from images import LARGE, ImageFiles, find_images, read_rgb

__all__ = [
    "FILTERS",
    "Filter",
    "NoisyDataset",
    "bernoulli",
    "bernoulli_mask",
    "gaussian",
    "impulse",
    "poisson",
    "text",
]

CROPS_PER_DECODING = 8  # of a large folder's pictures, in as many batches


class NoisyDataset(keras.utils.PyDataset):
    """Batches of random crops, corrupted twice: `(input, target)`, float32, channels last.

    Crops are flipped and turned by quarters at random. Input and target are corrupted
    independently, each with a strength of its own drawn from the filter's training range.
    Where the filter drops pixels, a batch is `(input, target, weight)`, with weight
    (batch, height, width) 1 where the target says something, 0 where it does not.

    Every draw comes from a generator seeded by (seed, epoch, index, crop), so any batch, or a
    part of it, can be made again, by any thread and in any order. `dataset[i]` is batch
    `i % steps` of epoch `i // steps`, for any i: Keras sees a stream without end, which it can
    prefetch across the ends of epochs, and wants `fit(dataset, steps_per_epoch=len(dataset))`.

    Parameters
    ----------
    images : sequence of uint8 (height, width, 3)
        Such as `ImageFiles` or `DeadLeaves`; or a folder of image files.
    filter : Filter or str
        What corrupts the crops, one of `FILTERS`.
    batch_size, crop_size, steps : int
        Crops per batch, pixels on a side, batches per epoch.
    clean_targets : bool
        Leave the targets as they are: ordinary supervised training, to compare with.
    seed : int
    first_batch : int
        Where the stream starts, to go on with a run that was interrupted.
    fixed : bool
        For validation: the same `steps` batches again and again, a stream with an end.
    share : (int, int)
        (i, n): make only the i-th of n equal parts of each batch, for the i-th of n processes.

    Raises
    ------
    InputError
        With a folder: that has no image, an unreadable one or one smaller than the crop.
        Where a batch cannot be shared equally.
    """

    def __init__(
        self,
        images,
        filter: Filter | str | None,
        batch_size: int = 16,
        crop_size: int = 64,
        steps: int = 100,
        clean_targets: bool = False,
        seed: int = 0,
        first_batch: int = 0,
        fixed: bool = False,
        share: tuple[int, int] = (0, 1),
        **kwargs,
    ):
        super().__init__(**kwargs)
        if isinstance(images, str | Path):
            images = ImageFiles(find_images(Path(images)), min_size=crop_size)
        self.images = images
        self.filter = FILTERS[filter] if isinstance(filter, str) else filter
        self.batch_size = batch_size
        self.crop_size = crop_size
        self.steps = steps
        self.clean_targets = clean_targets
        self.weighted = bool(self.filter and self.filter.mask) and not clean_targets
        self.seed = seed
        self.first_batch = first_batch
        self.fixed = fixed
        process, processes = share
        if batch_size % processes:
            raise InputError(f"a batch of {batch_size} cannot be shared by {processes} processes")
        part = batch_size // processes
        self._part = range(process * part, (process + 1) * part)
        self.failure: InputError | None = None  # the back end hides exceptions of its threads

    def __len__(self) -> int:
        return self.steps

    @property
    def num_batches(self) -> int | None:
        """What Keras asks for the length; None is a stream without end."""
        return self.steps if self.fixed else None

    def __getitem__(self, i: int) -> tuple[np.ndarray, ...]:
        epoch, index = divmod(self.first_batch + i, self.steps)
        # One stream each, so that crops and inputs are the same with clean targets.
        pictures, *streams = np.random.default_rng((self.seed, epoch, index)).spawn(4)
        beginnings = [stream.bit_generator.state for stream in streams]
        shape = (len(self._part), self.crop_size, self.crop_size)
        inputs = np.empty((*shape, 3), np.float32)
        targets = np.empty((*shape, 3), np.float32)
        weights = np.ones(shape, np.float32)
        chosen = self._pictures(epoch, index, pictures)
        for j, crop in enumerate(self._part):
            # Far apart in each stream, so that a crop does not depend on those before it.
            for stream, beginning in zip(streams, beginnings, strict=True):
                stream.bit_generator.state = beginning
                stream.bit_generator.advance(crop << 64)
            try:
                pair = self._pair(int(chosen[crop]), *streams)
            except InputError as error:
                self.failure = error
                raise
            inputs[j], targets[j], weights[j] = pair
        if self.weighted:
            return inputs, targets, weights
        return inputs, targets

    def _pair(self, k: int, crops, noise, target_noise):
        """Return input, target and the target's weights from a random part of picture k."""
        (clean,) = self._cut(crops, self.images[k])
        corrupted, _ = self._corrupt(clean, noise)
        return corrupted, *(
            (clean, 1) if self.clean_targets else self._corrupt(clean, target_noise)
        )

    def _pictures(self, epoch: int, index: int, rng: np.random.Generator) -> np.ndarray:
        """Return the indices of the pictures that batch `index` of `epoch` is cut from."""
        if not hasattr(self.images, "__len__"):  # generated without end: fresh ones come in
            crops = (epoch * self.steps + index) * self.batch_size + np.arange(self.batch_size)
            return crops // CROPS_PER_PICTURE + rng.integers(WINDOW, size=self.batch_size)
        # The report's shuffled indices: an order per epoch, gone through again and again.
        # Pictures too many to keep serve in several batches in a row for one decoding.
        reuse = 1 if len(self.images) < LARGE else CROPS_PER_DECODING
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.images))
        first = index // reuse * self.batch_size
        return order[np.arange(first, first + self.batch_size) % len(order)]

    def _cut(self, rng: np.random.Generator, *pictures: np.ndarray) -> list[np.ndarray]:
        """Cut the same random part of each picture, turned and flipped alike, to float32."""
        size = self.crop_size
        top, left = (rng.integers(n - size + 1) for n in pictures[0].shape[:2])
        turns, flip = rng.integers(4), rng.integers(2)
        crops = []
        for picture in pictures:
            crop = np.rot90(picture[top : top + size, left : left + size], turns)
            crop = crop[:, ::-1] if flip else crop
            crops.append(np.divide(crop, np.iinfo(crop.dtype).max, dtype=np.float32))
        return crops

    def _corrupt(self, clean: np.ndarray, rng: np.random.Generator):
        """Return a corrupted crop and the weight of each of its pixels as a target."""
        strength = rng.uniform(*self.filter.training)
        if self.filter.mask is None:
            return self.filter.corrupt(clean, strength, rng), 1
        mask = self.filter.mask(clean.shape, strength, rng)
        return clean * mask, mask[..., 0]


class CapturedPairs(NoisyDataset):
    """Batches of `(input, target)` from two different exposures of a scene, any ordered pair.

    Parameters
    ----------
    scenes : captured.Scenes
    Others as for `NoisyDataset`.
    """

    def __init__(self, scenes, **options):
        super().__init__(scenes, None, **options)

    def _pair(self, k: int, crops, noise, target_noise):
        exposures = self.images[k]
        chosen = noise.choice(len(exposures), 2, replace=False)
        return *self._cut(crops, *(exposures[i] for i in chosen)), 1


def main() -> None:
    parser = argparse.ArgumentParser(description="Show a picture under each noise filter.")
    parser.add_argument(
        "folder", nargs="?", type=Path, help="of images (default: a generated picture)"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("filters.png"), help="the figure (%(default)s)"
    )
    args = parser.parse_args()
    import figures

    if args.folder:
        picture = read_rgb(find_images(args.folder)[0])
    else:
        picture = dead_leaves(np.random.default_rng(0), size=256)
    figures.save_and_show(figures.filter_sheet(picture), args.output)


if __name__ == "__main__":
    run_main(main)
