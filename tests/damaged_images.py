"""Feed damaged and hostile pictures to NoisyDataset and to infer.py, with and without --restore.

    python tests/damaged_images.py               500 pictures, some minutes
    python tests/damaged_images.py --count 50

Pictures of the usual formats with flipped bytes, cut short, with headers that claim 60,000 x
60,000 pixels, and files that are something else. Each must end in a result or in one line
that names the file: an exception of any other kind, more than 60 seconds for one picture or
more than 2 GB of memory make the exit code 1.
"""

import argparse
import collections
import functools
import io
import random
import resource
import signal
import struct
import sys
import tempfile
import traceback
import zipfile
import zlib
from pathlib import Path

import numpy as np
import tensorflow as tf
import tifffile
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import infer
from data import NoisyDataset
from model import build_unet
from noise2noise import images, plots
from noise2noise.datasets import ImageFiles
from noise2noise.deadleaves import dead_leaves
from noise2noise.errors import InputError
from noise2noise.filters import FILTERS
from noise2noise.fused import fuse
from noise2noise.networks import Trained

MEMORY = 2e9  # bytes
SECONDS = 60
SAVE = {  # what a sound file of each kind is saved as
    "png": {"format": "PNG"},
    "grey16.png": {"format": "PNG"},
    "palette.png": {"format": "PNG"},
    "jpg": {"format": "JPEG"},
    "progressive.jpg": {"format": "JPEG", "progressive": True},
    "tif": {"format": "TIFF"},
    "lzw.tif": {"format": "TIFF", "compression": "tiff_lzw"},
    "rgb16.png": {},
    "rgb16.tif": {},
    "bmp": {"format": "BMP"},
    "webp": {"format": "WEBP"},
}


def sound(kind: str) -> bytes:
    pixels = dead_leaves(np.random.default_rng(0), size=96)
    picture = Image.fromarray(pixels)
    if kind == "rgb16.png":
        return tf.io.encode_png(pixels.astype(np.uint16) * 257).numpy()
    if kind == "rgb16.tif":
        file = io.BytesIO()
        tifffile.imwrite(file, pixels.astype(np.uint16) * 257)
        return file.getvalue()
    if kind == "grey16.png":
        picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    elif kind == "palette.png":
        picture = picture.quantize(16)
    file = io.BytesIO()
    picture.save(file, **SAVE[kind])
    return file.getvalue()


def flipped(contents: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(contents)
    # Headers are damaged as often as pixels, although they are short.
    end = len(damaged) if rng.random() < 0.5 else min(200, len(damaged))
    for _ in range(rng.randint(1, 20)):
        damaged[rng.randrange(end)] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def huge_png(side: int, rng: random.Random) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(rng.randrange(100_000)))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def huge_bmp(side: int) -> bytes:
    contents = bytearray(sound("bmp"))
    contents[18:26] = struct.pack("<ii", side, side)
    return bytes(contents)


def something_else(rng: random.Random) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", "no picture" * 100)
    return rng.choice((file.getvalue(), b"", b"GIF89a", b"<html>", rng.randbytes(3000)))


def read_and_encode(path: Path) -> None:
    picture = images.read_picture(path)
    with images.open_file(path) as file:
        file.write(path.with_suffix(".again"), [picture.pixels])


def damaged_files(folder: Path, count: int, rng: random.Random):
    for number in range(count):
        kind = rng.choice(list(SAVE))
        match number % 5:
            case 0 | 1:
                contents = flipped(sound(kind), rng)
            case 2:
                contents = sound(kind)
                contents = contents[: rng.randrange(len(contents))]
            case 3:
                side = rng.choice((60_000, 30_000, 14_000, 9_000))
                contents, kind = rng.choice(((huge_png(side, rng), "png"), (huge_bmp(side), "bmp")))
            case _:
                contents = something_else(rng)
        path = folder / f"{number}.{kind}"
        path.write_bytes(contents)
        yield path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    # An untrained network, loaded once: this is about what goes in.
    infer.load_model = functools.cache(lambda path, precision: fuse(build_unet()))
    plots.save_and_show = lambda figure, path: plots.plt.close(figure)
    trained = [Trained("gaussian-untrained", FILTERS["gaussian"], Path("none"))]
    outcomes = collections.Counter()
    failures = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for path in damaged_files(folder, args.count, random.Random(args.seed)):
            ways = {
                "NoisyDataset": lambda path=path: NoisyDataset(
                    ImageFiles([path], 32), "gaussian", batch_size=1, crop_size=32
                )[0],
                "infer.py": lambda path=path: infer.show(
                    trained,
                    argparse.Namespace(image=path, strength=None, ensemble=False, output=folder),
                ),
                "--restore": lambda path=path: read_and_encode(path),
            }
            for way, feed in ways.items():
                signal.alarm(SECONDS)  # ends this process: a hang is a failure too
                try:
                    feed()
                    outcomes[way, "a result"] += 1
                except InputError as error:
                    outcomes[way, "one line"] += 1
                    if str(path) not in str(error) or "\n" in str(error):
                        failures.append(f"{way}: a line that does not name {path}: {error}")
                except Exception:
                    failures.append(f"{way}, {path.name}: {traceback.format_exc()}")
                signal.alarm(0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if peak > MEMORY:
        failures.append(f"{peak / 1e9:.2f} GB of memory")
    print(f"{args.count} damaged files, at most {peak / 1e9:.2f} GB of memory")
    for (way, outcome), number in sorted(outcomes.items()):
        print(f"{way:12} {outcome:9} {number}")
    print(*failures or ["no failure"], sep="\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
