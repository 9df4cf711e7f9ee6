"""Restoring on a CPU through OpenVINO: Keras' network, without Keras."""

import re
import sys

import numpy as np
import pytest
from conftest import REPOSITORY, call_script, run_script
from PIL import Image

from model import build_unet, load_unet
from noise2noise import backend, openvino_unet
from noise2noise.backend import keras
from noise2noise.openvino_unet import OpenVinoUNet, load
from noise2noise.tiles import MAX_TILE, restore_image

PRETRAINED = REPOSITORY / "pretrained/gaussian-bsds300.keras"
RESTORE = ("infer.py", "gaussian", "bsds300", "--models", PRETRAINED.parent, "--restore")


@pytest.fixture(autouse=True)
def found_anew():
    """OpenVINO and GPUs are looked for again, before a test and after it."""
    forget()
    yield
    forget()


def forget():
    openvino_unet._openvino.cache_clear()
    openvino_unet._gpu.cache_clear()


def image(*shape):
    return np.random.default_rng(0).random(shape, dtype=np.float32)


@pytest.mark.parametrize("channels", [(3, 3), (1, 1), (4, 2)])
def test_it_computes_what_build_unet_does(channels, tmp_path):
    keras.utils.set_random_seed(0)
    model = build_unet(*channels)
    rng = np.random.default_rng(1)
    weights = model.get_weights()
    model.set_weights([w if w.ndim > 1 else rng.normal(0, 0.1, w.shape) for w in weights])
    model.save(tmp_path / "model.keras")
    network = load(tmp_path / "model.keras", "float32")
    assert isinstance(network, OpenVinoUNet)
    assert network.output_shape == model.output_shape
    for size in ((32, 32), (96, 64), (32, 160)):
        x = image(1, *size, channels[0])
        expected = model.predict_on_batch(x)
        assert np.abs(expected).max() > 0.1
        largest = np.abs(expected).max()  # float32 sums of some hundred products
        np.testing.assert_allclose(network.predict_on_batch(x), expected, atol=1e-5 * largest)


@pytest.mark.parametrize("size", [(1, 1), (33, 71), (32, MAX_TILE + 40)])
def test_pictures_of_any_size_are_restored_as_by_keras(size):
    noisy = image(*size, 3)
    network, model = load(PRETRAINED, "float32"), load_unet(PRETRAINED)
    expected = restore_image(model, noisy, max_tile=2000)
    np.testing.assert_allclose(restore_image(network, noisy), expected, atol=1e-5)


def test_in_the_cpus_own_precision_the_output_is_not_in_steps():
    x = image(1, 64, 64, 3)
    fast, exact = (load(PRETRAINED, p).predict_on_batch(x) for p in ("auto", "float32"))
    assert np.abs(fast - exact).max() < 0.05
    assert len(np.unique(fast)) > 0.9 * fast.size  # bfloat16 has 128 values in [0.5, 1]


def test_keras_is_not_imported_and_nothing_is_reported(tmp_path):
    """OpenVINO would leave a client's number in ~/intel, and report its use to Google Analytics."""
    Image.fromarray((image(40, 50, 3) * 255).astype(np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "home").mkdir()
    environment = {"PYTHONPROFILEIMPORTTIME": "1", "HOME": str(tmp_path / "home")}
    for what in ("--restore", "--score"):
        command = (*RESTORE[:-1], what, tmp_path / "a.png" if what == "--restore" else tmp_path)
        done = run_script(*command, "--output", tmp_path / "out", **environment)
        imported = set(re.findall(r"\| +(\w+)$", done.stderr, re.MULTILINE))
        assert "openvino" in imported
        assert not imported & {"keras", "tensorflow", "jax"}
        assert "openvino_telemetry." not in done.stderr
    assert (tmp_path / "out/a.png").exists()
    assert (tmp_path / "out/scores.csv").exists()
    assert not list((tmp_path / "home").rglob("*intel*"))


def test_without_openvino_keras_restores_the_same_and_a_line_says_so(tmp_path, monkeypatch):
    Image.fromarray((image(40, 50, 3) * 255).astype(np.uint8)).save(tmp_path / "a.png")
    command = (*RESTORE, tmp_path / "a.png", "--output")
    with_it = call_script(*command, tmp_path / "with")
    assert "OpenVINO" not in with_it.stdout
    forget()
    monkeypatch.setitem(sys.modules, "openvino", None)
    without = call_script(*command, tmp_path / "without")
    assert without.stdout.count("OpenVINO is not installed") == 1
    restored = [np.int16(Image.open(tmp_path / folder / "a.png")) for folder in ("with", "without")]
    assert np.abs(restored[0] - restored[1]).max() <= 2


def test_keras_restores_where_it_finds_a_gpu(tmp_path, monkeypatch):
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(openvino_unet, "DRIVERS", (str(tmp_path / "nvidia*").lstrip("/"),))
    assert load(PRETRAINED, "float32")  # a driver, but no GPU for Keras
    forget()
    monkeypatch.setattr(backend, "_gpus", lambda: [("H100", 9.0)])
    assert load(PRETRAINED, "float32") is None


def test_another_network_is_left_to_keras(tmp_path):
    config = build_unet().get_config()
    for layer in config["layers"]:
        layer.pop("build_config", None)
        if layer["name"] == "enc_conv3":
            layer["config"]["filters"] = 40
    keras.Model.from_config(config).save(tmp_path / "narrower.keras")
    assert load(tmp_path / "narrower.keras", "float32") is None
    (tmp_path / "damaged.keras").write_bytes(PRETRAINED.read_bytes()[:-2000])
    assert load(tmp_path / "damaged.keras", "float32") is None
