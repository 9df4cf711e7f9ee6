"""The GPU's benchmark runs through, here on the CPU with tiny sizes, and survives its parts."""

import os
import subprocess
import sys
import time

import pytest
from conftest import REPOSITORY

from noise2noise.backend import keras

sys.path.append(str(REPOSITORY / "benchmarks"))
import gpu

FILES = {"gpu.md", "history.csv", "history.png", "log.txt", "model.keras", "results.json"}
PARTS = """
import sys, time
print('{"speed": 3}', flush=True)
time.sleep(60 * (sys.argv[1] == "hangs"))
raise RuntimeError("out of memory")
"""


@pytest.mark.parametrize(("how", "said"), [("hangs", "not done within 2 s"), ("fails", "exit")])
def test_a_part_that_fails_costs_its_own_result_only(tmp_path, capsys, how, said):
    bench = gpu.Benchmark(tmp_path, time.time() + 60, dry=True)
    process, _ = started = bench.start(["-c", PARTS, how])
    assert bench.finish("speed", started, 2 if how == "hangs" else 30) is None
    assert process.poll() is not None
    assert bench.rows("speed") == [{"speed": 3}]  # what it had found is kept
    assert said in capsys.readouterr().out
    bench.finish("next", bench.start(["-c", "print('fine')"]), 30)
    assert bench.failed == ["speed"]


def test_what_there_is_no_time_for_is_left_out(capsys):
    now = time.time()
    assert list(gpu.in_time([(64, 128), (64, 512)], now - 1)) == []
    assert list(gpu.in_time([(64, 128), (64, 512)], now + 60)) == [(64, 128), (64, 512)]
    assert capsys.readouterr().out.count("left_out") == 2


@pytest.mark.slow
def test_the_dry_run_passes(tmp_path, jax_cache):
    done = subprocess.run(
        ["bash", "benchmarks/gpu.sh", "--dry-run", "--seconds", "1200", "--output", tmp_path],
        cwd=REPOSITORY,
        env=os.environ | jax_cache | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith("all parts passed")
    assert {path.name for path in tmp_path.iterdir()} == FILES | {"settings.json"}
    tables = (tmp_path / "gpu.md").read_text()
    assert "| killed and resumed | passed |" in tables
    for row in (
        "bfloat16 adam, 4 x 32x32 | jax",
        "float32 adam, 4 x 32x32 | jax",
        "gaussian | 4",
    ):
        assert f"| {row} |" in tables, tables
    assert (tmp_path / "history.csv").read_text().count("\n") == 3
    assert "--epochs 2 --steps 4 --batch 4 --crop 32 | 32 |" in tables
    model = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert model.count_params() == 991_203
