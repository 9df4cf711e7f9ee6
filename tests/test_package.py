"""The package behind the scripts: it knows none of them, and most of it starts without Keras."""

import ast
import json
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
