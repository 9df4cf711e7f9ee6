"""The package behind the scripts: it knows none of them, and most of it starts without Keras."""

import ast
import json
import os
import subprocess
import sys

import pytest
from conftest import REPOSITORY

SCRIPTS = {path.stem for path in REPOSITORY.glob("*.py")}
MODULES = sorted((REPOSITORY / "noise2noise").glob("*.py"))
WITH_KERAS = {"backend", "callbacks", "fused", "muon", "neighbours"}


def imported(source: str) -> set[str]:
    """The first names of all modules that a source imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_module_imports_a_script(path):
    assert {"train_model", "infer", "data", "model"} < SCRIPTS
    assert not imported(path.read_text()) & SCRIPTS


def test_what_needs_no_network_starts_without_keras():
    """Batches are made, and bad input is answered, by processes that import this much."""
    names = [path.stem for path in MODULES if path.stem not in {"__init__", *WITH_KERAS}]
    assert {"restore", "images", "datasets", "pairs", "workers", "runs", "metrics"} < set(names)
    imports = "".join(f"import noise2noise.{name}\n" for name in names)
    done = subprocess.run(
        [sys.executable, "-c", f"{imports}import json, sys\nprint(json.dumps([*sys.modules]))"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(json.loads(done.stdout))
    assert "noise2noise.pairs" in loaded
    assert not loaded & {"keras", "tensorflow", "jax"}


@pytest.mark.parametrize(("name", "broken"), [("theano", "numpy"), ("jax", "jax")])
def test_a_back_end_that_cannot_be_used_is_one_line(tmp_path, name, broken):
    (tmp_path / f"{broken}.py").write_text(f"raise ImportError('{name} is broken')")
    path = {"PYTHONPATH": str(tmp_path)} if name == broken else {}
    done = subprocess.run(
        [sys.executable, "data.py", "--output", tmp_path / "filters.png"],
        cwd=REPOSITORY,
        env=os.environ | {"KERAS_BACKEND": name} | path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("data.py: error: Keras: ")
    assert name in line


def test_a_back_end_that_does_not_train_is_named(tmp_path):
    done = subprocess.run(
        [sys.executable, "train_model.py", "--output-dir", tmp_path],
        cwd=REPOSITORY,
        env=os.environ | {"KERAS_BACKEND": "numpy"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "error: Keras does not train on numpy" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_reader_that_has_read_enough_ends_a_script_without_a_word():
    script = "print('a', flush=True); [print('b', flush=True) for _ in range(10**6)]"
    script = f"from noise2noise.errors import run_main; run_main(lambda: exec({script!r}))"
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"a\n"
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141


def test_a_scheduler_ends_a_script_as_ctrl_c_does():
    script = "import os, signal; from noise2noise.errors import run_main; "
    script += "run_main(lambda: os.kill(os.getpid(), signal.SIGTERM))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
