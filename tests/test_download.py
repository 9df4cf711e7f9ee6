"""The download scripts, run as a user does, against a server on loopback that misbehaves.

A failure is one line on stderr, exit code 2, and leaves everything as it was. Success needs the
real pictures, as their hashes are checked: they come from ../shared/mirror or from $MIRROR.
"""

import http.server
import io
import os
import tarfile
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
MIRROR = Path(os.environ.get("MIRROR") or REPO.parent / "shared/mirror")
KODAK, BSDS300 = "download_kodak.py", "download_BSDS300.py"
PICTURES = "/graphics/kodak/kodak"
ARCHIVE = "/Research/Projects/CS/vision/bsds/BSDS300-images.tgz"
needs_mirror = pytest.mark.skipif(
    not (MIRROR / PICTURES[1:]).is_dir() or not (MIRROR / ARCHIVE[1:]).is_file(),
    reason=f"no pictures in {MIRROR}: set MIRROR to a copy of both sites",
)
EVIL = Path(tempfile.gettempdir()) / f"evil-{os.getpid()}"  # what no archive may write


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        answers = self.server.answers
        answers[min(len(self.server.requests), len(answers)) - 1](self)

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *args):
        pass  # clients that hang up belong to these tests


@contextmanager
def serve(*answers):
    """A server that gives `answers` in turn, the last for ever; without any, a closed port."""
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
    """An answer: `data`, with whatever Content-Length it claims to have."""

    def answer(handler):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        if length is not None:
            handler.send_header("Content-Length", length)
        handler.end_headers()
        handler.wfile.write(data() if callable(data) else data)

    return answer


def mirror(handler):
    data = (MIRROR / handler.path[1:]).read_bytes()
    send(data, len(data))(handler)


def endless(handler):
    send(b"")(handler)
    while True:
        handler.wfile.write(bytes(1 << 16))


def archive(*members, mode="w:gz", **options):
    """A tar of (name, bytes or TarInfo attributes), after one harmless member."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode, **options) as tar:
        for name, content in [("BSDS300/iids_test.txt", b"1\n"), *members]:
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                vars(type("", (), {})) or None
                for attribute, value in content.items():
                    setattr(info, attribute, value)
                tar.addfile(info)
    return file.getvalue()
