"""Restore a large picture: the time and the memory that it takes.

    python benchmarks/large_pictures.py               100 megapixels, some minutes

`infer.py --restore` restores it in a process whose peak of memory must stay below 3 GB; the exit
code is 1 if it does not. (That tiles give what the whole does is held by tests/test_photos.py.)
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

from noise2noise.deadleaves import dead_leaves
from noise2noise.errors import run_main


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
    args = parser.parse_args()
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
    return int(peak > 3)


if __name__ == "__main__":
    run_main(main)
