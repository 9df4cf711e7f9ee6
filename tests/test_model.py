"""The network is the report's Table 1, to the letter."""

import re

import numpy as np
import pytest
from conftest import REPOSITORY, call_script

from model import build_unet, start_from
from noise2noise.backend import keras
from noise2noise.fused import fuse
from noise2noise.muon import Muon

# NAME and Nout as the report prints them.
TABLE1 = """
INPUT n | ENC_CONV0 48 | ENC_CONV1 48 | POOL1 48 | ENC_CONV2 48 | POOL2 48 | ENC_CONV3 48 | POOL3 48
ENC_CONV4 48 | POOL4 48 | ENC_CONV5 48 | POOL5 48 | ENC_CONV6 48
UPSAMPLE5 48 | CONCAT5 96 | DEC_CONV5A 96 | DEC_CONV5B 96
UPSAMPLE4 96 | CONCAT4 144 | DEC_CONV4A 96 | DEC_CONV4B 96
UPSAMPLE3 96 | CONCAT3 144 | DEC_CONV3A 96 | DEC_CONV3B 96
UPSAMPLE2 96 | CONCAT2 144 | DEC_CONV2A 96 | DEC_CONV2B 96
UPSAMPLE1 96 | CONCAT1 96 + n | DEC_CONV1A 64 | DEC_CONV1B 32 | DEC_CONV1C m
"""
ROWS = [tuple(row.strip().split(" ", 1)) for row in re.split(r"[|\n]", TABLE1.strip())]


@pytest.mark.parametrize(("n", "m"), [(3, 3), (1, 1), (4, 2)])
def test_its_layers_are_table_1(n, m):
    model = build_unet(n, m)
    expected = {name.lower(): eval(channels, {"n": n, "m": m}) for name, channels in ROWS}
    assert {layer.name: layer.output.shape[-1] for layer in model.layers} == expected
    for name in expected:
        if "conv" in name:
            layer = model.get_layer(name)
            assert layer.kernel_size == (3, 3)
            assert layer.padding == "same"
            linear = name == "dec_conv1c"
            x = np.array([-2.0, 3.0], np.float32)
            np.testing.assert_allclose(layer.activation(x), x if linear else [-0.2, 3], rtol=1e-6)


def test_python_model_py_prints_the_table():
    lines = call_script("model.py").stdout.splitlines()
    printed = [tuple(re.split(r"\s{2,}", line)[:2]) for line in lines[1 : len(ROWS) + 1]]
    assert printed == ROWS
    assert "991,203" in lines[-1]


def test_a_network_for_colours_starts_a_grey_one_that_is_the_same_on_grey_pictures():
    colour, grey = build_unet(), build_unet(1, 1)
    start_from(grey, colour)
    picture = np.random.default_rng(0).random((1, 64, 64, 1), np.float32)
    expected = colour.predict_on_batch(np.repeat(picture, 3, axis=-1)).mean(-1, keepdims=True)
    np.testing.assert_allclose(grey.predict_on_batch(picture), expected, atol=1e-5)


def test_the_skips_join_where_table_1_says():
    model = build_unet()
    sources = {level: model.get_layer(f"pool{level - 1}") for level in (5, 4, 3, 2)}
    sources[1] = model.get_layer("input")
    for level, source in sources.items():
        upsampled, skip = model.get_layer(f"concat{level}").input
        assert upsampled is model.get_layer(f"upsample{level}").output
        assert skip is source.output


def test_model_knows_nothing_of_noise():
    source = (REPOSITORY / "model.py").read_text()
    imports = re.findall(r"^\s*(?:from|import) ([\w.]+)", source, re.MULTILINE)
    assert set(imports) <= {"noise2noise.backend", "noise2noise.errors", "pathlib", "zipfile"}


@pytest.mark.parametrize("size", [(32, 32), (64, 96)])
def test_the_fused_network_is_the_same_function_of_the_same_weights(size):
    keras.utils.set_random_seed(0)
    model = build_unet()
    fused = fuse(model)
    assert [a.path for a in fused.weights] == [b.path for b in model.weights]
    x = np.random.default_rng(0).random((2, *size, 3), dtype=np.float32)
    expected = model.predict_on_batch(x)
    np.testing.assert_allclose(fused.predict_on_batch(x), expected, atol=3e-5)
    fused.compile("sgd", "mse")
    fused.train_on_batch(x, x)
    trained = model.predict_on_batch(x)
    assert np.abs(trained - expected).max() > 1e-3
    np.testing.assert_allclose(fused.predict_on_batch(x), trained, atol=3e-5)


@pytest.mark.parametrize("shape", [(432, 48), (72, 96)])
def test_muons_iteration_is_keras_own_in_less_arithmetic(shape):
    matrix = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    muon = Muon()
    expected = np.asarray(muon.zeropower_via_newtonschulz5(matrix, 5))
    np.testing.assert_allclose(np.asarray(muon.orthogonal(matrix)), expected, atol=1e-5)


def test_muon_takes_nesterovs_momentum():
    kernel = keras.Variable(np.zeros((3, 3, 8, 16), np.float32), name="kernel")
    optimizer = Muon(0.1)
    optimizer.build([kernel])
    first, second = np.random.default_rng(0).normal(size=(2, *kernel.shape)).astype(np.float32)
    for gradient in (first, second):
        before = np.asarray(kernel)
        optimizer.apply([gradient], [kernel])
    step = second + 0.95 * (second + 0.95 * first)
    expected = optimizer.lr_adjust(optimizer.orthogonal(step.reshape(-1, 16)))
    taken = (before - np.asarray(kernel)).reshape(-1, 16)
    np.testing.assert_allclose(taken, 0.1 * np.asarray(expected), atol=1e-5)


def test_muons_step_for_a_hidden_kernel_is_orthogonal_and_adams_is_taken_elsewhere():
    kernel = keras.Variable(np.zeros((3, 3, 8, 16), np.float32), name="kernel")
    first = keras.Variable(np.zeros((3, 3, 3, 16), np.float32), name="first")
    bias = keras.Variable(np.zeros(16, np.float32), name="bias")
    optimizer = Muon(0.1, 0.9, 0.99)
    assert (optimizer.adam_beta_1, optimizer.adam_beta_2) == (0.9, 0.99)
    assert not optimizer.weight_decay
    assert not optimizer.adam_weight_decay
    optimizer.build([kernel, first, bias])
    rng = np.random.default_rng(0)
    gradients = [rng.normal(size=v.shape).astype(np.float32) for v in (kernel, first, bias)]
    optimizer.apply(gradients, [kernel, first, bias])
    step = -np.asarray(kernel).reshape(-1, 16)
    singular = np.linalg.svd(step, compute_uv=False)
    assert singular.max() / singular.min() < 2  # Newton and Schulz's five steps come that near
    assert np.vdot(step, gradients[0].reshape(-1, 16)) > 0
    assert np.sqrt(np.mean(step**2)) == pytest.approx(0.1 * 0.2, rel=0.3)  # Adam's usual size
    for variable, gradient in ((first, gradients[1]), (bias, gradients[2])):
        np.testing.assert_allclose(np.asarray(variable), -0.1 * np.sign(gradient), rtol=1e-2)
