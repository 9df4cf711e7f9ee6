"""Download the Berkeley Segmentation Dataset's 300 pictures, BSDS300.

    python download_BSDS300.py                     into data/BSDS300/images/{train,test}/
    python download_BSDS300.py --url URL           from a mirror

Pictures that are there and right are kept, and a damaged set is fetched anew. The set is
checked by its pictures, not by the archive around them, so any repacked archive will do.
BSDS300 is for non-commercial research and education.
"""

import contextlib
import hashlib
import os
import shutil
import tarfile
import tempfile
import time
import zlib
from pathlib import Path, PurePath

from noise2noise.arguments import Parser, given_path
from noise2noise.errors import InputError, reading, run_main, write_failure
from noise2noise.files import LEFT_SECONDS, make_folder

try:
    from lzma import LZMAError
except ImportError:  # a Python built without it, whose tarfile refuses .xz with an error of its own
    from tarfile import TarError as LZMAError

URL = "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/bsds/BSDS300-images.tgz"
MAX_BYTES = 100_000_000  # of the archive (22 MB), and of what it unpacks to
# Over the JPEGs in the order of their names in the archive, each as name + NUL + bytes.
SHA256 = "44584b06a9d2f22028d345f087f99d2428a5b6c410e8bede069770a60a8a24ef"


def contents_sha256(folder: Path) -> str:
    """SHA-256 over the names and bytes of all JPEGs in `folder`/images/{train,test}."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("images/t*/[!.]*.jpg")):
        name = path.relative_to(folder).as_posix()
        digest.update(os.fsencode(f"BSDS300/{name}") + b"\0" + path.read_bytes())
    return digest.hexdigest()


def unpack(archive: Path, folder: Path) -> None:
    """Unpack `archive` into `folder`; `WrongContents` unless BSDS300 is in it, whole.

    Only plain files below BSDS300/ are accepted: no links, no devices, no "..".
    """
    from noise2noise.download import WrongContents, describe_start

    shutil.rmtree(folder / "BSDS300", ignore_errors=True)  # what a wrong archive has left
    try:
        with tarfile.open(archive) as tar:
            size = 0
            for member in tar:
                size += member.size
                parts = PurePath(member.name).parts
                inside = parts[:1] == ("BSDS300",) and ".." not in parts
                if not (inside and (member.isfile() or member.isdir())) or size > MAX_BYTES:
                    raise WrongContents(f"the archive holds {member.name!r}, which BSDS300 has not")
                # tarfile's own filter of what is unsafe is missing before Python 3.11.4.
                make_folder(folder.joinpath(*parts if member.isdir() else parts[:-1]))
                if member.isfile():
                    folder.joinpath(*parts).write_bytes(tar.extractfile(member).read())
    except (tarfile.TarError, zlib.error, LZMAError, EOFError, ValueError):
        raise WrongContents(
            f"the answer is not a whole tar archive but {describe_start(archive)}"
        ) from None
    except OSError as error:
        if error.errno is None:  # gzip's and zlib's complaints about damaged bytes
            raise WrongContents(f"the archive is damaged ({error})") from None
        raise
    if contents_sha256(folder / "BSDS300") != SHA256:
        raise WrongContents("the pictures in the archive are not those of BSDS300")


def download_BSDS300(folder: Path, url: str = URL) -> None:  # noqa: N802, the set's name
    """Fill `folder`/images/{train,test} with 200 and 100 verified JPEGs.

    Raises `InputError` where that fails, and then leaves `folder` as it was.
    """
    from noise2noise import download

    with reading(folder):
        complete = contents_sha256(folder) == SHA256
    if complete:
        print(f"{folder}: 300 pictures, all there and verified")
        return
    existed = folder.exists()
    make_folder(folder)
    for left in folder.glob(".unpack-*"):  # of a download that was killed
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime >= LEFT_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
    try:
        # Unpacked beside its place, so that moving a file there is one atomic step.
        with tempfile.TemporaryDirectory(prefix=".unpack-", dir=folder) as temporary:
            new = Path(temporary)
            archive = new / "BSDS300-images.tgz"
            download.fetch(url, archive, lambda part: unpack(part, new), MAX_BYTES)
            for path in sorted((new / "BSDS300").rglob("*")):
                target = folder / path.relative_to(new / "BSDS300")
                if path.is_dir():
                    make_folder(target)
                else:
                    path.replace(target)
    except OSError as error:
        raise write_failure(folder, error) from None
    finally:
        if not existed and not any(folder.iterdir()):
            folder.rmdir()
    if contents_sha256(folder) != SHA256:
        raise InputError(
            f"{folder}/images holds JPEGs that are not of BSDS300: move them elsewhere"
        )
    print(f"{folder}: 200 pictures to train on and 100 to test with, all verified")


def main() -> None:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--output-dir",
        type=given_path,
        metavar="DIR",
        help="where to put them (default: data/BSDS300)",
    )
    parser.add_argument(
        "--url", default=URL, metavar="URL", help="the archive's address (%(default)s)"
    )
    args = parser.parse_args()
    download_BSDS300(args.output_dir or Path(__file__).resolve().parent / "data/BSDS300", args.url)


if __name__ == "__main__":
    run_main(main)
