"""Real exposures: found, measured, refused where they spoil the idea, and trained on."""

import shutil

import numpy as np
import pytest
from conftest import SMALL, call_script, one_error_line, write_png16
from PIL import Image

from data import CapturedDataset
from noise2noise.backend import keras
from noise2noise.datasets import Scenes, find_scenes
from noise2noise.deadleaves import dead_leaves
from noise2noise.errors import InputError
from noise2noise.exposures import check_exposures, warn_of_jpeg


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


def test_two_folders_a_and_b_are_scenes_by_name(folder, tmp_path):
    for side, exposure in (("a", "0.png"), ("b", "1.png")):
        for scene in range(3):
            target = tmp_path / "pairs" / side / f"{scene}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / f"scene{scene}" / exposure, target)
    scenes = find_scenes(tmp_path / "pairs")
    assert [s.name for s in scenes] == ["0.png", "1.png", "2.png"]
    (tmp_path / "pairs/b/1.png").unlink()
    with pytest.raises(InputError, match=r"1\.png is in one of them only"):
        find_scenes(tmp_path / "pairs")


def test_stray_folders_are_said(folder, capsys):
    (folder / "empty").mkdir()
    assert len(find_scenes(folder)) == 3
    assert "empty is empty and left out" in capsys.readouterr().out
    (folder / "day/scene").mkdir(parents=True)
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


def test_what_was_measured_is_printed_with_a_floor_for_the_loss(folder):
    lines = []
    floor = check_exposures(Scenes(find_scenes(folder)), out=lines.append)
    assert len(lines) == 3
    assert all("brightness within 0." in line for line in lines)
    assert floor == pytest.approx(0.05**2, rel=0.1)


def test_brightness_and_shift_are_warned_of(folder):
    rng = np.random.default_rng(1)
    clean = dead_leaves(rng, size=96) // 2 + 64
    for exposure in range(2):
        expose(folder / f"bright/{exposure}.png", clean, rng, scale=1 + 0.1 * exposure)
        expose(folder / f"shifted/{exposure}.png", clean, rng, shift=3 * exposure)
    lines = []
    check_exposures(Scenes(find_scenes(folder)), out=lines.append)
    warnings = [line for line in lines if line.startswith("warning")]
    assert len(warnings) == 2
    assert "bright differ in brightness by more than 2%" in warnings[0]
    assert "shifted are shifted by more than 0.5 pixels" in warnings[1]


def test_jpegs_are_accepted_with_a_line_that_says_why_they_are_worse(folder, capsys):
    for path in folder.glob("scene*/*.png"):
        Image.fromarray(np.asarray(Image.open(path))).save(path.with_suffix(".jpg"))
        path.unlink()
    warn_of_jpeg(Scenes(find_scenes(folder)))
    assert "0.jpg is a JPEG" in capsys.readouterr().out


def test_pictures_of_different_scenes_are_refused_and_flat_ones_are_not(folder):
    rng = np.random.default_rng(5)
    for exposure in range(2):
        expose(folder / f"flat/{exposure}.png", np.full((96, 96, 3), 128), rng)
    lines = []
    check_exposures(Scenes(find_scenes(folder)), out=lines.append)
    assert "too flat to measure a shift" in lines[0]
    for exposure in range(2):
        expose(folder / f"mixed/{exposure}.png", dead_leaves(rng, size=96), rng)
    with pytest.raises(InputError, match=r"mixed/1\.png do not show the same scene"):
        check_exposures(Scenes(find_scenes(folder)), out=lines.append)


def test_what_spoils_the_idea_is_refused_and_named(folder):
    shutil.copy(folder / "scene0/0.png", folder / "scene0/same.png")
    with pytest.raises(InputError, match=r"same\.png and .*0\.png are the same picture"):
        check_exposures(Scenes(find_scenes(folder)), out=lambda line: None)
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
    run = tmp_path / "r" / f"captured-{folder.name}"
    assert keras.saving.load_model(run / "model.keras").count_params() == 991_203
    assert "val_psnr" not in (run / "history.csv").read_text()
    assert (run / "history.png").exists()
    assert f"python infer.py captured {folder.name} --restore" in done.stdout


def test_captured_without_a_folder_says_how(tmp_path):
    done = call_script("train_model.py", "captured", check=2)
    assert "captured FOLDER" in done.stderr
    line = one_error_line(call_script("train_model.py", "captured", tmp_path, check=2))
    assert "at least two are needed" in line


def test_no_shift_is_measured_where_a_picture_holds_none(folder):
    """A smooth gradient looks the same wherever it is, so noise would decide."""
    ramp = np.broadcast_to(255 * np.linspace(0.01, 0.09, 200)[None, :, None], (200, 200, 3))
    for seed in range(5):
        rng = np.random.default_rng(seed)
        for exposure in range(2):
            # Lifted, so that nothing is clipped.
            expose(folder / f"ramp{seed}/{exposure}.png", ramp + 64, rng)
    lines = []
    check_exposures(Scenes(find_scenes(folder)), out=lines.append)
    ramps = [line for line in lines if "scene ramp" in line]
    assert len(ramps) == 5
    assert all("too flat to measure a shift" in line for line in ramps)
    assert not any(line.startswith("warning") for line in lines)


@pytest.mark.parametrize("end", ["black", "white"])
def test_exposures_cut_off_at_an_end_of_their_range_are_warned_of(folder, end):
    rng = np.random.default_rng(2)
    clean = dead_leaves(rng, size=96) // 16 + (0 if end == "black" else 240)
    for exposure in range(2):
        expose(folder / f"cut/{exposure}.png", clean, rng)
    lines = []
    check_exposures(Scenes(find_scenes(folder)), out=lines.append)
    (warning,) = [line for line in lines if line.startswith("warning")]
    assert "% of the values of an exposure of cut are at the end of its range" in warning
