"""How restored pictures are scored: PSNR, SSIM, and the same noise every time."""

import numpy as np

from noise2noise.filters import Filter
from noise2noise.images import middle
from noise2noise.ranges import to_8bit, to_network
from noise2noise.tiles import restore_image

MIN_SIZE = 11  # pixels on a side, of SSIM's window
MEASURED, MIDDLE = 4, 512  # scenes of `psnr_by_exposures`, and pixels on a side of their middle


def psnr(image: np.ndarray, original: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB, over all channels of two uint8 images."""
    error = np.subtract(image, original, dtype=np.float64)
    return float(10 * np.log10(255**2 / np.mean(error**2))) if error.any() else float("inf")


def ssim(image: np.ndarray, original: np.ndarray) -> float:
    """Structural similarity of two uint8 images, mean over channels.

    Gaussian window of standard deviation 1.5 as in Wang et al. 2004; scikit-image's code.
    """
    from skimage.metrics import structural_similarity

    return float(
        structural_similarity(
            image,
            original,
            channel_axis=-1,
            data_range=255,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def psnr_by_exposures(model, scenes) -> float:
    """Return the PSNR in dB of what a network makes of exposures, without a clean picture.

    Two exposures of a scene are restored, and each is compared with the other as it is, whose noise
    is independent of it: their mean squared difference is that from the truth and the variance of
    that noise. Both noises' variances together are the mean squared difference of the two
    exposures, which is taken off: however strong each is, the mean of both errors is left. That is
    measured in the middle of a few scenes. What shifts the two against each other counts as error.

    Parameters
    ----------
    model : as for `tiles.restore_image`
    scenes : scenes.Scenes
        Of two exposures each, or more: the first two count.

    Returns
    -------
    float
        Of the range that the network takes for 0 to 1; infinite where no error can be told.
    """
    errors = []
    for k in range(0, len(scenes), -(-len(scenes) // MEASURED)):
        pair = [middle(scenes[k][i], MIDDLE) for i in (0, 1)]
        restored = []
        for image in pair:
            channels = image.shape[2]
            if channels < model.output_shape[-1]:  # grey ones, by a network for colours
                image = np.repeat(image, 3, axis=2)
            image = restore_image(model, image, span=scenes.span, keep_means=True)
            restored.append(to_network(image[..., :channels], scenes.span))
        first, other = (to_network(image, scenes.span) for image in pair)
        apart = (restored[0] - other, restored[1] - first, first - other)
        squares = [np.mean(difference**2, dtype=np.float64) for difference in apart]
        errors.append((squares[0] + squares[1] - squares[2]) / 2)
    error = float(np.mean(errors))
    return -10 * np.log10(error) if error > 0 else np.inf


METRICS = {"PSNR": (psnr, 2), "SSIM": (ssim, 4)}  # of two uint8 images; digits in tables


def corrupt_for_score(
    filter: Filter, original: np.ndarray, index: int, strength: float | None = None
) -> np.ndarray:
    """Corrupt picture number `index` of a test set: the same noise whenever it is asked for.

    Parameters
    ----------
    original : uint8 (height, width, channels)
    index : int
        Seeds the noise.
    strength : float, optional
        The filter's test strength where none is given.

    Returns
    -------
    float32 (height, width, channels), clipped by the camera only
    """
    clean = np.divide(original, 255, dtype=np.float32)
    strength = filter.test if strength is None else strength
    return filter.corrupt(clean, strength, np.random.default_rng(index))


def noisy_and_restored(
    model, filter: Filter, original: np.ndarray, index: int, strength: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return what is scored: picture number `index` corrupted, and restored, both uint8.

    `model` is as for `tiles.restore_image`, the rest as for `corrupt_for_score`.
    """
    noisy = corrupt_for_score(filter, original, index, strength)
    return to_8bit(noisy), to_8bit(restore_image(model, noisy))
