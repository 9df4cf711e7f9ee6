"""A folder as large as ImageNet's: time to the first batch, memory, and speed of NoisyDataset.

    python benchmarks/many_images.py                  20,000 pictures against 200
    python benchmarks/many_images.py --count 50000

Generated JPEGs of 400 x 500 pixels. Each folder is read in a process of its own by two
threads; prints the time to the first batch, crops per second after a warm-up,
and the peak of memory.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from noise2noise.deadleaves import dead_leaves

READ = """
import resource, sys, time
from concurrent.futures import ThreadPoolExecutor
sys.path.insert(0, sys.argv[1])
from data import NoisyDataset
start = time.monotonic()
dataset = NoisyDataset(sys.argv[2], "gaussian", batch_size=32, crop_size=64, steps=200)
dataset[0]
first = time.monotonic() - start
with ThreadPoolExecutor(2) as pool:
    def read(i):  # and let go of it
        dataset[i]

    list(pool.map(read, range(1, 201)))
    start = time.monotonic()
    list(pool.map(read, range(201, 601)))
speed = 400 * 32 / (time.monotonic() - start)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
print(f"first batch after {first:.2f} s, {speed:,.0f} crops/s, {peak:.2f} GB at the peak")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        small, large = Path(temporary, "small"), Path(temporary, "large")
        small.mkdir()
        large.mkdir()
        for k in range(200):
            picture = dead_leaves(np.random.default_rng(k), size=500)[:400]
            Image.fromarray(picture).save(small / f"{k:05}.jpg", quality=90)
        for k in range(args.count):  # names of their own, and so files of their own to the code
            os.link(small / f"{k % 200:05}.jpg", large / f"{k:05}.jpg")
        for folder in (small, large, small, large):
            print(f"{len(list(folder.iterdir())):6} pictures: ", end="", flush=True)
            subprocess.run([sys.executable, "-c", READ, REPOSITORY, folder], check=True)


if __name__ == "__main__":
    main()
