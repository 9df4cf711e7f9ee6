"""What the filters promise: nothing clipped, nothing quantised, the formula's mean."""

from types import SimpleNamespace

import numpy as np
import pytest

from noise2noise.filters import (
    FILTERS,
    _poisson_of_levels,
    bernoulli,
    bernoulli_mask,
    gaussian,
    poisson,
    text,
)

COPIES = 4000


@pytest.fixture
def picture() -> np.ndarray:
    """12 x 12 pixels with black, white and everything between."""
    picture = np.random.default_rng(0).integers(0, 256, (12, 12, 3)).astype(np.uint8)
    picture[:4] = 0
    picture[-4:] = 255
    return np.divide(picture, 255, dtype=np.float32)


def copies(filter, picture, strength) -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.stack([filter(picture, strength, rng) for _ in range(COPIES)])


def deviations(noisy: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """How many standard errors the mean of the copies is off, at each value."""
    standard_error = noisy.std(0, dtype=np.float64) / np.sqrt(len(noisy))
    return (noisy.mean(0, dtype=np.float64) - picture) / np.maximum(standard_error, 1e-12)


@pytest.mark.parametrize(
    ("filter", "strength"), [(gaussian, 25), (gaussian, 50), (poisson, 30), (poisson, 1)]
)
def test_the_mean_of_many_noisy_copies_is_the_clean_picture(picture, filter, strength):
    off = deviations(copies(filter, picture, strength), picture)
    assert np.abs(off).max() < 4.5  # of 432 values, standard normal
    assert np.sqrt(np.mean(off[picture > 0] ** 2)) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize(("filter", "strength"), [(gaussian, 25), (poisson, 30)])
def test_the_reports_8_bit_cast_would_break_that(picture, filter, strength):
    noisy = copies(filter, picture, strength)
    cast = (noisy * 255).astype(np.int64).astype(np.uint8) / np.float32(255)
    assert np.abs(deviations(cast, picture)).max() > 50
    white = picture == 1
    assert cast.mean(0)[white].mean() < 0.8  # what wraps round turns black
    assert noisy.mean(0)[white].mean() == pytest.approx(1, abs=0.01)


def test_the_mean_of_bernoulli_copies_under_their_weights_is_the_clean_picture(picture):
    rng = np.random.default_rng(1)
    masks = np.stack([bernoulli_mask(picture.shape, 0.5, rng) for _ in range(COPIES)])
    weighted = (picture * masks).sum(0, dtype=np.float64) / masks.sum(0)
    np.testing.assert_allclose(weighted, picture, rtol=1e-5)
    assert masks.mean() == pytest.approx(0.5, abs=5 * 0.5 / np.sqrt(masks.size))
    # Without them it is half as bright, which is the report's darkening.
    assert (picture * masks).mean() == pytest.approx(0.5 * picture.mean(), rel=0.02)


def test_bernoulli_drops_all_channels_of_a_pixel_together_by_its_mask(picture):
    picture += 0.1
    noisy = bernoulli(picture, 0.5, np.random.default_rng(3))
    mask = bernoulli_mask(picture.shape, 0.5, np.random.default_rng(3))
    np.testing.assert_array_equal(noisy, picture * mask)
    assert set(np.unique(mask)) == {0, 1}


def test_the_spread_is_the_formulas(picture):
    grey = np.full((200, 200, 3), 0.5, np.float32)
    rng = np.random.default_rng(0)
    assert gaussian(grey, 25, rng).std() == pytest.approx(25 / 255, rel=0.01)
    assert poisson(grey, 30, rng).var() == pytest.approx(0.5 / 30, rel=0.02)


@pytest.mark.parametrize("p", [0.05, 0.25, 0.5])
def test_text_covers_the_asked_share_and_leaves_the_rest_alone(p):
    picture = np.random.default_rng(0).random((256, 320, 3), dtype=np.float32)
    noisy = text(picture, p, np.random.default_rng(5))
    share = np.any(noisy != picture, axis=2).mean()
    assert p <= share < p + 0.03  # past it by one string at most
    assert noisy.min() >= 0
    assert noisy.max() <= 1


def test_text_covers_corners_as_much_as_the_middle():
    picture = np.full((64, 64, 3), 0.5, np.float32)
    rng = np.random.default_rng(0)
    covered = np.mean([np.any(text(picture, 0.25, rng) != 0.5, axis=2) for _ in range(600)], axis=0)
    corners = np.mean([covered[:8, :8], covered[:8, -8:], covered[-8:, :8], covered[-8:, -8:]])
    assert corners == pytest.approx(covered[24:40, 24:40].mean(), rel=0.25)


def test_no_text_at_strength_zero(picture):
    np.testing.assert_array_equal(text(picture, 0, np.random.default_rng(0)), picture)


@pytest.mark.parametrize("filter", FILTERS.values(), ids=lambda filter: filter.name)
def test_filters_are_pure(picture, filter):
    before = picture.copy()
    first, again, other = (
        filter.corrupt(picture, filter.test, np.random.default_rng(seed)) for seed in (7, 7, 8)
    )
    np.testing.assert_array_equal(picture, before)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.dtype == np.float32
    assert first.shape == picture.shape


@pytest.mark.parametrize("photons", [1, 7.3, 30, 50])
def test_poisson_counts_of_pictures_have_the_poisson_distribution(photons):
    """8-bit pictures take a faster way: its counts against the probabilities, level by level."""
    for level in (0, 3, 128, 255):
        image = np.full((600, 600, 3), level, np.uint8) / np.float32(255)
        counts = np.rint(poisson(image, photons, np.random.default_rng(level)) * photons)
        mean = photons * level / 255
        seen = np.bincount(counts.astype(int).ravel(), minlength=120)[:120]
        k = np.arange(120)
        log_factorials = np.cumsum(np.log(np.maximum(k, 1)))
        expected = counts.size * np.exp(k * np.log(max(mean, 1e-300)) - mean - log_factorials)
        common = expected > 20
        deviation = (seen - expected)[common] / np.sqrt(expected[common])
        assert np.abs(deviation).max() < 5
        assert seen[~common].sum() <= 2 * expected[~common].sum() + 20


def test_no_poisson_count_is_beyond_the_last_of_its_table():
    largest = np.nextafter(np.float32(1), np.float32(0))
    rng = SimpleNamespace(random=lambda shape, dtype: np.full(shape, largest, dtype))
    levels = np.arange(256)
    for photons in np.random.default_rng(0).uniform(1, 60, 50):
        mean = photons * levels / 255
        assert (_poisson_of_levels(levels, photons, rng) <= mean + 6 * np.sqrt(mean) + 9).all()


def test_poisson_counts_take_any_picture_and_any_light():
    rng = np.random.default_rng(0)
    between_levels = np.full((200, 200, 3), 0.5003, np.float32)
    assert poisson(between_levels, 30, rng).mean() == pytest.approx(0.5003, rel=3e-3)
    grey = np.full((200, 200, 3), 128, np.uint8) / np.float32(255)
    assert poisson(grey, 5000, rng).mean() == pytest.approx(128 / 255, rel=1e-3)


def test_what_is_known_of_each_filter_is_the_papers():
    zero_mean = {f.name for f in FILTERS.values() if f.zero_mean}
    assert zero_mean == {"gaussian", "poisson", "camera", "sensor"}
    assert {f.name for f in FILTERS.values() if f.oriented} == {"text"}
    strengths = {name: (*f.training, f.test) for name, f in FILTERS.items() if f.training}
    assert strengths == {
        "gaussian": (0, 50, 25),
        "poisson": (1, 50, 30),
        "bernoulli": (0, 0.95, 0.5),
        "text": (0, 0.5, 0.25),
        "impulse": (0, 0.95, 0.7),
    }


def test_impulse_puts_random_colours_in_place_of_the_asked_share_of_pixels():
    picture = np.full((200, 200, 3), 0.5, np.float32)
    noisy = FILTERS["impulse"].corrupt(picture, 0.2, np.random.default_rng(0))
    changed = noisy != picture
    assert changed.any(2).mean() == pytest.approx(0.2, abs=0.01)
    np.testing.assert_array_equal(changed.all(2), changed.any(2))
    assert (np.ptp(noisy[changed.all(2)], axis=1) > 0).all()


def test_text_is_written_in_colours():
    noisy = text(np.zeros((128, 128, 3), np.float32), 0.3, np.random.default_rng(0))
    assert (np.ptp(noisy, axis=2) > 0.05).mean() > 0.1
