"""Restore large pictures: tiles against the whole, and the memory that it takes.

    python benchmarks/large_pictures.py               12 and 100 megapixels, some minutes

First a picture of 12 megapixels goes through in tiles and at once, in this process: no pixel may
differ by more than 1/255. Then `infer.py --restore` restores one of 100 megapixels, in a
process whose peak of memory must stay below 3 GB. The exit code is 1 if either fails.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

import infer
from noise2noise.deadleaves import dead_leaves
from noise2noise.errors import run_main
from noise2noise.networks import find_models
from noise2noise.tiles import restore


def picture(height: int, width: int) -> np.ndarray:
    """A noisy picture of any size, uint8, from generated ones side by side."""
    rng = np.random.default_rng(0)
    leaves = [dead_leaves(rng, size=512) for _ in range(4)]
    rows = [
        np.concatenate([leaves[(i + j) % 4] for j in range(width // 512 + 1)], 1) for i in (0, 1)
    ]
    whole = np.concatenate([rows[i % 2] for i in range(height // 512 + 1)])[:height, :width]
    for top in range(0, height, 500):  # in parts, for the memory's sake
        part = whole[top : top + 500]
        noise = rng.normal(scale=25, size=part.shape).astype(np.float32)
        part[:] = np.clip(part + noise, 0, 255)
    return whole


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("filter", nargs="?", default="gaussian")
    parser.add_argument("dataset", nargs="?", default="bsds300", help="of the model to use")
    parser.add_argument("--skip-whole", action="store_true", help="leave the first part out")
    args = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        large = Path(temporary) / "large.png"
        Image.fromarray(picture(10_000, 10_000)).save(large, compress_level=1)
        output = Path(temporary) / "out"
        command = ["infer.py", args.filter, args.dataset, "--restore", large, "--output", output]
        start = time.monotonic()
        subprocess.run([sys.executable, *map(str, command)], cwd=REPOSITORY, check=True)
        seconds = time.monotonic() - start
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
        print(f"100 megapixels: {seconds:.0f} s, {peak:.2f} GB of memory at the peak", flush=True)
        failed |= peak > 3
    if not args.skip_whole:
        (trained,) = find_models(args.filter, args.dataset)
        model = infer.load_model(trained.path)
        image = np.divide(picture(3000, 4000), 255, dtype=np.float32)
        start = time.monotonic()
        tiled = restore(model, image)
        middle = time.monotonic()
        whole = restore(model, image, max_tile=1 << 20)
        end = time.monotonic()
        difference = float(np.abs(tiled - whole).max())
        print(
            f"12 megapixels: in tiles {middle - start:.0f} s, at once {end - middle:.0f} s, "
            f"largest difference {difference:.2e} (1/255 is {1 / 255:.2e})"
        )
        failed |= difference > 1 / 255
    return int(failed)


if __name__ == "__main__":
    run_main(main)
