"""How fast it is, beside what else one would use; run it while nothing else runs.

    python benchmarks/speed.py training     crops/s of training, PyTorch's beside it
    python benchmarks/speed.py pipeline     what each filter's noise costs beside a training step
    python benchmarks/speed.py inference    megapixels/s, PyTorch, BM3D and OpenCV beside it; and
                                            seconds of `infer.py --restore`, from start to file

Needs `pip install torch bm3d opencv-python-headless`. Every figure is the median of `--rounds`, in
each of which every candidate gets a process of its own, one after the other, so that a machine
that wanders is the same to all. Prints a table, and writes it to results/speed-NAME-MACHINE.md.
"""

import argparse
import contextlib
import itertools
import json
import os
import platform
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

CORES = len(os.sched_getaffinity(0))
CROP, BATCH = 64, 32
MEGAPIXELS = 12
NETWORK = REPOSITORY / "pretrained/gaussian-bsds300.keras"  # that restores
SETTINGS = (  # of PyTorch; bfloat16 only where the hardware has it, emulated it takes minutes
    "torch float32",
    "torch float32 channels-last",
    "torch float32 channels-last compiled",
    "torch bfloat16 channels-last",
    "torch bfloat16 channels-last compiled",
)


def machine() -> str:
    """The GPU's or the CPU's model, and the number of cores."""
    from noise2noise.backend import _gpus

    flags = Path("/proc/cpuinfo").read_text()
    named = re.search(r"^model name\s*: (.*)", flags, re.MULTILINE)  # ARM's have none
    cpu = named[1].strip() if named else platform.machine()
    known = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16", "avx512f": "AVX512"}
    vectors = next((name for flag, name in known.items() if flag in flags), "no AVX512")
    gpus = "".join(f"{name}, " for name, _ in _gpus())
    return f"{gpus}{cpu}, {vectors}, {CORES} cores, {platform.system()}"


def versions() -> str:
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for name in ("openvino", "tensorflow", "keras", "torch", "bm3d", "opencv-python-headless"):
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return ", ".join(found)


def unet_flops(pixels: int) -> float:
    """Operations of Table 1's convolutions, forward, for an image of so many pixels."""
    from model import build_unet

    convolutions = [layer for layer in build_unet().layers if hasattr(layer, "kernel")]
    # enc_conv0 and 1 and dec_conv1 are at full size, each further number at a quarter.
    return pixels * sum(
        2 * np.prod(layer.kernel.shape) / 4 ** max(int(layer.name[8]) - 1, 0)
        for layer in convolutions
    )


def timed(step: Callable[[], object], seconds: float = 6.0, warm_up: int = 3) -> float:
    """Median seconds of a call."""
    for _ in range(warm_up):
        step()
    times = []
    while sum(times) < seconds or len(times) < 3:
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    return median(times)


def fixed_batch(batch: int = BATCH):
    rng = np.random.default_rng(0)
    shape = (batch, CROP, CROP, 3)
    return [rng.random(shape, dtype=np.float32) for _ in range(2)]


def torch_device() -> str:
    import torch

    torch.backends.cudnn.benchmark = True
    return "cuda" if torch.cuda.is_available() else "cpu"


def torch_network(setting: str):
    """Return PyTorch's network at a setting, its device and precision."""
    import torch
    from torch_unet import TorchUNet

    from noise2noise.openvino_unet import read_weights

    device = torch_device()
    weights = [array for pair in read_weights(NETWORK).values() for array in pair]
    network = TorchUNet(weights).to(device)
    if "channels-last" in setting:
        network = network.to(memory_format=torch.channels_last)
    if "compiled" in setting:
        network = torch.compile(network)
    return network, device, "bfloat16" if "bfloat16" in setting else "float32"


def keras_network(precision: str = "auto", optimizer: str = "adam", together: int = 1):
    """Return the compiled network, as train_model.py has it but for the MSE it shows."""
    from model import build_unet
    from noise2noise import backend
    from noise2noise.backend import keras
    from noise2noise.fused import fuse
    from noise2noise.muon import Muon

    backend.set_precision(precision)
    model = fuse(build_unet())
    made = (Muon if optimizer == "muon" else keras.optimizers.Adam)(1e-4, 0.9, 0.99)
    options = {"jit_compile": backend.jit_compile(), "steps_per_execution": together}
    model.compile(made, "mse", **options)
    return model


def convolution_limit(precision: str) -> float:
    """TFLOP/s of a convolution from 96 to 96 channels, forward, as PyTorch's oneDNN has it."""
    import torch

    dtype = getattr(torch, precision)
    options = {"device": torch_device(), "dtype": dtype, "memory_format": torch.channels_last}
    x = torch.rand(BATCH, 96, CROP, CROP).to(**options)
    layer = torch.nn.Conv2d(96, 96, 3, padding=1).to(**options)
    with torch.inference_mode():
        seconds = timed(lambda: layer(x).flatten()[0].item(), 3)  # waits for a GPU
    return 2 * 9 * 96 * 96 * x.shape[0] * CROP * CROP / seconds / 1e12


def repeated(*batch):
    """Keras' stream of one batch again and again: the step without its data."""
    from noise2noise.backend import keras

    class Stream(keras.utils.PyDataset):
        num_batches = None

        def __getitem__(self, i):
            return batch

    return Stream()


def fit_crops(batches, steps: int = 20, first: int = 4) -> float:
    """Crops/s of `model.fit`, once it runs."""
    from noise2noise.backend import keras

    ends = []

    class Clock(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            float(logs["loss"])  # waits for the step, as Checkpoint does
            ends.append(time.perf_counter())

    model = keras_network()
    model.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=[Clock()])
    return BATCH * (steps - 1 - first) / (ends[-1] - ends[first])


def noisy_dataset(filter: str, workers: int = 0):
    from data import NoisyDataset
    from noise2noise.datasets import training_images

    images, _ = training_images("bsds300", CROP, 0)
    options = {"batch_size": BATCH, "crop_size": CROP, "steps": 1000, "workers": workers}
    return NoisyDataset(images, filter, **options)


def train_candidate(name: str) -> float:
    """Crops/s of one candidate's training step."""
    batch = fixed_batch()
    if name.startswith("torch"):
        from torch_unet import trainer

        step = trainer(*torch_network(name))
        return BATCH / timed(lambda: step(*batch))
    if name == "this project, whole training":
        from noise2noise import backend

        return fit_crops(backend.stream(noisy_dataset("gaussian")))
    if name == "this project, model.fit":
        return fit_crops(repeated(*fixed_batch()))
    if name == "this project, Table 1 unfused":
        from model import build_unet
        from noise2noise import backend
        from noise2noise.backend import keras

        backend.set_precision("auto")
        model = build_unet()
        model.compile(keras.optimizers.Adam(), "mse", jit_compile=backend.jit_compile())
    else:
        model = keras_network()
    return BATCH / timed(lambda: model.train_on_batch(*batch))


def torch_settings() -> list[str]:
    from noise2noise.backend import describe_device

    native = describe_device()[1] == "bfloat16"
    return [name for name in SETTINGS if native or "bfloat16" not in name]


def training() -> tuple[list[str], list[list[str]]]:
    settings = torch_settings()
    names = (
        "this project",
        "this project, model.fit",
        "this project, whole training",
        "this project, Table 1 unfused",
        *settings,
    )
    results = rounds("train_candidate", names)
    best = max(median(results[name]) for name in settings if results[name])
    flops = 3 * unet_flops(CROP * CROP)  # forward, and both gradients
    limits = rounds("convolution_limit", ("float32", "bfloat16"), 1)
    rows = []
    for name in names:
        if not results[name]:
            rows.append([name, "failed", "", ""])
            continue
        crops = median(results[name])
        rows.append([name, f"{crops:.1f}", f"{crops / best:.2f}", f"{crops * flops / 1e12:.3f}"])
    for precision, limit in limits.items():
        rows.append([f"limit: 96 to 96 convolution, {precision}", "", "", f"{limit[0]:.3f}"])
    return ["batch 32, 64x64", "crops/s", "of PyTorch's best", "TFLOP/s of Table 1"], rows


def pipeline_candidate(name: str) -> list[float]:
    """Crops/s of batches by the thread that asks for them, and by processes on all cores."""
    speeds = []
    for workers in (0, CORES):
        dataset = noisy_dataset(name, workers=workers)
        numbers = itertools.count()
        for _ in range(16):  # the pictures are decoded, and what lies ahead is used up
            dataset[next(numbers)]
        begin, made = time.perf_counter(), 0
        while time.perf_counter() - begin < 4:
            made += len(dataset[next(numbers)][0])
        speeds.append(made / (time.perf_counter() - begin))
        dataset.close()
    return speeds


def pipeline() -> tuple[list[str], list[list[str]]]:
    from noise2noise.filters import FILTERS

    results = rounds("pipeline_candidate", tuple(FILTERS))
    steps = rounds("train_candidate", ("this project",))["this project"]
    step = CORES / median(steps)  # core-seconds a crop
    rows = []
    for name, values in results.items():
        one, all_cores = (median(v) for v in zip(*values, strict=True))
        rows.append(
            [name, f"{1e6 / one:.0f}", f"{one:.0f}", f"{all_cores:.0f}", f"{100 / one / step:.1f}%"]
        )
    header = ["filter", "µs a pair", "pairs/s, one thread", f"{CORES} processes", "of a step"]
    return header, rows


def picture(megapixels: float) -> np.ndarray:
    from noise2noise.deadleaves import dead_leaves

    tile = dead_leaves(np.random.default_rng(0), size=500)
    count = int(megapixels * 1e6 / 250_000)
    rows = max(1, int(count**0.5 * 0.87))
    clean = np.tile(tile, (rows, max(1, round(count / rows)), 1)) / np.float32(255)
    return clean + np.random.default_rng(1).normal(0, 25 / 255, clean.shape).astype(np.float32)


# What is slow gets a part of the picture, its time grows with the pixels; memory is the part's.
PARTS = {"bm3d": 0.25, "OpenCV fastNlMeansDenoisingColored": 1}
OURS = ("this project", "this project, float32", "Keras", "Keras, float32")


def project_network(name: str):
    """Return the network as infer.py has it; "Keras": where OpenVINO is not installed."""
    import infer

    if name.startswith("Keras"):
        sys.modules["openvino"] = None
    return infer.load_model(NETWORK, "float32" if "float32" in name else "auto")


def restore_candidate(name: str) -> list[float]:
    """Megapixels/s of one candidate, and its peak memory in GB."""
    from noise2noise.tiles import restore_image

    noisy = picture(PARTS.get(name, MEGAPIXELS))
    if name.startswith("torch"):
        from torch_unet import Restorer

        model = Restorer(*torch_network(name))
    elif name in OURS:
        model = project_network(name)
    if name == "bm3d":
        import bm3d

        def work():
            bm3d.bm3d_rgb(noisy, 25 / 255)
    elif name.startswith("OpenCV"):
        import cv2

        eight = np.clip(noisy * 255, 0, 255).round().astype(np.uint8)

        def work():
            cv2.fastNlMeansDenoisingColored(eight, None, 25, 25, 7, 21)
    else:
        restore_image(model, noisy[:960, :960])  # compiled for a tile's size

        def work():
            restore_image(model, noisy)

    seconds = timed(work, 1, warm_up=0) if name == "bm3d" else once(work)
    pixels = noisy.shape[0] * noisy.shape[1] / 1e6
    return [pixels / seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6]


def once(work: Callable[[], None]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def difference_candidate(name: str) -> float:
    """Largest difference of an output in [0, 1] from Table 1's in Keras and float32."""
    from model import load_unet

    tile = picture(4)[None, :960, :960]
    expected = np.asarray(load_unet(NETWORK).predict_on_batch(tile))
    return float(np.abs(np.asarray(project_network(name).predict_on_batch(tile)) - expected).max())


# Sides of the pictures that a command restores, from the start of its process to the last file.
COMMANDS = {
    "a picture of 256x256": [(256, 256)],
    "a photo of 2 megapixels": [(1224, 1632)],
    "100 pictures of 100 sizes": np.random.default_rng(0).integers(100, 600, (100, 2)).tolist(),
}
WITHOUT_OPENVINO = """import runpy, sys
sys.modules["openvino"] = None
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")"""


def command_candidate(name: str) -> list[float]:
    """Seconds of `infer.py --restore`, "what, network", and its peak memory in GB."""
    import tempfile

    from PIL import Image

    what, _, network = name.partition(", ")
    noisy = np.clip(picture(4) * 255, 0, 255).round().astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "in").mkdir()
        for number, (height, width) in enumerate(COMMANDS[what]):
            Image.fromarray(noisy[:height, :width]).save(f"{folder}/in/{number}.png")
        command = [REPOSITORY / "infer.py", "gaussian", "bsds300", "--models", NETWORK.parent]
        command += ["--restore", f"{folder}/in", "--output", f"{folder}/out"]
        start = ["-c", WITHOUT_OPENVINO] if network == "Keras" else []
        begin = time.perf_counter()
        command = [sys.executable, *start, *command]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=REPOSITORY)
        seconds = time.perf_counter() - begin
    return [seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6]


def inference() -> tuple[list[str], list[list[str]]]:
    results = rounds("restore_candidate", (*OURS, *torch_settings(), *PARTS))
    differences = rounds("difference_candidate", OURS, 1)
    speeds = {name: median(v[0] for v in values) for name, values in results.items() if values}
    best = max((speed for name, speed in speeds.items() if name.startswith("torch")), default=None)
    rows = [
        [
            f"{name}, of {PARTS[name]} megapixels" if name in PARTS else name,
            f"{speed:.3f}",
            f"{speed / best:.2f}" if best else "",
            f"{speed / speeds['bm3d']:.1f}" if "bm3d" in speeds else "",
            f"{median(v[1] for v in results[name]):.2f}",
            f"{differences[name][0]:.1e}" if differences.get(name) else "",
        ]
        for name, speed in speeds.items()
    ]
    names = [f"{what}, {network}" for what in COMMANDS for network in OURS[::2]]
    for name, values in rounds("command_candidate", names).items():
        seconds, memory = (median(v) for v in zip(*values, strict=True))
        rows.append([f"{name}, start to file", f"{seconds:.1f} s", "", "", f"{memory:.2f}", ""])
    header = ["MP/s", "of PyTorch's best", "of bm3d", "peak GB", "off Keras float32 at most"]
    return [f"{MEGAPIXELS} megapixels", *header], rows


def rounds(function: str, names: tuple[str, ...], count: int | None = None) -> dict[str, list]:
    """Call `function(name)` in processes of their own, `count` times for each name."""
    results = {name: [] for name in names}
    for _ in range(count or ROUNDS):
        for name in names:
            done = subprocess.run(
                [sys.executable, __file__, "--call", function, name],
                capture_output=True,
                text=True,
            )
            try:
                results[name].append(json.loads(done.stdout.splitlines()[-1]))
            except (IndexError, ValueError):
                last = (done.stderr.strip().splitlines() or ["nothing on stderr"])[-1]
                print(f"{name} failed: {last}", file=sys.stderr)
            else:
                print(f"{function} {name}: {results[name][-1]}", file=sys.stderr, flush=True)
    return results


ROUNDS = 3


def main() -> int:
    global ROUNDS
    if sys.argv[1:2] == ["--call"]:
        print(json.dumps(globals()[sys.argv[2]](sys.argv[3])))
        return 0
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("training", "pipeline", "inference"))
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="(%(default)s)")
    parser.add_argument("--output-dir", type=Path, default=REPOSITORY / "results", metavar="DIR")
    args = parser.parse_args()
    ROUNDS = args.rounds
    made = {"training": training, "pipeline": pipeline, "inference": inference}
    header, rows = made[args.what]()
    lines = [
        f"{machine()}; {versions()}.",
        "",
        "| " + " | ".join(header) + " |",
        "|---" * len(header) + "|",
    ]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    print(*lines, sep="\n")
    args.output_dir.mkdir(parents=True, exist_ok=True)
    # Processors of one name differ in their vectors.
    name = re.sub(r"\W+", "-", machine().rsplit(", ", 2)[0].lower())
    path = args.output_dir / f"speed-{args.what}-{name}.md"
    path.write_text("\n".join(lines) + "\n")
    print(f"saved {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
