"""Pictures in, noisy pairs out: reading, splitting, and batches that can be had again."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from conftest import REPOSITORY, call_script, one_error_line, run_script, write_png16
from PIL import Image

import data
from data import NoisyDataset
from noise2noise import backend, cache, datasets, plan
from noise2noise.backend import keras
from noise2noise.cache import Cache
from noise2noise.datasets import ImageFiles, fingerprint, split
from noise2noise.deadleaves import DeadLeaves, dead_leaves
from noise2noise.errors import InputError
from noise2noise.filters import FILTERS
from noise2noise.images import find_pictures, read_rgb
from noise2noise.pairs import NoisyPairs


def batches(pictures, filter="gaussian", **options) -> NoisyDataset:
    return NoisyDataset(pictures, filter, batch_size=4, crop_size=32, steps=5, **options)


@pytest.mark.parametrize("filter", FILTERS)
def test_a_batch_is_float32_pairs_and_some_have_weights(pictures, filter):
    batch = batches(pictures, filter)[0]
    assert len(batch) == (3 if filter in ("bernoulli", "camera", "sensor") else 2)
    assert all(array.dtype == np.float32 for array in batch)
    assert [array.shape for array in batch[:2]] == [(4, 32, 32, 3)] * 2
    if filter == "bernoulli":
        _, target, weight = batch
        assert weight.shape == (4, 32, 32)
        assert set(np.unique(weight)) == {0, 1}
        assert not target[weight == 0].any()


@pytest.mark.parametrize("filter", ["gaussian", "bernoulli", "camera", "sensor"])
def test_crops_are_large_from_a_batch_on(pictures, filter):
    usual, large = batches(pictures, filter), batches(pictures, filter, large_from=2)
    for i in range(2):
        for a, b in zip(large[i], usual[i], strict=True):
            np.testing.assert_array_equal(a, b)
    for i in range(2, 4):
        assert [array.shape[:3] for array in large[i]] == [(1, 64, 64)] * len(large[i])
        assert large[i][0].std() > 0.01


def test_workers_that_cannot_keep_all_pictures_share_them_out(pictures, monkeypatch):
    pairs = batches(pictures).pairs
    assert list(pairs.workers_crops(0, range(4), 0, 2)) == [0, 2]
    monkeypatch.setattr(cache, "CACHE_BYTES", pairs.images.total - 1)
    for number in range(6):
        chosen, _ = pairs._sample_plan(number)
        for i in range(2):
            assert {chosen[crop] % 2 for crop in pairs.workers_crops(number, range(4), i, 2)} <= {i}
    assert list(pairs.workers_crops(0, range(4), 1, 100)) == [1]  # of which most would have none
    pairs.window = 1
    assert list(pairs.workers_crops(0, range(4), 1, 2)) == [1, 3]
    kept = Cache(lambda k: np.zeros(pairs.images.total))
    assert kept[3] is kept[3]  # the last is kept, however large


def test_trials_of_the_recipe_change_what_they_say(pictures, monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    import recipes

    changed = [(plan, "RECIPE"), (plan, "BATCH"), (plan, "length"), (keras.optimizers, "Adam")]
    changed += [(keras.optimizers.schedules, "CosineDecay")]
    changed += [(NoisyPairs, name) for name in ("size", "crops", "_cut")]
    for owner, name in changed:  # given back after the test
        monkeypatch.setattr(owner, name, getattr(owner, name))
    monkeypatch.setattr(plan, "RECIPE", dict(plan.RECIPE))
    options = {"large_from": 2, "clean_targets": True}
    usual = batches(pictures, **options)
    first, second = usual[0][1], usual[1][1]

    recipes.TRIALS["adam-larger-batches-late"]()
    late = batches(pictures, **options)
    np.testing.assert_array_equal(late[1][1], second)
    assert late[2][1].shape == (16, 32, 32, 3)
    assert plan.length(145, 0.1, 0.0) == {"epochs": 50, "steps": 19}  # of 100 seconds

    recipes.TRIALS["muon-enlarged"]()
    enlarged = batches(pictures, **options)[0][1]
    roughness = [np.abs(np.diff(crops, axis=1)).mean() for crops in (enlarged, first)]
    assert roughness[0] < 0.95 * roughness[1]

    recipes.TRIALS["adam-warm-up"]()
    rates = keras.optimizers.schedules.CosineDecay(1e-3, 1000)
    reached = [float(rates(step)) for step in (0, recipes.WARM_UP, 1000)]
    np.testing.assert_allclose(reached, [0, 1e-3, 0], atol=1e-9)

    recipes.TRIALS["adamw"]()
    optimizer = keras.optimizers.Adam(1e-3, 0.9, 0.99)
    assert (optimizer.weight_decay, optimizer.beta_2) == (1e-2, 0.99)

    assert plan.recipe("gaussian", gpu=False)["batch"] == recipes.CROPS


def test_large_crops_of_small_pictures_go_on_as_mirrored():
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    options = {"batch_size": 4, "crop_size": 32, "clean_targets": True, "large_from": 0}
    target = NoisyDataset([image], "gaussian", **options)[0][1]
    assert target.shape == (1, 64, 64, 3)
    np.testing.assert_allclose(np.unique(target), np.unique(image) / np.float32(255))


def test_a_share_of_crops_has_an_area_of_one_colour_often_black_or_a_side(pictures):
    options = {"batch_size": 400, "crop_size": 32, "clean_targets": True}
    before = NoisyDataset(pictures, "gaussian", **options)[0][1]
    after = NoisyDataset(pictures, "gaussian", **options, flat_areas=0.5)[0][1]
    colours, sides, shapes = [], 0, set()
    for a, b in zip(before, after, strict=True):
        rows, columns = np.nonzero((a != b).any(-1))
        if rows.size:
            area = b[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            assert np.ptp(area.reshape(-1, 3), axis=0).max() == 0
            colours.append(tuple(area[0, 0]))
            sides += 32 in area.shape[:2]
            shapes.add(area.shape[:2])
    assert 0.4 < len(colours) / 400 < 0.6
    assert 0.4 < colours.count((0, 0, 0)) / len(colours) < 0.6
    assert 0.4 < sides / len(colours) < 0.65
    assert {(1, 32), (32, 1)} < shapes and len(shapes) > 60


def test_a_batch_without_a_quarter_for_each_process_has_no_large_crops(pictures):
    batches(pictures, shard=(1, 2))
    with pytest.raises(InputError, match="a batch of 4 has no quarter"):
        batches(pictures, shard=(1, 2), large_from=0)


def test_input_and_target_are_two_draws_of_one_crop_with_strengths_of_their_own(pictures):
    clean = batches(pictures, clean_targets=True)[0][1]
    inputs, targets = batches(pictures)[0]
    np.testing.assert_array_equal(inputs, batches(pictures, clean_targets=True)[0][0])
    first, second = inputs - clean, targets - clean
    for a, b in zip(first, second, strict=True):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.1
    assert min(inputs.min(), targets.min()) < 0  # nothing is clipped
    assert max(inputs.max(), targets.max()) > 1


def test_strengths_of_input_and_target_are_drawn_from_the_whole_range_independently():
    grey = [np.full((64, 64, 3), 128, np.uint8)]
    pair = NoisyDataset(grey, "gaussian", batch_size=200, crop_size=32)[0]
    sigmas = [255 * (noisy - 128 / 255).std((1, 2, 3)) for noisy in pair]
    for some in sigmas:
        assert some.min() < 2
        assert some.max() > 48
    assert abs(np.corrcoef(*sigmas)[0, 1]) < 0.3


def test_processes_share_large_crops_too(pictures):
    options = {"batch_size": 8, "crop_size": 32, "large_from": 0}
    whole = NoisyDataset(pictures, "gaussian", **options)[1]
    parts = [NoisyDataset(pictures, "gaussian", shard=(i, 2), **options)[1] for i in range(2)]
    for array, *halves in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(np.concatenate(halves), array)


def test_batches_that_workers_made_may_be_kept(pictures):
    dataset = batches(pictures, workers=1)
    kept = [dataset[i] for i in range(2, 8)]
    dataset.close()
    for i, batch in enumerate(kept, 2):
        for array, expected in zip(batch, batches(pictures)[i], strict=True):
            np.testing.assert_array_equal(array, expected)


def test_pictures_come_in_another_order_in_each_epoch_and_generated_ones_by_the_seed():
    pairs = NoisyPairs([None] * 9, FILTERS["gaussian"], 4, 32, 5)
    assert not np.array_equal(pairs._order(0), pairs._order(1))
    assert not np.array_equal(DeadLeaves(0)[0], DeadLeaves(1)[0])


def test_generated_pictures_to_validate_with_are_none_of_the_trainings():
    training, validation = datasets.training_images("deadleaves", 64, 0)
    assert not any(np.array_equal(training[k], image) for k in range(3) for image in validation)


def test_clean_targets_are_crops_of_the_pictures_and_need_no_weights(pictures):
    originals = np.concatenate([read_rgb(path).ravel() for path in find_pictures(pictures)])
    batch = batches(pictures, "bernoulli", clean_targets=True)[0]
    assert len(batch) == 2
    assert np.isin(np.rint(batch[1] * 255), originals).all()


def test_crops_are_flipped_and_turned(tmp_path):
    corner = np.zeros((32, 32, 3), np.uint8)
    corner[0, 1] = 255  # in eight places, by flips and quarter turns
    for name in "ab":
        Image.fromarray(corner).save(tmp_path / f"{name}.png")
    dataset = NoisyDataset(tmp_path, "gaussian", batch_size=64, crop_size=32, clean_targets=True)
    places = {tuple(np.argwhere(target[..., 0])[0]) for target in dataset[0][1]}
    assert places == {(0, 1), (0, 30), (31, 1), (31, 30), (1, 0), (30, 0), (1, 31), (30, 31)}


def test_a_batch_can_be_made_again_by_any_thread_in_any_order(pictures):
    expected = [batches(pictures)[i] for i in range(10)]
    dataset = batches(pictures)
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(dataset.__getitem__, reversed(range(10))))[::-1]
    for a, b in zip(expected, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_keras_is_given_the_batches_in_order_without_a_thread_to_wait_for(pictures):
    training, validation = batches(pictures, "bernoulli"), batches(pictures, validation=True)
    for dataset in (training, validation):
        made = backend.stream(dataset)
        assert made.options().autotune.enabled is False
        for i, batch in zip(range(5), made, strict=False):
            for array, expected in zip(batch, dataset[i], strict=True):
                np.testing.assert_array_equal(array, expected)
    assert len(list(made)) == int(made.cardinality()) == 5
    assert int(backend.stream(training).cardinality()) < 0  # without end


def test_another_seed_epoch_or_index_is_another_batch(pictures):
    dataset, other = batches(pictures), batches(pictures, seed=1)
    different = [dataset[0], dataset[1], dataset[5], other[0]]
    assert len({batch[0].tobytes() for batch in different}) == 4


def test_an_interrupted_stream_goes_on_where_it_was(pictures):
    going_on = batches(pictures)
    going_on.first_batch = 7
    np.testing.assert_array_equal(going_on[0], batches(pictures)[7])


@pytest.mark.parametrize("filter", ["gaussian", "bernoulli", "text"])
def test_processes_share_a_batch_crop_by_crop(pictures, filter):
    whole = batches(pictures, filter)[6]
    parts = [batches(pictures, filter, shard=(i, 2))[6] for i in range(2)]
    for array, *halves in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(np.concatenate(halves), array)
    with pytest.raises(InputError, match="no filter is called gausian: there are gaussian, "):
        NoisyDataset([], "gausian")
    with pytest.raises(InputError, match="batch of 4 cannot be shared by 3 processes"):
        batches(pictures, shard=(0, 3))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("filter", "options"),
    [("bernoulli", {}), ("text", {}), *(("bernoulli", {"large_from": n}) for n in (4, 0))],
)
def test_processes_make_the_same_stream(pictures, filter, options):
    expected = [batches(pictures, filter, **options)[i] for i in range(12)]
    dataset = batches(pictures, filter, workers=3, **options)  # which cannot share 4 crops equally
    for i in (0, 1, *range(9), 3, 4, 11):  # more than lie ahead; and back, as a new fit does
        for a, b in zip(dataset[i], expected[i], strict=True):
            np.testing.assert_array_equal(a, b)
    processes = [process for process, _ in dataset._pool._workers]
    assert len(processes) == 3
    dataset.close()
    assert not any(process.is_alive() for process in processes)


def test_processes_start_once_in_a_fit(pictures, monkeypatch):
    started = []

    class Counted(data.Workers):
        def __init__(self, *arguments):
            started.append(arguments)
            super().__init__(*arguments)

    monkeypatch.setattr(data, "Workers", Counted)
    model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(3, 1)])
    model.compile("sgd", "mse")
    dataset = batches(pictures, workers=1)
    model.fit(dataset, steps_per_epoch=5, epochs=2, shuffle=False, verbose=0)
    assert len(started) == 1
    dataset.close()


@pytest.mark.parametrize("images", [DeadLeaves(0), ImageFiles])
def test_processes_take_every_kind_of_pictures(pictures, images):
    images = images(find_pictures(pictures)) if images is ImageFiles else images
    images[0]  # in the cache already
    dataset = batches(images, workers=2)
    np.testing.assert_array_equal(dataset[2], batches(images)[2])
    dataset.close()


def test_a_process_that_fails_says_so(pictures, tmp_path):
    for path in pictures.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "3.png").write_bytes((pictures / "3.png").read_bytes()[:5000])
    dataset = batches(tmp_path, workers=2)
    with pytest.raises(InputError, match=r"3\.png cannot be read as a picture"):
        for i in range(2, 20):
            dataset[i]
    dataset = batches(pictures, workers=2)
    dataset[2]
    dataset._pool._workers[1][0].kill()
    with pytest.raises(RuntimeError, match="a process that makes batches ended"):
        for i in range(3, 20):
            dataset[i]


def lives(process: str) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


ORPHANS = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: None)  # as a training does, which then saves
import data
from data import NoisyDataset
if __name__ == "__main__":
    dataset = NoisyDataset(sys.argv[1], "gaussian", batch_size=4, crop_size=32, workers=2)
    dataset[2]
    print(*(worker[0].pid for worker in dataset._pool._workers), flush=True)
    os.killpg(0, signal.SIGTERM)
    for i in range(3, 20):
        dataset[i]
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), 9)
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", ["killed", "left"])
def test_processes_live_as_long_as_the_training_and_no_longer(pictures, tmp_path, end):
    script = tmp_path / "orphans.py"
    script.write_text(ORPHANS)
    done = subprocess.run(
        [sys.executable, script, pictures, end],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        start_new_session=True,
        timeout=300,
    )
    assert done.returncode == (0 if end == "left" else -signal.SIGKILL), done.stderr
    deadline = time.monotonic() + 20
    for process in done.stdout.split():
        while lives(process):
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_an_epoch_uses_all_pictures_alike(pictures):
    used = []

    class Watched(ImageFiles):
        def __getitem__(self, k):
            used.append(k)
            return super().__getitem__(k)

    dataset = batches(Watched(find_pictures(pictures)))
    for i in range(len(dataset)):
        dataset[i]
    assert sorted(used) == sorted([*range(10)] * 2)  # 5 batches of 4 crops, 10 pictures


class Decoded(ImageFiles):
    """Notes every picture that is decoded, and every one that is used."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.decoded, self.used = [], []

    def _read(self, k):
        self.decoded.append(k)
        return super()._read(k)

    def __getitem__(self, k):
        self.used.append(k)
        return super().__getitem__(k)


@pytest.fixture
def large(tmp_path, monkeypatch) -> list[Path]:
    """A hundred small pictures, which count as many, and a cache that has room for half."""
    monkeypatch.setattr(datasets, "LARGE", 100)
    monkeypatch.setattr("noise2noise.cache.CACHE_BYTES", 50 * 32 * 32 * 3)
    for k in range(100):
        Image.fromarray(np.full((32, 32, 3), k, np.uint8)).save(tmp_path / f"{k:03}.png")
    return find_pictures(tmp_path)


def test_a_large_folder_is_cut_from_a_window_and_each_picture_decoded_once_a_pass(large):
    images = Decoded(large)
    dataset = NoisyDataset(images, "gaussian", batch_size=8, crop_size=32, steps=50)
    crops, window, passes = dataset.pairs.crops_per_image, dataset.pairs.window, 2
    for i in range(passes * len(large) * crops // 8):
        dataset[i]
    assert set(images.used) == set(range(100))
    assert len(images.decoded) <= passes * 100 + window
    for first in range(0, len(images.used), 80):  # crops of as many pictures as 80 / 8, and window
        assert len(set(images.used[first : first + 80])) <= window + 80 / crops


def test_a_few_large_pictures_are_cut_from_a_window_too(tmp_path, monkeypatch):
    for k in range(6):
        Image.fromarray(np.full((1024, 1024, 3), k, np.uint8)).save(tmp_path / f"{k}.png")
    images = Decoded(find_pictures(tmp_path))
    assert NoisyDataset(images, "gaussian").pairs.window == 0
    monkeypatch.setattr("noise2noise.cache.CACHE_BYTES", 4 * 1024 * 1024 * 3)
    images = Decoded(find_pictures(tmp_path))
    dataset = NoisyDataset(images, "gaussian", batch_size=4, crop_size=32, steps=100)
    assert (dataset.pairs.window, dataset.pairs.crops_per_image) == (2, 8)
    for i in range(96):
        dataset[i]
    assert set(images.used) == set(range(6))
    assert len(images.decoded) <= 96 * 4 / 8 + 2


def test_no_picture_of_a_large_folder_is_decoded_by_two_processes(large):
    stream = NoisyDataset(ImageFiles(large), "gaussian", batch_size=8, crop_size=32).pairs
    decoded = [set(), set(), set()]
    for number in range(20):
        parts = [stream.workers_crops(number, range(8), i, 3) for i in range(3)]
        assert sorted(crop for part in parts for crop in part) == list(range(8))
        chosen, _ = stream._sample_plan(number)
        for i, part in enumerate(parts):
            decoded[i] |= {int(chosen[crop]) for crop in part}
    assert sum(map(len, decoded)) == len(set.union(*decoded)) > 24


def test_a_large_folders_pictures_are_checked_when_they_are_used(large):
    large[3].write_bytes(b"no image at all")
    Image.new("RGB", (31, 32)).save(large[5])
    images = ImageFiles(large, min_size=32)
    with pytest.raises(InputError, match=r"003\.png cannot be read as a picture"):
        images[3]
    with pytest.raises(InputError, match=r"005\.png has 31 x 32 pixels, fewer than .* 32"):
        images[5]


def test_validation_shares_no_noise_with_trainings_first_batch(tmp_path):
    for name in "ab":
        Image.new("RGB", (64, 64), "grey").save(tmp_path / f"{name}.png")
    training, validation = (
        batches(tmp_path, validation=validation)[0] for validation in (False, True)
    )
    fields = [
        [(crop - 128 / 255).ravel() for array in batch for crop in array]
        for batch in (training, validation)
    ]
    assert len(fields[0]) == len(fields[1]) == 8
    for one in fields[0]:
        for other in fields[1]:
            assert abs(np.corrcoef(one, other)[0, 1]) < 0.1


def test_the_split_is_by_picture_and_fixed(pictures):
    paths = find_pictures(pictures)
    training, validation = split(paths)
    assert (training, validation) == split(paths)
    assert sorted(training + validation) == paths
    assert len(validation) == 1
    assert all(split(paths[:n])[1] for n in range(2, 10))


def test_fresh_dead_leaves_come_without_end():
    dataset = NoisyDataset(DeadLeaves(0), "gaussian", batch_size=2, crop_size=64, steps=1000)
    early, late = (
        dataset.pairs._images(0, np.random.default_rng(0)),
        dataset.pairs._images(1000, np.random.default_rng(0)),
    )
    assert not set(early) & set(late)
    assert dataset[0][0].shape == (2, 64, 64, 3)


def test_dead_leaves_have_the_statistics_of_photographs():
    """A power law: photographs' mean power falls with the frequency's power of 2 to 3."""
    power = 0
    for k in range(8):
        picture = dead_leaves(np.random.default_rng(k)).mean(2)
        power = power + np.abs(np.fft.fft2((picture - picture.mean()) / 255)) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    band = (frequency > 4 / 256) & (frequency < 0.25)
    slope = np.polyfit(np.log(frequency[band]), np.log(power[band]), 1)[0]
    assert -3.1 < slope < -2.3


GREY, RGB = np.full((8, 9), 200, np.uint8), np.full((8, 9, 3), (200, 100, 50), np.uint8)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp", "webp"])
def test_every_format_is_read(tmp_path, suffix):
    Image.fromarray(RGB).save(tmp_path / f"a.{suffix}")
    np.testing.assert_allclose(read_rgb(tmp_path / f"a.{suffix}"), RGB, atol=4)


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (Image.fromarray(GREY), 200),
        (Image.fromarray(RGB).quantize(4), RGB),
        (Image.fromarray(np.dstack([RGB, np.full((8, 9), 0, np.uint8)])), 255),  # transparent
        (Image.fromarray(np.dstack([RGB, np.full((8, 9), 255, np.uint8)])), RGB),
        (Image.fromarray(np.dstack([GREY, np.full((8, 9), 255, np.uint8)]), "LA"), 200),
        (Image.fromarray(GREY.astype(np.uint16) * 257), 200),
        (Image.fromarray(GREY > 0), 255),
    ],
    ids=["grey", "palette", "transparent", "opaque", "grey with alpha", "16 bits", "1 bit"],
)
def test_every_kind_of_pixel_becomes_rgb(tmp_path, picture, expected):
    picture.save(tmp_path / "a.png")
    result = read_rgb(tmp_path / "a.png")
    assert result.shape == (8, 9, 3)
    np.testing.assert_allclose(
        result,
        np.broadcast_to(expected, result.shape) if np.ndim(expected) == 0 else expected,
        atol=1,
    )


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("bits", [12, 16])
def test_white_is_what_the_bits_that_are_used_can_hold(tmp_path, suffix, bits):
    deep = (dead_leaves(np.random.default_rng(0), size=64) / 255 * (2**bits - 1)).round()
    path = tmp_path / f"a.{suffix}"
    for pixels in (deep, deep[..., :1]):
        pixels = pixels.astype(np.uint16)
        write_png16(path, pixels) if suffix == "png" else tifffile.imwrite(path, pixels)
        expected = np.broadcast_to(pixels / (2**bits - 1) * 255, deep.shape)
        np.testing.assert_allclose(read_rgb(path), expected, atol=0.51)


def test_transparency_of_deep_pictures_is_laid_on_white(tmp_path):
    deep = np.full((8, 9, 4), 30_000, np.uint16)
    deep[..., 3] = 65535 // 2
    write_png16(tmp_path / "a.png", deep)
    expected = 255 - 0.5 * (255 - 30_000 / 65535 * 255)
    np.testing.assert_allclose(read_rgb(tmp_path / "a.png"), expected, atol=1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(tmp_path, orientation):
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8] = 255
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(undo[orientation](upright))).save(
        tmp_path / "a.jpg", exif=exif, quality=95
    )
    np.testing.assert_allclose(read_rgb(tmp_path / "a.jpg"), upright, atol=12)


def test_a_folder_that_is_no_use_is_named(tmp_path, pictures):
    with pytest.raises(InputError, match="nowhere does not exist"):
        find_pictures(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no picture"):
        find_pictures(tmp_path)
    (tmp_path / "above/day 1").mkdir(parents=True)
    with pytest.raises(InputError, match=r"but folders: name one, as .*day 1$"):
        find_pictures(tmp_path / "above")
    with pytest.raises(InputError, match=r"0\.png is not a folder"):
        find_pictures(pictures / "0.png")
    with pytest.raises(InputError, match=r"0\.png has 80 x 64 pixels, fewer than .* 96"):
        NoisyDataset(pictures, "gaussian", crop_size=96)


@pytest.mark.parametrize("contents", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_image_is_named(tmp_path, contents):
    (tmp_path / "broken.png").write_bytes(contents)
    with pytest.raises(InputError, match=r"broken\.png cannot be read as a picture"):
        ImageFiles(find_pictures(tmp_path))


def test_a_truncated_picture_ends_the_training_with_one_line(tmp_path, pictures):
    for path in pictures.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "3.png").write_bytes((pictures / "3.png").read_bytes()[:5000])
    done = call_script(
        *("train_model.py", "gaussian", tmp_path, "--steps", 9, "--crop", 32, "--epochs", 1),
        *("--output-dir", tmp_path / "runs"),
        check=2,
    )
    assert "3.png cannot be read as a picture" in one_error_line(done)


def test_the_cache_keeps_what_was_used_last_and_stays_within_its_bounds(monkeypatch):
    monkeypatch.setattr("noise2noise.cache.CACHE_BYTES", 3000)
    made = []
    lock = threading.Lock()

    def make(k):
        with lock:
            made.append(k)
        return np.full(1000, k % 256, np.uint8)

    cache = Cache(make)
    for k in (0, 1, 2, 0, 3, 0, 1):
        assert cache[k][0] == k
    assert made == [0, 1, 2, 3, 1]


@pytest.mark.parametrize(("count", "word"), [(23, "23 of the set's 24"), (25, "move the others")])
def test_a_named_set_is_whole_and_itself(tmp_path, monkeypatch, count, word):
    for k in range(count):
        (tmp_path / f"{k}.png").touch()
    monkeypatch.setitem(datasets.TRAINING, "kodak", (tmp_path, 24, "download_kodak.py"))
    with pytest.raises(InputError, match=word):
        datasets.training_images("kodak", 32, 0)


def test_python_data_py_shows_every_filter(tmp_path):
    output = tmp_path / "sheet.png"
    assert str(output) in call_script("data.py", "--output", output).stdout
    with Image.open(output) as figure:
        assert min(figure.size) > 600
    done = call_script("data.py", "--output", tmp_path / "sheet.pdf", check=2)
    assert "sheet.pdf is no .png" in one_error_line(done)


@pytest.mark.slow
def test_damaged_pictures_end_in_a_result_or_one_line():
    """60 of the 500 files that `python tests/damaged_images.py` makes."""
    assert "no failure" in run_script("tests/damaged_images.py", "--count", 60).stdout


def test_large_crops_are_of_all_pictures_in_turn():
    images = [np.full((64, 64, 3), 40 * k, np.uint8) for k in range(5)]
    options = {"batch_size": 4, "crop_size": 32, "steps": 5, "clean_targets": True}
    dataset = NoisyDataset(images, "gaussian", large_from=0, **options)
    for epoch in range(2):
        seen = [round(float(dataset[5 * epoch + i][1].mean() * 255 / 40)) for i in range(5)]
        assert sorted(seen) == [0, 1, 2, 3, 4]


def test_a_fingerprint_does_not_depend_on_how_its_folder_is_named(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(b"any")
    monkeypatch.chdir(tmp_path / "in")
    told = {
        tuple(fingerprint(SimpleNamespace(paths=[path])).items())
        for path in (tmp_path / "in/a.png", Path("a.png"), Path("../in/a.png"))
    }
    assert told == {(("in/a.png", hashlib.sha256(b"any").hexdigest()),)}
    with pytest.raises(InputError, match=r"cannot read .*gone\.png"):
        fingerprint(SimpleNamespace(paths=[Path("gone.png")]))


@pytest.mark.parametrize(("limit", "large"), [(10, False), (9, True)])
def test_large_files_are_told_by_their_sizes_and_a_stack_of_many_pages_counts_once(
    tmp_path, monkeypatch, limit, large
):
    stack = tmp_path / "in" / "a.tif"
    stack.parent.mkdir()
    stack.write_bytes(b"ten bytes!")
    monkeypatch.setattr("noise2noise.datasets.HASHED_BYTES", limit)
    (told,) = fingerprint(SimpleNamespace(paths=400 * [stack])).values()
    assert told == ("10 bytes" if large else hashlib.sha256(b"ten bytes!").hexdigest())
