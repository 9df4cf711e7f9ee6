"""prj_test.sb, as it is, on a real SLURM of one node: `bash tests/slurm.sh start` makes one.

The jobs run in a copy of the working tree, on as little work as shows what is asked.
"""

import contextlib
import functools
import http.server
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

REPO = Path(__file__).resolve().parents[1]
MIRROR = Path(os.environ.get("MIRROR", REPO.parent / "shared/mirror"))
BSDS300 = "Research/Projects/CS/vision/bsds/BSDS300-images.tgz"
OURS = Path("/run/noise2noise-slurm/slurm.conf")
# sbatch hands the environment on, so the jobs find the python that runs these tests.
ENVIRONMENT = os.environ | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "SLURM_CONF": os.environ.get("SLURM_CONF", str(OURS)),
    "TRAIN_ON_CPU": "1",  # the GPU that this SLURM grants is a pretended one
}
pytestmark = pytest.mark.slow
FINAL = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}
SMALL = ["--batch", "4", "--crop", "32"]
LONG = "--time=20"  # no test waits for it
RUN = ["--epochs", "2", "--steps", "60", "--checkpoint-steps", "10", *SMALL]


def run(*command: str | Path, cwd: Path | None = None, timeout: float = 120) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=timeout
    )
    if done.returncode:
        raise AssertionError(f"{' '.join(map(str, command))}: {done.stdout}{done.stderr}")
    return done.stdout


def no_slurm() -> bool:
    try:  # without its configuration sinfo would try for a minute
        return not Path(ENVIRONMENT["SLURM_CONF"]).exists() or not run("sinfo", "-h", timeout=10)
    except (OSError, AssertionError, subprocess.TimeoutExpired):
        return True


@pytest.fixture(scope="module", autouse=True)
def slurm():
    if no_slurm():
        pytest.skip("no SLURM answers: as root, bash tests/slurm.sh start")


def poll(condition, what: str):
    """Return what `condition` returns as soon as it is true; fail when it never is.

    Five minutes are far more than any of it takes, also where something else keeps the
    machine busy.
    """
    end = time.monotonic() + 300
    while not (value := condition()):
        assert time.monotonic() < end, f"still not, after 300 s: {what}"
        time.sleep(0.1)
    return value


def copy_project(folder: Path) -> Path:
    """Copy the working tree, with what is not committed yet, and none of what git ignores."""
    names = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=REPO)
    for name in filter(None, names.split("\0")):
        if (REPO / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPO / name, folder / name)
    return folder


@contextlib.contextmanager
def serve_mirror():
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=MIRROR)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the project with both image sets; at the end its jobs are cancelled."""
    folder = copy_project(tmp_path_factory.mktemp("project"))
    if (REPO / "data").is_dir():
        shutil.copytree(REPO / "data", folder / "data")
    try:
        with serve_mirror() as url:  # nothing is fetched of what is there
            kodak, python = f"{url}/graphics/kodak/kodak/", sys.executable
            run(python, "download_kodak.py", "--base-url", kodak, cwd=folder)
            run(python, "download_BSDS300.py", "--url", f"{url}/{BSDS300}", cwd=folder)
    except AssertionError as error:
        if "MIRROR" in os.environ:
            raise
        pytest.skip(f"the image sets are neither in {REPO / 'data'} nor in {MIRROR}: {error}")
    yield folder
    submitted = [path.stem.split("-")[1] for path in folder.glob("slurm-*.out")]
    run("scancel", "--quiet", *submitted)


@pytest.fixture(scope="module")
def undisturbed(project) -> Path:
    """The folder of a run that nothing has interrupted, made without SLURM."""
    train = [sys.executable, "train_model.py", "gaussian", "kodak", *RUN]
    run(*train, "--name", "undisturbed", cwd=project)
    return project / "runs/undisturbed"


def submit(folder: Path, *options: str, arguments=()) -> str:
    """Submit prj_test.sb with sbatch's `options` and its own `arguments`; return the job's id."""
    return run("sbatch", "--parsable", *options, "prj_test.sb", *arguments, cwd=folder).strip()


def show(job: str) -> list[dict[str, str]]:
    """What SLURM knows of a job, one dictionary for each task of an array."""
    lines = run("scontrol", "show", "job", "--oneliner", job).splitlines()
    return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines if line]


def waits(task: str) -> bool:
    """Whether a task is in the queue again; SLURM has it wait there for two minutes."""
    [state] = show(task)
    assert state["JobState"] not in FINAL, state
    return state["JobState"] == "PENDING" and state["Reason"] == "BeginTime"


def release(task: str, **changes: str) -> None:
    """Have a task that is queued again start now: no setting of SLURM 22.05 does that.

    Not in the second that it was stopped in, when slurmd refuses it as a job it has killed.
    """
    poll(lambda: waits(task), f"{task} is queued again")
    options = [f"{key}={value}" for key, value in changes.items()]
    run("scontrol", "update", f"jobid={task}", "starttime=now+2", *options)
    poll(lambda: not waits(task), f"{task} has started again")


def finish(job: str) -> list[dict[str, str]]:
    """Wait until every task of a job has come to its end; return what SLURM knows of them."""
    poll(lambda: all(task["JobState"] in FINAL for task in show(job)), f"{job} has ended")
    return show(job)


def complete(task: str, log: Path) -> None:
    [state] = finish(task)
    assert (state["JobState"], state["ExitCode"]) == ("COMPLETED", "0:0"), log.read_text()


def training_pid(task: str) -> int | None:
    """The process id of the train_model.py that a running task has started."""
    [state] = show(task)
    with contextlib.suppress(AssertionError):  # none of its processes is known yet
        lines = run("scontrol", "listpids", state["JobId"]).splitlines()[1:]
        for pid in (int(line.split()[0]) for line in lines):
            with contextlib.suppress(OSError):
                if b"\0train_model.py\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
    return None


@contextlib.contextmanager
def held(task: str, file: Path):
    """Hold a task's training as soon as it has written `file`, so that it ends no sooner.

    Short runs are enough then, however long SLURM takes to stop them.
    """
    pid = poll(lambda: training_pid(task), "the training has begun")
    poll(file.exists, f"{file} is there")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def weights(run_folder: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(run_folder / "model.keras") as archive:
        contents = io.BytesIO(archive.read("model.weights.h5"))
    arrays = {}

    def keep(name, item):
        if isinstance(item, h5py.Dataset):
            arrays[name] = item[()].tobytes()

    with h5py.File(contents) as file:
        file.visititems(keep)
    return arrays


def assert_same(run_folder: Path, other: Path) -> None:
    history = (run_folder / "history.csv").read_text()
    assert history == (other / "history.csv").read_text()
    assert history.count("\n") == 3  # the header and 2 epochs
    assert len(weights(other)) == 36  # 18 convolutions, kernel and bias
    assert weights(run_folder) == weights(other)


def test_trains_all_eight_models(project):
    filters = ("gaussian", "poisson", "bernoulli", "text")
    names = {f"{filter}-{dataset}" for filter in filters for dataset in ("kodak", "bsds300")}
    job = submit(project, LONG, arguments=["--epochs", "1", "--steps", "3", *SMALL])
    tasks = finish(job)
    logs = {path.name: path.read_text() for path in (project / "logs").glob(f"*-{job}.log")}
    assert [(t["JobState"], t["ExitCode"]) for t in tasks] == [("COMPLETED", "0:0")] * 8, logs
    assert {path.parent.name for path in project.glob("runs/*/model.keras")} >= names
    assert set(logs) == {f"{name}-{job}.log" for name in names}


def test_time_limit_saves_requeues_and_goes_on(project, undisturbed):
    limit = ["--array=0", LONG, "--signal=B:USR1@600"]
    job = submit(project, *limit, arguments=[*RUN, "--name", "limit"])
    task, log, folder = f"{job}_0", project / f"logs/gaussian-kodak-{job}.log", project / "runs"
    with held(task, folder / "limit/checkpoint.npz"):
        # Only now is there a limit that comes near. SLURM looks for that every 30 s.
        [state] = show(task)
        minutes = int(state["RunTime"].split(":")[1])
        run("scontrol", "update", f"jobid={task}", f"timelimit={minutes + 2}")
        poll(lambda: "the time limit is near" in log.read_text(), "the warning")
    release(task, timelimit="20")
    complete(task, log)
    order = "stopped by SIGTERM and saved.*with code 75.*queued again.*going on at"
    assert re.search(order, log.read_text(), re.DOTALL)
    assert_same(folder / "limit", undisturbed)


def test_requeue_ends_where_an_undisturbed_run_does(project, undisturbed):
    job = submit(project, "--array=0", LONG, arguments=[*RUN, "--name", "requeue"])
    task, log, folder = f"{job}_0", project / f"logs/gaussian-kodak-{job}.log", project / "runs"
    with held(task, folder / "requeue/checkpoint.npz"):
        run("scontrol", "requeue", task)
    release(task)
    complete(task, log)
    assert "going on at" in log.read_text()
    assert_same(folder / "requeue", undisturbed)


def test_cancelled_run_goes_on_when_submitted_again(project, undisturbed):
    command = {"arguments": [*RUN, "--name", "cancel"]}
    job = submit(project, "--array=0", LONG, **command)
    folder = project / "runs/cancel"
    with held(f"{job}_0", folder / "history.csv"):  # the first epoch has ended
        run("scancel", f"{job}_0")
    [state] = finish(f"{job}_0")
    assert state["JobState"] == "CANCELLED"
    assert (folder / "checkpoint.npz").exists()
    assert not (folder / "model.keras").exists()
    job = submit(project, "--array=0", LONG, **command)
    log = project / f"logs/gaussian-kodak-{job}.log"
    complete(f"{job}_0", log)
    assert "going on at" in log.read_text()
    assert_same(folder, undisturbed)


def test_two_processes_train_as_one_does_and_go_on(project, jax_cache, monkeypatch):
    """Stopped on the way, they still end where one that nothing stopped does."""
    for name, value in jax_cache.items():
        monkeypatch.setitem(ENVIRONMENT, name, value)
    sizes = ["--epochs", "1", "--steps", "20", "--checkpoint-steps", "2", *SMALL]
    arguments = [*sizes, "--precision", "float32", "--name"]
    train = [sys.executable, "train_model.py", "gaussian", "kodak"]
    run(*train, *arguments, "one", cwd=project, timeout=300)
    tasks, folder = ["--array=0", "--ntasks-per-node=2", LONG], project / "runs"
    job = submit(project, *tasks, arguments=[*arguments, "two"])
    task, log = f"{job}_0", project / f"logs/gaussian-kodak-{job}.log"
    poll((folder / "two/checkpoint.npz").exists, "a checkpoint")
    run("scancel", "--batch", "--signal=USR1", task)
    release(task)
    complete(task, log)
    order = "stopped by SIGUSR1 and saved.*with code 75.*queued again.*going on at"
    assert re.search(order, log.read_text(), re.DOTALL)
    one, two = (weights(folder / name) for name in ("one", "two"))
    for name in one:
        pair = (np.frombuffer(arrays[name], np.float32) for arrays in (one, two))
        np.testing.assert_allclose(*pair, rtol=0, atol=5e-5)


def test_early_warning_requeues_that_task_only(project):
    """Before the training has begun, and of the last task, whose id is the whole array's."""
    activate = project / ".venv/bin/activate"  # takes as long as on a slow file system
    activate.parent.mkdir(parents=True)
    activate.write_text("until [ -e warned ]; do sleep 0.1; done\n")
    job = submit(project, "--array=0,4", LONG, arguments=[*RUN, "--output-dir", "runs/early"])
    log = project / f"logs/gaussian-bsds300-{job}.log"
    try:
        poll(log.exists, "the task has begun")
        run("scancel", "--batch", "--signal=USR1", f"{job}_4")
        poll(lambda: waits(f"{job}_4") or "limit is near" in log.read_text(), "the warning")
    finally:
        (project / "warned").touch()
    poll(lambda: waits(f"{job}_4"), f"{job}_4 is queued again")
    [other] = show(f"{job}_0")
    run("scancel", job)
    assert (other["JobState"], other["Restarts"]) == ("RUNNING", "0")


def fail(folder: Path, array: str) -> str:
    """Run tasks that must fail with exit code 2; return what they wrote."""
    tasks = finish(job := submit(folder, f"--array={array}"))
    assert {(task["JobState"], task["ExitCode"]) for task in tasks} == {("FAILED", "2:0")}
    logs = [*folder.glob(f"logs/*-{job}.log"), *folder.glob(f"slurm-{job}_*.out")]
    return "\n".join(path.read_text() for path in sorted(logs))


def test_missing_environment(tmp_path):
    folder = copy_project(tmp_path)
    run(sys.executable, "-m", "venv", "--without-pip", folder / ".venv")
    text = fail(folder, "0")
    assert f"{folder}/.venv/bin/python) has no Keras" in text
    assert ".venv/bin/pip install -r requirements.txt" in text


def test_a_granted_gpu_that_is_not_found_stops_the_job(project, monkeypatch):
    monkeypatch.delitem(ENVIRONMENT, "TRAIN_ON_CPU")
    text = fail(project, "0")
    assert "there is a GPU, but TensorFlow does not find it" in text
    assert 'pip install "tensorflow[and-cuda]"' in text


def test_missing_image_sets(tmp_path):
    text = fail(copy_project(tmp_path), "0,4")
    assert "On the login node: python download_kodak.py" in text
    assert "On the login node: python download_BSDS300.py" in text


def test_submitted_from_elsewhere(tmp_path):
    shutil.copy(REPO / "prj_test.sb", tmp_path)
    assert f"{tmp_path} holds no train_model.py: submit from the project's folder" in fail(
        tmp_path, "0"
    )


def test_a_task_that_there_is_not(project):
    assert "there is no task 8: --array takes some of 0 to 7" in fail(project, "8")
