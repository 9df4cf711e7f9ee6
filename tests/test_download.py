"""The download scripts, run as a user does, against a loopback server that misbehaves.

A failure is one line on stderr and exit code 2, and leaves everything as it was. Success needs
the real pictures, as their hashes are checked: they come from ../shared/mirror or $MIRROR.
"""

import ctypes
import http.server
import io
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
MIRROR = Path(os.environ.get("MIRROR") or REPO.parent / "shared/mirror")
PICTURES = "graphics/kodak/kodak"
ARCHIVE = "Research/Projects/CS/vision/bsds/BSDS300-images.tgz"
needs_mirror = pytest.mark.skipif(
    not ((MIRROR / PICTURES).is_dir() and (MIRROR / ARCHIVE).is_file()),
    reason=f"no pictures below {MIRROR}: set MIRROR to a copy of both sites",
)

KODAK, BSDS300 = "download_kodak.py", "download_BSDS300.py"
URL_OPTION = {KODAK: "--base-url", BSDS300: "--url"}
FIRST_FILE = {KODAK: "kodim01.png", BSDS300: "images/train/2092.jpg"}
FOLDER = "mes images [été] #1"
EVIL = Path(tempfile.gettempdir()) / f"evil-{os.getpid()}"  # what no archive may write


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path.rpartition("/")[2])
        answers = self.server.answers
        answers[min(len(self.server.requests), len(answers)) - 1](self)

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *args):
        pass  # clients hang up on most of what is sent here


@contextmanager
def serve(*answers):
    """Give `answers` in turn, the last one again and again; without any, be a closed port."""
    server = Server(("127.0.0.1", 0), Handler, bind_and_activate=False)
    server.server_bind()
    server.answers, server.requests = answers, []
    server.url = f"http://127.0.0.1:{server.server_port}"
    if answers:
        server.server_activate()
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    try:
        yield server
    finally:
        if answers:
            server.shutdown()
        server.server_close()


def send(data, length=None, status=200, **headers):
    """Make an answer of `data`, with whatever Content-Length it claims to have."""

    def answer(handler):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        if length is not None:
            handler.send_header("Content-Length", str(length))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def mirror(handler):
    data = (MIRROR / handler.path[1:]).read_bytes()
    send(data, len(data))(handler)


def endless(handler):
    send(b"")(handler)
    for _ in range(400):  # 26 MB: a script that reads on to the end would say so
        handler.wfile.write(bytes(1 << 16))


def member(name, content=b"", **attributes):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info, content


def archive(*members, mode="w:gz"):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


@cache
def repacked(*extra, flipped=None):
    """The real archive as a plain tar, with one byte of the picture `flipped` changed."""
    with tarfile.open(MIRROR / ARCHIVE) as real:
        members = [(m, bytearray(real.extractfile(m).read() if m.isfile() else b"")) for m in real]
    for info, content in members:
        if info.name == flipped:
            content[1000] ^= 1
    return archive(*members, *extra, mode="w")


def flipped(handler):
    send(repacked(flipped="BSDS300/images/test/3096.jpg"))(handler)


def options(script, folder, url):
    """The command line, and an environment without a proxy or a terminal."""
    return {
        "args": [sys.executable, REPO / script, "--output-dir", folder, URL_OPTION[script], url],
        "env": os.environ | {"NO_PROXY": "*", "TTY_COMPATIBLE": "0"},
        "text": True,
    }


def run(script, folder, url, **kwargs):
    kwargs |= options(script, folder, url)
    return subprocess.run(capture_output=True, timeout=60, **kwargs)


def occupied(base, script):
    """Make the output folder in `base`, with a damaged picture and the user's own notes."""
    folder = base / FOLDER
    (folder / FIRST_FILE[script]).parent.mkdir(parents=True)
    (folder / FIRST_FILE[script]).write_bytes(b"damaged")
    (folder / "notes.txt").write_text("mine")
    return folder


def contents(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() if p.is_file() else "folder"
        for p in folder.rglob("*")
    }


def assert_failed(result, script, *says, tries=1):
    *notices, last = result.stderr.splitlines()
    assert result.returncode == 2
    assert last.startswith(f"{script}: error: ") and all(words in last for words in says), last
    assert len(notices) == tries - 1
    assert all("; trying again in " in notice for notice in notices)
    assert not result.stdout


HTML = b"<!DOCTYPE html>\n<html><title>Log in</title></html>"
NOISE = random.Random(0).randbytes(100_000)
WHOLE = archive(member("BSDS300/images/train/2092.jpg", NOISE))
DAMAGED_XZ = bytearray(archive(member("BSDS300/a", NOISE.hex().encode() * 9), mode="w:xz"))
DAMAGED_XZ[len(DAMAGED_XZ) // 2] ^= 0x55


def with_member(name, **attributes):
    return send(archive(member("BSDS300/images", type=tarfile.DIRTYPE), member(name, **attributes)))


# What the server does, what the user reads, and how many times the script tries.
FAILURES = {
    "no network": (KODAK, None, "no connection", 4),
    "no answer": (KODAK, lambda handler: None, "no connection", 4),
    "not HTTP": (KODAK, lambda handler: handler.wfile.write(b"SSH-2.0\r\n"), "no connection", 4),
    "cut": (KODAK, send(NOISE, 2 * len(NOISE)), "cut half-way", 4),
    "cut, no length": (KODAK, send(NOISE), "100,000 bytes of something else", 4),
    "404": (KODAK, lambda handler: handler.send_error(404), "404 Not Found", 1),
    "503": (KODAK, lambda handler: handler.send_error(503), "503 Service Unavailable", 4),
    "HTML": (KODAK, send(HTML, len(HTML)), "an HTML page", 4),
    "wrong bytes": (KODAK, send(NOISE, len(NOISE)), "not the Kodak picture", 4),
    "nothing": (KODAK, send(b"", 0), "0 bytes", 4),
    "endless": (KODAK, endless, "more than 10,000,000 bytes", 4),
    "length is a word": (KODAK, send(NOISE, "many"), "not the Kodak picture", 4),
    "bad redirect": (KODAK, send(b"", status=302, Location="http://[oops"), "Invalid", 1),
    "bsds no network": (BSDS300, None, "no connection", 4),
    "bsds cut": (BSDS300, send(WHOLE[:-500], len(WHOLE)), "cut half-way", 4),
    "bsds truncated gzip": (BSDS300, send(WHOLE[:-500]), "not a whole tar archive", 4),
    "bsds 404": (BSDS300, lambda handler: handler.send_error(404), "404 Not Found", 1),
    "bsds HTML": (BSDS300, send(HTML, len(HTML)), "an HTML page", 4),
    "bsds wrong bytes": (BSDS300, send(NOISE), "not a whole tar archive", 4),
    "bsds other pictures": (BSDS300, send(WHOLE), "not those of BSDS300", 4),
    "bsds damaged xz": (BSDS300, send(DAMAGED_XZ), "not a whole tar archive", 4),
    "bsds flipped byte": (BSDS300, flipped, "not those of BSDS300", 4),
    "../": (BSDS300, with_member("../evil"), "'../evil', which BSDS300 has not", 4),
    "x/../../": (BSDS300, with_member("BSDS300/../../evil"), "which BSDS300 has not", 4),
    "absolute": (BSDS300, with_member(str(EVIL)), f"'{EVIL}', which BSDS300 has not", 4),
    **{
        kind: (BSDS300, with_member("BSDS300/x", **attributes), "'BSDS300/x', which", 4)
        for kind, attributes in {
            "symlink": {"type": tarfile.SYMTYPE, "linkname": str(EVIL)},
            "hard link": {"type": tarfile.LNKTYPE, "linkname": "../../notes.txt"},
            "device": {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5},
            "fifo": {"type": tarfile.FIFOTYPE},
        }.items()
    },
}


def fail(base, script, answer, says, tries):
    """Let `answer` be the only one that `script` gets, and check all that a failure promises."""
    folder = occupied(base, script)
    before = contents(base)
    with serve(*[answer] if answer else []) as server:
        url = f"{server.url}/[/b]/BSDS300.tgz"  # the brackets would be markup to rich
        result = run(script, folder, url)
    assert_failed(result, script, url, says, tries=tries)
    assert result.stderr.count(url) == tries
    assert len(server.requests) == (tries if answer else 0)
    assert contents(base) == before
    assert not EVIL.exists()


@pytest.fixture(scope="module")
def failures(tmp_path_factory):
    """All of `FAILURES` at once: most of their time is the wait before another try."""
    with ThreadPoolExecutor(15) as pool:
        yield {
            name: pool.submit(fail, tmp_path_factory.mktemp("failure"), *case)
            for name, case in FAILURES.items()
        }


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=needs_mirror if "flipped" in n else ()) for n in FAILURES],
)
def test_bad_answer(name, failures):
    failures[name].result()


@pytest.mark.parametrize("script", [KODAK, BSDS300])
def test_failure_leaves_no_new_files(tmp_path, script):
    with serve(lambda handler: handler.send_error(404)) as server:
        run(script, tmp_path / FOLDER, server.url)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


@pytest.mark.parametrize("script", [KODAK, BSDS300])
@pytest.mark.parametrize(
    ("name", "says"),
    [("file", "is a file"), ("file/x", "through a file"), ("x" * 300, "File name too long")],
)
def test_output_path_that_cannot_be(tmp_path, script, name, says):
    (tmp_path / "file").write_text("mine")
    with serve(mirror) as server:
        assert_failed(run(script, tmp_path / name, server.url), script, str(tmp_path / name), says)
    assert contents(tmp_path) == {"file": b"mine"}
    assert not server.requests


def drop_root():
    """Let permissions count for root too, by giving up CAP_DAC_OVERRIDE and _READ_SEARCH."""
    if os.geteuid() == 0:
        for capability in (1, 2):
            ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


@pytest.mark.parametrize("script", [KODAK, BSDS300])
@pytest.mark.parametrize("locked", ["", FOLDER, "picture"])
def test_no_permission(tmp_path, script, locked):
    folder = occupied(tmp_path / "base", script)
    before = contents(tmp_path)
    locked = folder / FIRST_FILE[script] if locked == "picture" else folder.parent / locked
    locked.chmod(0o500 if locked == folder else 0)
    try:
        with serve(send(NOISE)) as server:
            result = run(script, folder, server.url, preexec_fn=drop_root)
    finally:
        locked.chmod(0o700)
    assert_failed(result, script, str(folder), "Permission denied")
    assert contents(tmp_path) == before


def small_disk():
    """Let the system refuse every write beyond a file's first 200 kB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))


@pytest.mark.parametrize(
    ("script", "data"),
    [
        (KODAK, bytes(1_000_000)),
        (BSDS300, bytes(1_000_000)),
        (BSDS300, archive(member("BSDS300/big", bytes(1_000_000)))),  # full while unpacking
    ],
    ids=["kodak", "bsds", "unpacking"],
)
def test_full_disk(tmp_path, script, data):
    folder = occupied(tmp_path, script)
    before = contents(tmp_path)
    with serve(send(data)) as server:
        result = run(script, folder, server.url, preexec_fn=small_disk)
    assert_failed(result, script, str(folder), "cannot write", "File too large")
    assert len(server.requests) == 1
    assert contents(tmp_path) == before


@pytest.mark.slow
@pytest.mark.parametrize(("script", "number"), [(KODAK, "SIGINT"), (BSDS300, "SIGTERM")])
def test_ctrl_c_or_a_scheduler_in_the_middle_of_an_answer(tmp_path, script, number):
    sent, ended = threading.Event(), threading.Event()

    def slow(handler):
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        send(bytes(9_000_000), 9_900_000)(handler)  # more than the sockets can hold,
        sent.set()  # so the script has been writing
        ended.wait(60)

    folder = occupied(tmp_path, script)
    before = contents(tmp_path)
    with serve(slow) as server:
        process = subprocess.Popen(
            **options(script, folder, server.url),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # As from a terminal, even where pytest itself runs in the background.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            assert sent.wait(30)
            assert list(folder.rglob(".part-*"))
            process.send_signal(getattr(signal, number))
            stdout, stderr = process.communicate(timeout=30)
        finally:
            process.kill()
            ended.set()
    assert (process.returncode, stdout, stderr) == (130, "", "interrupted\n")
    assert contents(tmp_path) == before


def kodak_without(folder, *missing):
    shutil.copytree(MIRROR / PICTURES, folder, copy_function=shutil.copyfile, dirs_exist_ok=True)
    for name in missing:
        (folder / name).unlink()


def assert_kodak(result, folder):
    assert (result.returncode, result.stderr) == (0, "")
    assert "24 pictures" in result.stdout
    assert contents(folder) == contents(MIRROR / PICTURES)


@needs_mirror
def test_kodak(tmp_path):
    folder = tmp_path / "new" / FOLDER
    with serve(mirror) as server:
        url = f"{server.url}/{PICTURES}"
        assert_kodak(run(KODAK, folder, url), folder)
        assert len(server.requests) == 24

        server.requests.clear()
        assert_kodak(run(KODAK, folder, url + "/"), folder)
        assert not server.requests

        (folder / "kodim05.png").write_bytes((folder / "kodim06.png").read_bytes())
        (folder / "kodim23.png").unlink()
        assert_kodak(run(KODAK, folder, url), folder)
        assert server.requests == ["kodim05.png", "kodim23.png"]


@needs_mirror
def test_kodak_503_twice(tmp_path):
    kodak_without(tmp_path, "kodim24.png")
    busy = FAILURES["503"][1]
    with serve(busy, busy, mirror) as server:
        result = run(KODAK, tmp_path, f"{server.url}/{PICTURES}")
    assert server.requests == ["kodim24.png"] * 3
    assert result.stderr.count("503 Service Unavailable; trying again") == 2
    result.stderr = ""
    assert_kodak(result, tmp_path)


@needs_mirror
@pytest.mark.slow
def test_kodak_twice_at_once(tmp_path):
    kodak_without(tmp_path, "kodim01.png", "kodim02.png", "kodim03.png")
    together = threading.Barrier(2, timeout=10)

    def in_step(handler):
        together.wait()
        mirror(handler)

    with serve(in_step) as server, ThreadPoolExecutor(2) as pool:
        url = f"{server.url}/{PICTURES}"
        for result in list(pool.map(lambda _: run(KODAK, tmp_path, url), range(2))):
            assert_kodak(result, tmp_path)


@needs_mirror
def test_bsds300(tmp_path):
    folder = tmp_path / "new" / FOLDER
    with tarfile.open(MIRROR / ARCHIVE) as tar:
        expected = {
            member.name.removeprefix("BSDS300/"): tar.extractfile(member).read()
            if member.isfile()
            else "folder"
            for member in tar
        }
    del expected["BSDS300"]

    def assert_bsds300(result):
        assert (result.returncode, result.stderr) == (0, "")
        assert contents(folder) == expected

    with serve(mirror) as server:
        url = f"{server.url}/{ARCHIVE}"
        assert_bsds300(run(BSDS300, folder, url))
        server.requests.clear()
        assert_bsds300(run(BSDS300, folder, url))
        assert not server.requests

    (folder / "images/train/2092.jpg").write_bytes(b"damaged")
    (folder / "images/test/3096.jpg").unlink()
    (folder / "images/train/notes.txt").write_bytes(b"mine")
    expected["images/train/notes.txt"] = b"mine"
    with serve(send(repacked())) as server:  # a plain tar will do as well
        assert_bsds300(run(BSDS300, folder, server.url))
        assert len(server.requests) == 1


@needs_mirror
def test_bsds300_after_a_wrong_archive(tmp_path):
    """What an answer with one picture too many has left is gone before the next one comes."""
    wrong = repacked(member("BSDS300/images/train/1.jpg", b"too many"))
    with serve(send(wrong), mirror) as server:
        result = run(BSDS300, tmp_path, f"{server.url}/{ARCHIVE}")
    assert result.returncode == 0, result.stderr
    assert len(server.requests) == 2
    assert len(list(tmp_path.rglob("*.jpg"))) == 300


@needs_mirror
def test_what_a_killed_download_left_is_removed_in_time(tmp_path):
    for name, age in (("old", 7200), ("new", 0)):
        left = tmp_path / f".unpack-{name}"
        (left / "BSDS300").mkdir(parents=True)
        os.utime(left, (time.time() - age,) * 2)
    with serve(mirror) as server:
        result = run(BSDS300, tmp_path, f"{server.url}/{ARCHIVE}")
    assert result.returncode == 0, result.stderr
    assert [path.name for path in tmp_path.glob(".unpack-*")] == [".unpack-new"]


@needs_mirror
def test_bsds300_beside_a_picture_of_the_user(tmp_path):
    mine = tmp_path / "images/train/mine.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with serve(mirror) as server:
        result = run(BSDS300, tmp_path, f"{server.url}/{ARCHIVE}")
    assert_failed(result, BSDS300, f"{tmp_path}/images", "not of BSDS300")
    assert mine.read_bytes() == b"mine"
