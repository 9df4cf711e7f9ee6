"""The fused U-Net by OpenVINO, for restoring on CPUs: it needs neither Keras nor TensorFlow.

What `fused.fuse(model.load_unet(path))` computes, out of OpenVINO's operations and the weights in
the .keras file: it starts in a second, and takes pictures of any size without a compilation each.
"""

import functools
import io
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from noise2noise.tiles import MAX_TILE, SIZE_MULTIPLE

LEAKY_SLOPE = 0.1  # model.py's, which needs Keras
# What tells of an NVIDIA driver: on Linux, in containers, in Windows' Linux.
DRIVERS = ("proc/driver/nvidia/gpus/*", "dev/nvidia[0-9]*", "dev/dxg")


def load(path: Path, precision: str) -> "OpenVinoUNet | None":
    """Return the network of a .keras file, or None where it is a matter for Keras.

    That is so where Keras finds a GPU, where OpenVINO is not installed (a line says so), and
    for a file that is not plainly this U-Net: `model.load_unet` says what it is.

    Parameters
    ----------
    precision : "float32", or "auto" for what the CPU is fastest in
    """
    if _gpu() or not _openvino():
        return None
    try:
        weights = read_weights(path)
    except Exception:  # whatever zip, JSON and HDF5 raise
        return None
    return OpenVinoUNet(weights, precision)


@functools.cache
def _gpu() -> bool:
    """Whether Keras finds a GPU; without a driver there is no need to ask it."""
    if not any(any(Path("/").glob(driver)) for driver in DRIVERS):
        return False
    from noise2noise import backend

    return backend.on_gpu()


@functools.cache
def _openvino():
    """Return the package, or None where it is not installed."""
    # A package beside it reports each import to Google Analytics; without it nothing is sent.
    sys.modules.setdefault("openvino_telemetry", None)
    try:
        import openvino
    except ImportError:
        print(
            "OpenVINO is not installed: Keras restores, slower on a CPU (pip install openvino)",
            flush=True,
        )
        return None
    return openvino


def read_weights(path: Path) -> dict[str, list[np.ndarray]]:
    """Read the kernel and the bias of each convolution, float32, from a .keras file.

    Raises what zip, JSON and HDF5 raise, and `ValueError` for another network than Table 1.
    """
    import h5py

    with zipfile.ZipFile(path) as file:
        config = json.loads(file.read("config.json"))["config"]
        stored = io.BytesIO(file.read("model.weights.h5"))
    layers = [(layer["class_name"], layer["config"]["name"]) for layer in config["layers"]]
    weights = {}
    with h5py.File(stored) as file:  # Keras numbers the layers of a class
        for kind, name in layers:
            if kind == "Conv2D":
                group = file[f"layers/conv2d{f'_{len(weights)}' if weights else ''}/vars"]
                weights[name] = [np.float32(group[key]) for key in "01"]
    found = [(*layer, *(array.shape for array in weights.get(layer[1], ()))) for layer in layers]
    n, m = weights["enc_conv0"][0].shape[2], len(weights["dec_conv1c"][1])
    if found != list(table1(n, m)):
        raise ValueError("another network")
    return weights


def table1(n: int, m: int) -> Iterator[tuple]:
    """Yield Table 1's layers as `model.build_unet(n, m)` has them: class, name, weights' shapes."""

    def conv(name, channels, filters):
        return "Conv2D", name, (3, 3, channels, filters), (filters,)

    yield "InputLayer", "input"
    yield conv("enc_conv0", n, 48)
    for level in range(1, 6):
        yield conv(f"enc_conv{level}", 48, 48)
        yield "MaxPooling2D", f"pool{level}"
    yield conv("enc_conv6", 48, 48)
    channels = 48
    for level in range(5, 0, -1):
        yield "UpSampling2D", f"upsample{level}"
        yield "Concatenate", f"concat{level}"
        skip, first, second = (n, 64, 32) if level == 1 else (48, 96, 96)
        yield conv(f"dec_conv{level}a", channels + skip, first)
        yield conv(f"dec_conv{level}b", first, second)
        channels = second
    yield conv("dec_conv1c", channels, m)


class OpenVinoUNet:
    """A network for `restore`: it has what that asks of a Keras model.

    Parameters
    ----------
    weights : dict of str to [kernel, bias]
        Of each convolution of Table 1.
    precision : "float32", or "auto" for what the CPU is fastest in
    """

    def __init__(self, weights: dict[str, list[np.ndarray]], precision: str):
        self.output_shape = None, None, None, len(weights["dec_conv1c"][1])
        options = {"PERFORMANCE_HINT": "LATENCY"}  # all cores that the process has, at one tile
        if precision == "float32":
            options["INFERENCE_PRECISION_HINT"] = "f32"
        compiled = _openvino().compile_model(build(weights), "CPU", options)
        self._request = compiled.create_infer_request()

    def predict_on_batch(self, x: np.ndarray) -> np.ndarray:
        """Restore float32 (1, height, width, n) to (1, height, width, m)."""
        return self._request.infer([x], share_inputs=True)[0]


def build(weights: dict[str, list[np.ndarray]]):
    """Return the openvino.Model of Table 1, fused as `fused.fuse` does.

    float32 (1, height, width, n) to (1, height, width, m), for sides of 32 to `MAX_TILE`: without
    a limit it would be a sixth slower.
    """
    from openvino import Dimension, Model
    from openvino import opset13 as ops

    slope = np.float32([LEAKY_SLOPE])

    def convolution(x, kernel):
        kernel = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
        return ops.convolution(x, kernel, [1, 1], [1, 1], [1, 1], [1, 1])

    def upsampled_convolution(x, kernel):
        # Each pixel stands at four places: so does the kernel, turned round, in the sum.
        turned = kernel[::-1, ::-1].transpose(2, 3, 0, 1)
        places = [((0, 0), (0, 0), (i, 1 - i), (j, 1 - j)) for i in (0, 1) for j in (0, 1)]
        summed = sum(np.pad(turned, place) for place in places)
        return ops.convolution_backprop_data(
            x, summed, [2, 2], pads_begin=[1, 1], pads_end=[1, 1], dilations=[1, 1]
        )

    def biased(x, name):
        return ops.add(x, weights[name][1][:, None, None])

    def conv(x, name):
        return ops.prelu(biased(convolution(x, weights[name][0]), name), slope)

    side = Dimension(SIZE_MULTIPLE, MAX_TILE)
    image = ops.parameter([1, side, side, weights["enc_conv0"][0].shape[2]], np.float32)
    x = ops.transpose(image, [0, 3, 1, 2])
    skips = [x]
    x = conv(x, "enc_conv0")
    for level in range(1, 6):
        x = conv(x, f"enc_conv{level}")
        x = ops.max_pool(x, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2]).output(0)
        skips.append(x)
    x = conv(x, "enc_conv6")
    skips.pop()  # pool5 feeds enc_conv6 alone
    for level in range(5, 0, -1):
        name = f"dec_conv{level}a"
        channels = x.get_output_partial_shape(0)[1].get_length()
        upsampled, skip = np.split(weights[name][0], [channels], axis=2)
        y = biased(convolution(skips.pop(), skip), name)
        x = ops.prelu(ops.add(upsampled_convolution(x, upsampled), y), slope)
        x = conv(x, f"dec_conv{level}b")
    x = biased(convolution(x, weights["dec_conv1c"][0]), "dec_conv1c")
    # It changes nothing, but where layers compute in bfloat16, in steps of 1/256 near 1, what
    # follows the last convolution is float32, and a convolution gives what its follower takes.
    x = ops.clamp(x, -1e30, 1e30)
    return Model([ops.transpose(x, [0, 2, 3, 1])], [image], "noise2noise_unet")
