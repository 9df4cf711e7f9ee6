"""Real exposures: found, measured, refused where they spoil the idea, and trained on."""

import itertools
import json
import re
import shutil

import numpy as np
import pytest
import tifffile
from conftest import SMALL, call_script, one_error_line, write_png16
from PIL import Image
from skimage.data import astronaut, coffee

from data import CapturedDataset
from noise2noise import camera, scenes
from noise2noise.backend import keras
from noise2noise.cache import Cache
from noise2noise.datasets import CAPTURED
from noise2noise.deadleaves import dead_leaves
from noise2noise.errors import InputError
from noise2noise.exposures import (
    FAR,
    MAX_CLIPPED,
    MAX_SHARED,
    _clipped,
    _middle_shift,
    _moves_inside,
    align_exposures,
    open_exposures,
)
from noise2noise.images import open_file, read_picture
from noise2noise.noise import shared_lines, shared_noise
from noise2noise.runs import read_training
from noise2noise.scenes import Scene, Scenes, find_exposures, find_scenes, training_scenes


def expose(path, clean, rng, scale=1.0, shift=0):
    """Save a noisy 16-bit exposure."""
    noisy = np.roll(clean, shift, 1) / 255 * scale + rng.normal(scale=0.05, size=clean.shape)
    deep = np.rint(noisy.clip(0, 1) * 65535).astype(np.uint16)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png16(path, deep)


@pytest.fixture
def folder(tmp_path):
    """Three scenes of two to four exposures."""
    rng = np.random.default_rng(0)
    for scene in range(3):
        clean = dead_leaves(rng, size=96)
        for exposure in range(scene + 2):
            expose(tmp_path / f"scene{scene}" / f"{exposure}.png", clean // 2 + 64, rng)
    return tmp_path


def test_sub_folders_are_scenes(folder):
    assert [(s.name, len(s.paths)) for s in find_scenes(folder)] == [
        ("scene0", 2),
        ("scene1", 3),
        ("scene2", 4),
    ]


def test_a_scene_is_grey_or_in_colour(folder):
    grey = np.asarray(Image.open(folder / "scene1/0.png"))
    Image.fromarray(grey[..., 0].astype(np.uint16)).save(folder / "scene1/0.png")
    with pytest.raises(InputError, match="exposures of scene1 are grey and in colour"):
        training_scenes(folder, 32)


def test_exposures_are_in_the_order_of_their_numbers(tmp_path):
    rng = np.random.default_rng(0)
    for scene in ("c", "d"):
        for number in (1, 10, 2, 9):
            path = tmp_path / scene / f"frame{number}.png"
            expose(path, np.zeros((64, 64, 3), np.uint8) + 99, rng)
    names = [path.stem for path in find_scenes(tmp_path)[0].paths]
    assert names == ["frame1", "frame2", "frame9", "frame10"]


def test_a_stack_is_opened_once_for_all_its_pages(tmp_path, monkeypatch):
    stack = np.random.default_rng(0).integers(0, 4000, (40, 48, 64), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stack, metadata=None)
    opened = []
    monkeypatch.setattr(scenes, "open_file", lambda path: opened.append(path) or open_file(path))
    parts = scenes.training_exposures(tmp_path / "a.tif", 32)
    for part in parts:
        for exposures in part:
            assert exposures[0].shape == (48, 64, 1)
    assert len(opened) <= 3


def test_two_folders_a_and_b_are_scenes_by_name(folder, tmp_path, capsys):
    for side, exposure in (("a", "0.png"), ("b", "1.png")):
        for scene in range(3):
            target = tmp_path / "pairs" / side / f"{scene}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / f"scene{scene}" / exposure, target)
    scenes = find_scenes(tmp_path / "pairs")
    assert [s.name for s in scenes] == ["0.png", "1.png", "2.png"]
    assert "left out" not in capsys.readouterr().out
    shutil.copy(folder / "scene0/0.png", tmp_path / "pairs")
    assert find_scenes(tmp_path / "pairs") == scenes
    assert "0.png is in no scene's folder and left out (1 in all)" in capsys.readouterr().out
    (tmp_path / "pairs/b/1.png").unlink()
    with pytest.raises(InputError, match=r"1\.png is in one of them only"):
        find_scenes(tmp_path / "pairs")


def test_stray_folders_are_said(folder, capsys):
    (folder / "empty/.git").mkdir(parents=True)
    assert len(find_scenes(folder)) == 3
    assert "empty holds no picture and is left out" in capsys.readouterr().out
    (folder / "day/scene").mkdir(parents=True)
    (folder / "day/._0.png").touch()  # as macOS leaves them
    with pytest.raises(InputError, match="day holds sub-folders, not exposures"):
        find_scenes(folder)
    for name in "aB":
        (folder / name).mkdir()
    with pytest.raises(InputError, match="holds a/, b/ and"):
        find_scenes(folder)


def test_pairs_are_the_same_crop_of_two_exposures_with_all_their_bits(folder):
    scenes = Scenes(find_scenes(folder))
    dataset = CapturedDataset(scenes, batch_size=16, crop_size=64, steps=3)
    inputs, targets = dataset[0]
    levels = np.unique(inputs * 65535)
    assert np.abs(levels - np.rint(levels)).max() < 0.01
    assert len(np.unique(np.rint(levels) % 257)) > 200  # not 8 bits stretched
    for a, b in zip(inputs, targets, strict=True):
        assert not np.array_equal(a, b)
        assert np.sqrt(np.mean((a - b) ** 2)) == pytest.approx(0.05 * 2**0.5, rel=0.15)
    np.testing.assert_array_equal(inputs, dataset[0][0])


def test_any_ordered_pair_of_exposures_comes_up(folder):
    scenes = Scenes(find_scenes(folder)[2:])
    dataset = CapturedDataset(scenes, batch_size=200, crop_size=96, steps=1)
    exposures = [np.float32(e / 65535).sum() for e in scenes[0]]
    inputs, targets = dataset[0]
    pairs = {
        tuple(int(np.argmin(np.abs(np.array(exposures) - x.sum()))) for x in pair)
        for pair in zip(inputs, targets, strict=True)
    }
    assert pairs == {(i, j) for i in range(4) for j in range(4) if i != j}


def test_what_was_measured_is_printed_with_a_floor_for_the_loss(folder, capsys):
    floor = align_exposures(Scenes(find_scenes(folder)))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all("brightness within 0." in line for line in lines)
    assert floor == pytest.approx(0.05**2, rel=0.1)


def test_exposures_of_different_brightness_are_warned_of(folder, capsys):
    rng = np.random.default_rng(1)
    clean = dead_leaves(rng, size=96) // 2 + 64
    for exposure in range(2):
        expose(folder / f"bright/{exposure}.png", clean, rng, scale=1 + 0.1 * exposure)
    align_exposures(Scenes(find_scenes(folder)))
    lines = capsys.readouterr().out.splitlines()
    (warning,) = [line for line in lines if line.startswith("warning")]
    assert "bright differ in brightness by more than 2%" in warning


@pytest.mark.parametrize("noise", [0.02, 0.1])
def test_a_handheld_burst_is_aligned_by_whole_pixels_and_cut_to_what_it_shares(
    tmp_path, noise, capsys
):
    """What the exposures see lies on one another, and their values are those of the files."""
    rng = np.random.default_rng(3)
    places = [(20, 20), (23, 15), (14, 41)]
    for name in ("burst", "still"):
        clean = dead_leaves(rng, size=240) / 255 / 2 + 0.25
        for k, (top, left) in enumerate(places if name == "burst" else places[:1] * 2):
            view = clean[top : top + 160, left : left + 180]
            noisy = view + rng.normal(scale=noise, size=view.shape)
            path = tmp_path / name / f"{k}.png"
            path.parent.mkdir(exist_ok=True)
            write_png16(path, np.rint(noisy.clip(0, 1) * 65535).astype(np.uint16))
    scenes = Scenes(find_scenes(tmp_path), min_size=96)
    align_exposures(scenes)
    lines = capsys.readouterr().out.splitlines()
    burst = list(scenes[0])
    assert [exposure.shape for exposure in burst] == [(151, 154, 3)] * 3
    for k, (top, left) in enumerate(places):
        whole = read_picture(tmp_path / f"burst/{k}.png").pixels
        inside = np.s_[23 - top : 23 - top + 151, 41 - left : 41 - left + 154]
        np.testing.assert_array_equal(burst[k], whole[inside])
    assert re.search(r"shift 21\.8 pixels, aligned but for 0\.[01],", lines[0])
    assert "aligned" not in lines[1]
    assert scenes[1][0].shape == (160, 180, 3)
    assert not any(line.startswith("warning") for line in lines)
    inputs, targets = CapturedDataset(scenes, batch_size=8, crop_size=96, steps=1)[0]
    assert np.sqrt(np.mean((inputs - targets) ** 2)) == pytest.approx(noise * 2**0.5, rel=0.05)
    with pytest.raises(
        InputError, match="exposures of burst are shifted and share 154 x 151 pixels"
    ):
        align_exposures(Scenes(find_scenes(tmp_path), min_size=160))


def test_what_is_left_of_a_shift_below_half_a_pixel_is_said(folder, capsys):
    rng = np.random.default_rng(4)
    clean = dead_leaves(rng, size=160) // 2 + 64.0
    expose(folder / "half/0.png", clean, rng)
    expose(folder / "half/1.png", 0.7 * clean + 0.3 * np.roll(clean, 1, 1), rng, shift=4)
    align_exposures(Scenes(find_scenes(folder)))
    lines = capsys.readouterr().out.splitlines()
    assert "half: 2 exposures" in lines[0]
    shift, left = map(
        float, re.search(r"shift (\S+) pixels, aligned but for (\S+),", lines[0]).groups()
    )
    assert shift == pytest.approx(4.3, abs=0.15)
    assert left == pytest.approx(0.3, abs=0.15)


def test_what_moves_inside_a_scene_is_warned_of(folder, capsys):
    rng = np.random.default_rng(6)
    clean = dead_leaves(rng, size=320) // 2 + 64
    moved = clean.copy()
    moved[40:140, 40:140] = clean[40:140, 47:147]
    expose(folder / "walker/0.png", clean, rng)
    expose(folder / "walker/1.png", moved, rng)
    align_exposures(Scenes(find_scenes(folder)))
    lines = capsys.readouterr().out.splitlines()
    (warning,) = [line for line in lines if line.startswith("warning")]
    assert "parts of walker move" in warning


@pytest.mark.parametrize("count", [3, 8, 9])
def test_what_moves_in_any_of_up_to_nine_exposures_is_warned_of(folder, capsys, count):
    rng = np.random.default_rng(6)
    clean = dead_leaves(rng, size=320) // 2 + 64
    moved = clean.copy()
    moved[40:140, 40:140] = clean[40:140, 47:147]
    for n in range(count):
        expose(folder / f"walker/{n}.png", moved if n == 1 else clean, rng)
    align_exposures(Scenes(find_scenes(folder)))
    assert "parts of walker move" in capsys.readouterr().out


@pytest.mark.parametrize(("radius", "step"), [(20, 3), (20, 5), (8, 25)])
def test_what_crosses_a_scene_is_warned_of_and_still_scenes_are_not(tmp_path, capsys, radius, step):
    rng = np.random.default_rng(0)
    clean = dead_leaves(rng, size=256)[..., 0] * 0.7
    y, x = np.mgrid[:256, :256]
    for name, bright in (("moving", 250), ("still", None)):
        pages = []
        for k in range(9):
            page = clean.copy()
            if bright:
                page[np.hypot(y - 128, x - 30 - step * k) < radius] = bright
            pages.append(page + rng.normal(scale=10, size=page.shape))
        pages = np.rint(200 + 16 * np.stack(pages)).clip(0).astype(np.uint16)
        tifffile.imwrite(tmp_path / f"{name}.tif", pages, photometric="minisblack")
        align_exposures(Scenes([Scene(name, find_exposures(tmp_path / f"{name}.tif"))]))
        assert (f"parts of {name} move" in capsys.readouterr().out) == (name == "moving")


def test_jpegs_are_accepted_with_a_line_that_says_why_they_are_worse(folder, capsys):
    for path in folder.glob("scene*/*.png"):
        Image.fromarray(np.asarray(Image.open(path))).save(path.with_suffix(".jpg"))
        path.unlink()
    (note,) = [n for n in Scenes(find_scenes(folder)).notes if "compressed with losses" in n]
    assert "16-bit TIFF or PNG restore better" in note


def test_pictures_of_different_scenes_are_refused_and_flat_ones_are_not(folder, capsys):
    rng = np.random.default_rng(5)
    for exposure in range(2):
        expose(folder / f"flat/{exposure}.png", np.full((96, 96, 3), 128), rng)
    align_exposures(Scenes(find_scenes(folder)))
    lines = capsys.readouterr().out.splitlines()
    assert "too flat to measure a shift" in lines[0]
    for exposure in range(2):
        expose(folder / f"mixed/{exposure}.png", dead_leaves(rng, size=96), rng)
    with pytest.raises(InputError, match=r"mixed/1\.png do not show the same scene"):
        align_exposures(Scenes(find_scenes(folder)))


@pytest.mark.parametrize("noise", [5, 25, 50])
def test_different_scenes_are_told_apart_in_noise_too(noise):
    pictures = [astronaut()[:192, 160:352], coffee()[100:292, 200:392], astronaut()[192:384, :192]]
    rng = np.random.default_rng(0)
    for first, other in itertools.product(range(3), repeat=2):
        noisy = [
            pictures[k] / 255 + rng.normal(scale=noise / 255, size=(192, 192, 3))
            for k in (first, other)
        ]
        shift = _middle_shift(*np.float32(noisy))
        if first == other:
            assert np.hypot(*shift) < 0.5
        else:
            assert shift is None or np.hypot(*shift) > FAR


@pytest.mark.parametrize("photons", [0.003, 0.03, 0.1, 1, 3])
def test_one_scene_in_few_photons_is_one(photons):
    rng = np.random.default_rng(0)
    clean = astronaut()[:192, 160:352].mean(axis=2, keepdims=True) / 255
    first, other = (np.float32(rng.poisson(clean * photons)) for _ in range(2))
    shift = _middle_shift(first, other)
    assert np.isnan(shift).all() if photons < 1 else np.hypot(*shift) < 0.7
    assert not _moves_inside(first, other)


@pytest.mark.parametrize("level", [10, 64])  # of a dark scene, too, whose brightness tells little
def test_a_black_exposure_gets_its_one_line(folder, level):
    rng = np.random.default_rng(1)
    clean = dead_leaves(rng, size=96) // 8 + level
    for exposure in range(2):
        expose(folder / f"scene0/{exposure}.png", clean, rng)
    write_png16(folder / "scene0/2.png", np.zeros((96, 96, 3), np.uint16))
    line = one_error_line(call_script("train_model.py", "captured", folder, check=2))
    assert "scene0/2.png do not show the same scene" in line


def test_exposures_are_trained_on_in_the_range_that_they_are_restored_in():
    class Stack(list):
        span, window, crops_per_image, neighbours = (100.0, 300.0), 0, 1, None

    values = np.random.default_rng(0).integers(0, 600, (2, 64, 64, 3)).astype(np.uint16)
    dataset = CapturedDataset(Stack([list(values)]), batch_size=4, crop_size=64, steps=1)
    expected = np.clip((values - 100.0) / 200, -1, 2).astype(np.float32)
    np.testing.assert_allclose(np.unique(dataset[0][0]), np.unique(expected), atol=1e-6)


def test_noise_that_exposures_share_is_warned_of(tmp_path, capsys):
    """As of a raw file and its JPEG, a mean and what it was made of, a fixed pattern."""
    rng = np.random.default_rng(0)
    clean = astronaut()[:256, 128:384].mean(axis=2, keepdims=True) / 255
    noise = rng.normal(0, 0.06, (5, *clean.shape))
    first = clean + noise[0]
    assert abs(shared_noise(first, clean + noise[1])) < 0.2
    Image.fromarray(np.uint8(np.clip(first[..., 0] * 255, 0, 255))).save(
        tmp_path / "a.jpg", quality=90
    )
    jpeg = read_picture(tmp_path / "a.jpg").pixels / 255
    assert shared_noise(first, jpeg) > 2 * MAX_SHARED
    assert shared_noise(first, clean + noise[:4].mean(axis=0)) > MAX_SHARED
    assert np.isnan(shared_noise(clean, clean + noise[0] / 10)), "details are no noise"
    for name, independent in (("whole", 1.0), ("half", 0.7)):
        (tmp_path / name).mkdir()
        for k in range(3):
            image = clean + independent * noise[k] + (1 - independent**2) ** 0.5 * noise[4]
            image = np.uint16(np.clip(image, 0, 1) * 65535)
            tifffile.imwrite(tmp_path / name / f"{k}.tif", image[..., 0])
    align_exposures(Scenes(find_scenes(tmp_path)))
    lines = capsys.readouterr().out.splitlines()
    (warning,) = [line for line in lines if "share noise" in line]
    assert "exposures of half share noise" in warning


def test_a_pattern_of_columns_that_exposures_share_is_warned_of(tmp_path, capsys):
    """Neighbouring pixels' differences don't show it, for it is in both."""
    rng = np.random.default_rng(0)
    clean = astronaut().mean(axis=2) / 255
    columns, rows = rng.normal(0, 0.03, (1, 512)), rng.normal(0, 0.03, (512, 1))
    for name, pattern in {"none": 0, "columns": columns, "rows": rows, "new": None}.items():
        (tmp_path / name).mkdir()
        for k in range(2):
            own = rng.normal(0, 0.03, (1, 512)) if pattern is None else pattern
            image = 0.2 + clean / 2 + own + rng.normal(0, 0.06, clean.shape)
            tifffile.imwrite(tmp_path / name / f"{k}.tif", np.uint16(image.clip(0, 1) * 65535))
        pair = [read_picture(path).pixels for path in sorted((tmp_path / name).iterdir())]
        share = shared_lines(*pair)  # 0.03 ** 2 of columns, 0.06 ** 2 of each pixel, and details
        assert 0.1 < share < 0.22 if name in ("columns", "rows") else not share
    colours = 0.2 + astronaut() / (255, 340, 510) / 2
    raw = camera.mosaic(colours, (0, 0)) + rng.normal(0, 0.02, (2, 512, 512))
    tifffile.imwrite(tmp_path / "raw.tif", np.uint16(raw * 65535), photometric="minisblack")
    align_exposures(Scenes(find_scenes(tmp_path)))
    said = [line for line in capsys.readouterr().out.splitlines() if "rows or columns" in line]
    assert [line.split()[3] for line in said] == ["columns", "rows"]


def test_channels_are_no_exposures(tmp_path):
    pages = np.random.default_rng(0).integers(0, 4000, (6, 2, 64, 64)).astype(np.uint16)
    for name, options in (("a.tif", {"imagej": True}), ("b.ome.tif", {"ome": True})):
        tifffile.imwrite(tmp_path / name, pages, metadata={"axes": "TCYX"}, **options)
        with pytest.raises(InputError, match="are of 2 channels, not exposures of one scene"):
            find_scenes(tmp_path / name)
        assert len(find_exposures(tmp_path / name, one_scene=False)) == 12


@pytest.mark.parametrize(("bright", "said"), [(11_000, "range 9"), (50_000, "range of the")])
def test_a_range_that_few_values_make_wide_is_pointed_out_and_grey_in_three_channels_is_grey(
    tmp_path, capsys, bright, said
):
    rng = np.random.default_rng(0)
    for k in range(4):
        pages = rng.normal(1000, 10, (3, 64, 64, 1)).repeat(3, axis=3)
        pages[:, :4, :8] += bright
        tifffile.imwrite(tmp_path / f"{k}.tif", pages.astype(np.uint16), photometric="rgb")
    training, _, _ = open_exposures(CAPTURED, tmp_path, 32, None, None)
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "--range " in line)
    assert line.startswith(said)
    assert training.shows_grey
    assert not training.grey


def test_areas_of_one_value_neither_move_nor_differ(folder, capsys):
    rng = np.random.default_rng(5)
    for name, area in (("frame", np.s_[:, :100]), ("middle", np.s_[60:590, 60:590])):
        clean = dead_leaves(rng, size=650) / 1.0
        clean[area] = -1000  # noise and all cut off at 0
        for exposure in range(2):
            expose(folder / f"{name}/{exposure}.png", clean, rng)
    tiny = dead_leaves(rng, size=32)
    for exposure in range(2):
        expose(folder / f"tiny/{exposure}.png", tiny // 2 + 64, rng)
    align_exposures(Scenes(find_scenes(folder)))
    lines = capsys.readouterr().out.splitlines()
    warnings = [line for line in lines if line.startswith("warning")]
    assert len(warnings) == 2
    assert all("are at the end of its range" in line for line in warnings)


def test_pages_that_were_stored_as_the_planes_of_a_picture_in_colour_are_said(folder, capsys):
    pages = np.random.default_rng(0).integers(0, 4096, (3, 96, 96)).astype(np.uint16)
    tifffile.imwrite(folder / "pages.tif", pages, photometric="rgb")
    find_scenes(folder)
    assert "pages.tif holds one picture in colour, in planes" in capsys.readouterr().out


def test_what_spoils_the_idea_is_refused_and_named(folder):
    shutil.copy(folder / "scene0/0.png", folder / "scene0/same.png")
    with pytest.raises(InputError, match=r"same\.png and .*0\.png are the same picture"):
        align_exposures(Scenes(find_scenes(folder)))
    (folder / "scene0/same.png").unlink()
    Image.fromarray(np.zeros((50, 60, 3), np.uint8)).save(folder / "scene1/small.png")
    with pytest.raises(InputError, match=r"small\.png has 60 x 50 pixels and .* 96 x 96"):
        Scenes(find_scenes(folder))
    (folder / "scene1/small.png").unlink()
    (folder / "scene0/1.png").unlink()
    with pytest.raises(InputError, match=r"0\.png is the only exposure"):
        find_scenes(folder)


def test_from_noisy_exposures_to_restored_files_with_two_commands(folder, tmp_path):
    done = call_script("train_model.py", "captured", folder, *SMALL, "--output-dir", tmp_path / "r")
    assert "training scene scene0: 2 exposures" in done.stdout
    assert "stand for none" not in done.stdout
    run = tmp_path / "r" / f"captured-{folder.name}"
    assert keras.saving.load_model(run / "model.keras").count_params() == 991_203
    assert "val_psnr" not in (run / "history.csv").read_text()
    assert (run / "history.png").exists()
    assert f"python infer.py captured {folder.name} --restore" in done.stdout
    assert re.search(
        r"to -?\d+\.\d\d dB, [a-z0-9-]+, which comes with the code, to -?\d+", done.stdout
    )


def test_captured_without_a_folder_says_how(tmp_path):
    done = call_script("train_model.py", "captured", check=2)
    assert "captured FOLDER" in done.stderr
    line = one_error_line(call_script("train_model.py", "captured", tmp_path, check=2))
    assert "holds no scenes: each is a stack or a sub-folder" in line


def test_no_shift_is_measured_where_a_picture_holds_none(folder, capsys):
    """A smooth gradient looks the same wherever it is, so noise would decide."""
    ramp = np.broadcast_to(255 * np.linspace(0.01, 0.09, 200)[None, :, None], (200, 200, 3))
    for seed in range(5):
        rng = np.random.default_rng(seed)
        for exposure in range(2):
            # Lifted, so that nothing is clipped.
            expose(folder / f"ramp{seed}/{exposure}.png", ramp + 64, rng)
    align_exposures(Scenes(find_scenes(folder)))
    lines = capsys.readouterr().out.splitlines()
    ramps = [line for line in lines if "scene ramp" in line]
    assert len(ramps) == 5
    assert all("too flat to measure a shift" in line for line in ramps)
    assert not any(line.startswith("warning") for line in lines)


def test_zero_is_no_end_of_signed_values():
    image = np.rint(np.random.default_rng(0).normal(scale=3, size=(64, 64, 1)))
    assert _clipped(image.astype(np.int8)) < MAX_CLIPPED
    assert _clipped(image.clip(0).astype(np.uint8)) > 0.4


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_photons_that_did_not_come_are_not_cut_off(kind):
    rng = np.random.default_rng(0)
    light = np.linspace(0, 2, 128)[:, None, None] * np.ones((128, 128, 1))
    for photons, gain in itertools.product((light, light / 5, light * 8), (1, 3)):
        assert _clipped((gain * rng.poisson(photons)).astype(kind)) < MAX_CLIPPED
    cut = rng.normal(scale=4, size=light.shape) + light
    assert _clipped(np.rint(cut.clip(0)).astype(kind)) > 0.3


@pytest.mark.parametrize("end", ["black", "white"])
def test_exposures_cut_off_at_an_end_of_their_range_are_warned_of(folder, end, capsys):
    rng = np.random.default_rng(2)
    clean = dead_leaves(rng, size=96) // 16 + (0 if end == "black" else 240)
    for exposure in range(2):
        expose(folder / f"cut/{exposure}.png", clean, rng)
    align_exposures(Scenes(find_scenes(folder)))
    lines = capsys.readouterr().out.splitlines()
    (warning,) = [line for line in lines if line.startswith("warning")]
    assert "% of the values of an exposure of cut are at the end of its range" in warning


def test_few_photons_are_no_values_that_were_cut_off(folder, capsys):
    rng = np.random.default_rng(2)
    light = dead_leaves(rng, size=96)[..., 0] / 50 + 1.5
    for exposure in range(2):
        path = folder / f"photons/{exposure}.tif"
        path.parent.mkdir(exist_ok=True)
        tifffile.imwrite(path, rng.poisson(light).astype(np.uint16))
    align_exposures(Scenes(find_scenes(folder)))
    lines = capsys.readouterr().out.splitlines()
    assert not any(line.startswith("warning") for line in lines)


def test_exposures_that_use_hardly_any_of_the_others_range_are_said(tmp_path):
    rng = np.random.default_rng(0)
    for top in (2500, 60000):
        for scene in range(3):
            (tmp_path / f"{top}/{scene}").mkdir(parents=True)
            for exposure in range(2):
                values = rng.integers(0, top, (96, 96)).astype(np.uint16)
                tifffile.imwrite(tmp_path / f"{top}/{scene}/{exposure}.tif", values)
                both = tmp_path / f"both/{top}-{scene}/{exposure}.tif"
                both.parent.mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(both, values)
    for name in ("2500", "60000"):
        assert training_scenes(tmp_path / name, 32)[0].hint == ""
    hint = training_scenes(tmp_path / "both", 32)[0].hint
    assert re.search(r"2500-\d/\d\.tif uses 3\.\d% of it \(\d of \d+ looked at use less", hint)
    assert training_scenes(tmp_path / "both", 32, (0.0, 60000.0))[0].hint == ""


def test_a_range_given_for_exposures_of_8_bits_is_used_again_to_restore(tmp_path):
    rng = np.random.default_rng(0)
    for scene in range(2):
        clean = dead_leaves(rng, size=96) * (60 / 255)
        for exposure in range(2):
            noisy = np.rint((clean + rng.normal(scale=3, size=clean.shape)).clip(0, 60))
            path = tmp_path / f"dim/{scene}/{exposure}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noisy.astype(np.uint8)).save(path)
    sizes = ("--epochs", 1, "--steps", 1, "--batch", 4, "--crop", 32, "--range", "-1e-3", "6e1")
    command = ("train_model.py", "captured", tmp_path / "dim", *sizes)
    call_script(*command, "--output-dir", tmp_path / "r")
    one, deep, grey = tmp_path / "dim/0/0.png", tmp_path / "deep.tif", tmp_path / "grey.png"
    Image.open(one).convert("L").save(grey)
    tifffile.imwrite(deep, np.asarray(Image.open(one)).astype(np.uint16) * 100)
    done = call_script(
        *("infer.py", "captured", "dim", "--models", tmp_path / "r", "--output", tmp_path / "o"),
        *("--restore", one, deep, grey),
        check=2,
    )
    assert f"{grey} is grey, and captured-dim, trained on colour only, does little" in done.stdout
    assert f"{one}: range -0.001 to 60, that of the training" in done.stdout
    assert f"values of {deep} are not like those of -0.001 to 60" in one_error_line(done)


def test_scenes_too_large_to_keep_are_decoded_once_for_many_crops(folder, monkeypatch):
    exposure = 96 * 96 * 3 * 2  # bytes
    monkeypatch.setattr("noise2noise.cache.CACHE_BYTES", 8 * exposure)
    training, _ = training_scenes(folder, 32)  # 2 + 3 exposures: all are kept
    assert training.window == 0
    monkeypatch.setattr("noise2noise.cache.CACHE_BYTES", 4 * exposure)
    training, _ = training_scenes(folder, 32)
    assert (training.window, training.crops_per_image) == (1, 8)
    read, decode = [], training._read
    training._cached = Cache(lambda n: read.append(n) or decode(n))
    dataset = CapturedDataset(training, batch_size=4, crop_size=32, steps=100)
    for i in range(100):
        dataset[i]
    assert len(read) <= 5 * (100 * 4 / 8 + 1) / 2  # each exposure once a turn of its scene's


def write_stack(path, rng, pages=6, drift=0, peak=3000):
    """Save a scene as a stack of 12 bits in 16, grey, drifting by so many pixels a page."""
    clean = dead_leaves(rng, size=96)[..., 1] / 255
    pages = [
        np.roll(clean, k * drift, 1) + rng.normal(scale=0.05, size=(96, 96)) for k in range(pages)
    ]
    tifffile.imwrite(path, np.rint(800 + peak * np.stack(pages)).clip(0).astype(np.uint16))


@pytest.fixture
def stacks(tmp_path):
    """Two stacks of different lengths, and a folder of two single files and a stack of three."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "stacks"
    (folder / "mixed").mkdir(parents=True)
    write_stack(folder / "one.tif", rng)
    write_stack(folder / "two.tif", rng, pages=5)
    write_stack(folder / "mixed/b.tif", rng, pages=5)
    first = tifffile.imread(folder / "mixed/b.tif")
    tifffile.imwrite(folder / "mixed/a.tif", first[0])
    tifffile.imwrite(folder / "mixed/b.tif", first[1:], photometric="minisblack")
    return folder


def test_the_pages_of_stacks_are_exposures(stacks, capsys):
    scenes = find_scenes(stacks)
    assert [(s.name, len(s.exposures)) for s in scenes] == [
        ("mixed", 5),
        ("one.tif", 6),
        ("two.tif", 5),
    ]
    opened = Scenes(scenes)
    assert opened.colors == {1}
    np.testing.assert_array_equal(opened[1][4][..., 0], tifffile.imread(stacks / "one.tif")[4])
    np.testing.assert_array_equal(opened[0][2][..., 1], tifffile.imread(stacks / "mixed/b.tif")[1])
    assert len(check_lines(opened, capsys)) == 3


def check_lines(scenes, capsys):
    align_exposures(scenes)
    return capsys.readouterr().out.splitlines()


def test_one_stack_alone_is_cut_into_pages_to_train_on_and_to_validate_with(stacks):
    training, validation = training_scenes(stacks / "one.tif", 32)
    assert [len(scene) for scene in (*training, *validation)] == [4, 2]
    tifffile.imwrite(
        stacks / "short.tif", np.zeros((3, 64, 64), np.uint8), photometric="minisblack"
    )
    with pytest.raises(InputError, match=r"short\.tif holds 3 exposures of one scene: at least 4"):
        training_scenes(stacks / "short.tif", 32)


def test_one_burst_alone_is_cut_as_a_stack_is(tmp_path, capsys):
    """In a folder, or in the only sub-folder of one: frame 10 comes after frame 9."""
    rng = np.random.default_rng(0)
    clean = dead_leaves(rng, size=96) // 2 + 64
    burst = tmp_path / "my/burst"
    for exposure in range(12):
        expose(burst / f"frame{exposure}.png", clean, rng)
    for folder in (burst, burst.parent):
        training, validation = training_scenes(folder, 32)
        assert [path.stem for path in training.paths] == [f"frame{n}" for n in range(10)]
        assert [path.stem for path in validation.paths] == ["frame10", "frame11"]
    said = capsys.readouterr().out
    assert said.count(", 12 in all, are taken for exposures of one scene") == 1
    (burst / "notes").mkdir()
    assert [scene.name for scene in find_scenes(burst)] == ["burst", "burst, last 2 exposures"]
    parts = scenes._split_exposures(scenes.Scene("a", tuple(range(32))), burst)
    assert [len(part.exposures) for part in parts] == [28, 4]
    (burst / "restored").mkdir()
    shutil.copy(burst / "frame0.png", burst / "restored")
    with pytest.raises(InputError, match=r"burst holds 12 pictures and restored/ others: move"):
        find_scenes(burst)
    shutil.rmtree(burst / "restored")
    for path in sorted(burst.glob("*.png"))[3:]:
        path.unlink()
    with pytest.raises(InputError, match="burst holds 3 exposures of one scene: at least 4"):
        find_scenes(burst)


def test_stacks_of_a_and_b_are_paired_page_by_page(stacks):
    for side in "ab":
        (stacks.parent / "pairs" / side).mkdir(parents=True)
        write_stack(stacks.parent / "pairs" / side / "s.tif", np.random.default_rng(ord(side)))
    scenes = find_scenes(stacks.parent / "pairs")
    assert [s.name for s in scenes] == [f"s.tif, page {n}" for n in range(1, 7)]
    assert all(len(s.paths) == 2 for s in scenes)
    write_stack(stacks.parent / "pairs/b/s.tif", np.random.default_rng(0), pages=5)
    with pytest.raises(InputError, match=r"s\.tif has 6 pages and .*s\.tif 5"):
        find_scenes(stacks.parent / "pairs")


def test_neighbours_in_time_are_pairs(stacks, capsys):
    """What drifts is compared from page to page, where pages are paired so."""
    write_stack(stacks / "drift.tif", np.random.default_rng(1), pages=12, drift=2)
    (scene,) = (s for s in find_scenes(stacks) if s.name == "drift.tif")
    for far, shift in ((None, 22), (1, 2)):
        scenes = Scenes([scene])
        scenes.neighbours = far
        assert f"shift {shift}.0 pixels, aligned but for 0.0" in check_lines(scenes, capsys)[0]
        assert scenes[0][0].shape == (96, 96 - 22, 1 if scenes.grey else 3)
    scenes = Scenes([scene])  # not aligned: whole pages tell by their sums which they are
    for far, pairs in ((1, 22), (2, 42), (None, 132)):
        scenes.neighbours = far
        dataset = CapturedDataset(scenes, batch_size=500, crop_size=96, steps=2)
        sums = [np.float32(page / 65535).sum() for page in scenes[0]]
        found = {
            tuple(int(np.argmin(np.abs(np.array(sums) - x[..., 0].sum() * 3))) for x in pair)
            for inputs, targets in (dataset[0], dataset[1])
            for pair in zip(inputs, targets, strict=True)
        }
        assert len(found) == pairs
        assert max(abs(i - j) for i, j in found) == (far or 11)


def test_two_pages_that_are_the_same_picture_are_refused(stacks, capsys):
    pages = tifffile.imread(stacks / "one.tif")
    pages[4] = pages[2]
    tifffile.imwrite(stacks / "one.tif", pages)
    with pytest.raises(InputError, match=r"one\.tif, page 5, and .*one\.tif, page 3, are the same"):
        check_lines(Scenes(find_scenes(stacks)), capsys)


def test_slices_of_a_volume_are_no_exposures(tmp_path):
    rng = np.random.default_rng(0)
    slices = np.stack([dead_leaves(rng, size=96)[..., 0] for _ in range(6)])
    tifffile.imwrite(tmp_path / "volume.tif", slices, metadata={"axes": "ZYX"})
    line = one_error_line(call_script("train_model.py", "captured", tmp_path, check=2))
    assert "volume.tif, page 1, and" in line
    assert "do not show the same scene" in line


def test_for_a_few_values_that_are_no_numbers_others_near_stand_and_many_are_refused(
    stacks, capsys
):
    pages = tifffile.imread(stacks / "one.tif").astype(np.float32)
    pages[3, :2, :2] = np.nan
    tifffile.imwrite(stacks / "one.tif", pages)
    scenes = Scenes(find_scenes(stacks))
    (k,) = (k for k, scene in enumerate(scenes.scenes) if scene.name == "one.tif")
    image = scenes[k][3][..., 0]
    assert np.isfinite(image).all()
    assert image[0, 0] in (pages[3, 4, 0], pages[3, 0, 4])  # as in a mirror
    pages[3, : len(pages[3]) * 2 // 3] = np.nan
    tifffile.imwrite(stacks / "one.tif", pages)
    with pytest.raises(InputError, match=r"one\.tif, page 4, holds 67% no numbers"):
        check_lines(Scenes(find_scenes(stacks)), capsys)


def test_what_stands_for_none_though_no_tag_says_so_is_no_end_of_the_range(tmp_path, capsys):
    rng = np.random.default_rng(0)
    scene = dead_leaves(rng, size=128)[..., 0] / 2 + 250  # Kelvin
    y, x = np.mgrid[:128, :128]
    for name in ("one", "two"):
        pages = np.float32(scene + rng.normal(scale=5, size=(6, 128, 128)))
        pages[:, np.hypot(y - 64, x - 64) > 45] = -9999  # more than half
        tifffile.imwrite(tmp_path / f"{name}.tif", pages)
    scenes, _, _ = open_exposures(CAPTURED, tmp_path, 32, None, None)
    assert scenes.span[0] > 200
    assert scenes[0][0].min() > 200
    assert "61% of the values of" in capsys.readouterr().out
    align_exposures(scenes)
    said = capsys.readouterr().out
    assert "warning" not in said
    noise = float(re.search(r"noise (\S+)/255", said)[1])
    assert noise == pytest.approx(255 * 5 / np.ptp(scenes.span), rel=0.05)


@pytest.mark.parametrize("span", [(0, 10), (0, 65535)])
def test_a_range_that_does_not_suit_the_exposures_is_refused_before_it_trains(tmp_path, span):
    kelvin = np.random.default_rng(0).normal(300, 5, (2, 6, 64, 64)).astype(np.float32)
    for name, pages in zip("cd", kelvin, strict=True):
        tifffile.imwrite(tmp_path / f"{name}.tif", pages)
    with pytest.raises(InputError, match=rf"not like those of 0 to {span[1]}: give a --range"):
        training_scenes(tmp_path, 32, span)
    assert training_scenes(tmp_path, 32, (280, 320))[0].span == (280, 320)


def test_handheld_mosaics_and_series_that_fade_are_told_the_way_out(folder, capsys):
    rng = np.random.default_rng(0)
    (folder / "raw").mkdir()
    scene = camera.mosaic(np.float32(dead_leaves(rng, size=200)) * (0.5, 1, 0.7), (0, 0)) + 20
    for k, left in enumerate((0, 3)):
        shot = scene[:160, left : left + 160] + rng.normal(scale=4, size=(160, 160))
        write_png16(folder / f"raw/{k}.png", np.uint16(shot.clip(0, 255) * 200)[..., None])
    align_exposures(Scenes(find_scenes(folder)))
    said = capsys.readouterr().out.splitlines()
    (mosaic,) = [line for line in said if "mosaic" in line]
    assert mosaic.startswith("warning: the exposures of raw have a raw file's mosaic")
    stack = np.float32(dead_leaves(rng, size=96)[..., 0] + rng.normal(scale=4, size=(24, 96, 96)))
    fading = stack * np.linspace(1, 0.1, 24)[:, None, None]
    tifffile.imwrite(folder / "fading.tif", fading.astype(np.float32))
    (fading,) = [scene for scene in find_scenes(folder) if scene.name == "fading.tif"]
    first, *_, before, last = fading.exposures
    for exposures, says in (
        (fading.exposures, r"much darker .* \(a series: --neighbours 1 pairs those"),
        ((first, last, before), r"much darker .* no slices of a volume$"),  # side by side, too
    ):
        found = Scenes([Scene("a", exposures)])
        found.span = 0.0, 150.0
        with pytest.raises(InputError, match=says):
            align_exposures(found)


def test_exposures_of_other_depths_are_none_of_the_scene(folder):
    rng = np.random.default_rng(1)
    clean = dead_leaves(rng, size=96) // 2 + 127
    for exposure in range(2):
        expose(folder / f"other/{exposure}.png", clean // (1 + 3 * exposure), rng)
    with pytest.raises(InputError, match=r"1\.png is much darker or brighter than"):
        align_exposures(Scenes(find_scenes(folder)))


def test_a_range_is_measured_on_the_training_and_used_again(stacks, tmp_path):
    """12 bits in 16-bit files, grey: trained and restored with their own range."""
    command = ("train_model.py", "captured", stacks, *SMALL, "--output-dir", tmp_path / "r")
    done = call_script(*command, "--neighbours", 3)
    (low, high) = training_scenes(stacks, 32)[0].span
    assert 400 < low < 1000
    assert 3000 < high < 4300
    assert f"range {low:g} to {high:g}" in done.stdout
    run = tmp_path / "r/captured-stacks"
    settings = json.loads((run / "settings.json").read_text())["settings"]
    assert settings["range"] == [low, high]
    assert settings["neighbours"] == 3
    assert read_training(run / "model.keras")["range"] == [low, high]
    other, eight = tmp_path / "other.tif", tmp_path / "eight.png"
    tifffile.imwrite(other, tifffile.imread(stacks / "one.tif")[:2] / np.float32(4095))
    Image.fromarray(dead_leaves(np.random.default_rng(0), size=96)).save(eight)
    done = call_script(
        *("infer.py", "captured", "stacks", "--models", tmp_path / "r", "--output", tmp_path / "o"),
        *("--restore", stacks / "one.tif", other, eight),
        check=2,
    )
    assert f"one.tif (6 pages): range {low:g} to {high:g}, that of the training" in done.stdout
    line = one_error_line(done)
    assert f"values of {other} are not like those of {low:g} to {high:g}" in line
    assert f"{eight}: range" not in done.stdout
    after = tifffile.imread(tmp_path / "o/one.tif")
    assert (after.dtype, after.shape) == (np.uint16, (6, 96, 96))
    done = call_script(*command, "--neighbours", 2, check=2)
    assert "neighbours 3 there, 2 now" in one_error_line(done)


def test_files_of_two_depths_are_refused(folder, monkeypatch):
    rng = np.random.default_rng(0)
    for exposure in range(2):
        path = folder / f"eight/{exposure}.tif"
        path.parent.mkdir(exist_ok=True)
        tifffile.imwrite(path, rng.integers(0, 256, (96, 96, 3)).astype(np.uint8))
    with pytest.raises(InputError, match=r"holds \w+ values and .* \w+: give one kind"):
        training_scenes(folder, 32)
    monkeypatch.setattr("noise2noise.scenes.MEASURED", 1)  # others are noticed where they are used
    (folder / "eight").rename(folder / "scene1b")
    training, _ = training_scenes(folder, 32)
    with pytest.raises(InputError, match=r"holds uint8 values, others uint16: give one kind"):
        [image for scene in training for image in scene]


def test_near_exposures_only_and_the_floor_of_validation_come_with_the_scenes(tmp_path):
    pages = np.random.default_rng(0).normal(1000, 50, (16, 64, 64)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "stack.tif", pages, photometric="minisblack")
    training, validation, floor = open_exposures(CAPTURED, tmp_path / "stack.tif", 32, None, 1)
    assert training.neighbours == validation.neighbours == 1
    low, high = training.span
    assert floor == pytest.approx((50 / (high - low)) ** 2, rel=0.05)


def test_what_is_not_taken_of_fits_files_is_said(tmp_path, capsys):
    fits = pytest.importorskip("astropy.io.fits")
    scenes = [tmp_path / f"{name}.fits" for name in "abc"]
    rng = np.random.default_rng(0)
    for k, path in enumerate(scenes):
        image = rng.normal(size=(3, 64, 64)).astype(np.float32)
        further = [] if k == 2 else [fits.ImageHDU(image)]
        fits.HDUList([fits.PrimaryHDU(image), *further]).writeto(path)
    open_exposures(CAPTURED, tmp_path, 64, None, None)
    first, planes, *_ = capsys.readouterr().out.splitlines()
    assert first == f"{scenes[0]}: the first of its 2 images is taken (2 such files)"
    assert planes.startswith(f"{scenes[0]}: three planes are taken for exposures")
    assert planes.endswith("(3 such files)")


@pytest.mark.parametrize("options", [{"imagej": True}, {"ome": True}])
def test_pages_that_may_be_slices_or_channels_are_pointed_out(tmp_path, capsys, options):
    pages = np.random.default_rng(0).integers(0, 4000, (6, 64, 64)).astype(np.uint16)
    for axes, kind in (("ZYX", "slices"), ("CYX", "channels"), ("TYX", "")):
        stack = tmp_path / f"{axes}.tif"
        tifffile.imwrite(stack, pages, metadata={"axes": axes}, **options)
        open_exposures(CAPTURED, stack, 64, None, None)
        said = f"{stack}: its pages are {kind or 'slices'}, it says"
        assert capsys.readouterr().out.count(said) == bool(kind)
