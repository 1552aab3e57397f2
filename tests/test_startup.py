"""A command loads what its stage needs, waits for Ray and the store at once, and ends cleanly."""

import contextlib
import itertools
import signal
import subprocess
import sys
import time
import types

import psutil
import pytest
from conftest import PROJECT, SMALL_MODEL, messages, write_config
from mlflow import MlflowClient
from stages import publish

from sentiflow.cluster.resources import Resources
from sentiflow.config import settings
from sentiflow.data.output_spec import OutputSpec
from sentiflow.errors import UserError
from sentiflow.pipeline import stage_plans, stages
from sentiflow.storage import filesystem

HEAVY = ("torch", "matplotlib", "sklearn", "mlflow", "pandas", "ray", "ray.train", "ray.data")


def loaded(script):
    """Run a script in a process of its own; returns which heavy modules it has loaded."""
    names = f"import sys; print(*(m for m in {HEAVY} if m in sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", f"{script}\n{names}"],
        capture_output=True, text=True, timeout=200, cwd=PROJECT,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def test_the_pipeline_loads_no_stage_before_it_is_named():
    assert loaded("from sentiflow.pipeline import stages") == set()


@pytest.mark.parametrize(
    ("verbs", "needless"),
    [
        (("prepare",), {"torch", "matplotlib", "sklearn", "mlflow"}),
        (("train",), {"torch", "matplotlib", "sklearn", "mlflow"}),
        (("score", "sweep"), {"torch", "matplotlib", "sklearn"}),
        (("evaluate",), {"torch", "ray"}),
    ],
)
def test_a_stage_loads_nothing_that_only_others_need(verbs, needless):
    imports = "from sentiflow.pipeline import stage_plans, stages"
    script = f"{imports}; [stage_plans.import_stage(verb) for verb in {verbs}]"
    assert not loaded(script) & needless


@pytest.mark.parametrize(
    ("names", "needless"),
    [
        (  # a worker that prepares
            ("sentiflow.cluster.map_stages", "sentiflow.preparation.part_files"),
            {"torch", "matplotlib", "sklearn", "mlflow"},
        ),
        (
            ("sentiflow.cluster.connection",),
            {"torch", "mlflow", "sklearn", "matplotlib", "ray.train", "ray.data", "pandas"},
        ),
        (("sentiflow.evaluation.promotion",), {"torch", "matplotlib", "sklearn", "ray"}),
    ],
)
def test_modules_load_nothing_that_only_others_need(names, needless):
    assert not loaded("".join(f"import {name}\n" for name in names)) & needless


def start(*arguments):
    """Start the command line in a process of its own, as a terminal would.

    A shell's background job, which the tests may be, begins with SIGINT ignored, and one of nohup
    with SIGHUP.
    """
    command = [sys.executable, "-m", "sentiflow", *map(str, arguments)]
    return subprocess.Popen(
        command,
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: [
            signal.signal(n, signal.SIG_DFL) for n in (signal.SIGINT, signal.SIGHUP)
        ],
    )


def wait_for(condition, *, seconds=200):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
    return found


def ray_of(process):
    """Find the Ray processes that a command has started."""
    return [p for p in psutil.Process(process.pid).children(recursive=True) if is_of_ray(p)]


def is_of_ray(process):
    try:
        return "/ray/" in " ".join(process.cmdline())
    except psutil.Error:  # it has ended
        return False


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_processes", "number", "code"),
    [
        (1, signal.SIGINT, 130),
        pytest.param(6, signal.SIGTERM, 128 + signal.SIGTERM, marks=pytest.mark.soak),
        pytest.param(6, signal.SIGINT, 130, marks=pytest.mark.soak),
        pytest.param(1, signal.SIGTERM, 128 + signal.SIGTERM, marks=pytest.mark.soak),
    ],
)
def test_a_command_stopped_while_ray_starts_leaves_none_of_it(
    tmp_path, sample_csv, number, code, num_processes
):
    """Ray has a dozen processes: stop it at the first, and in the midst.

    Python drops a signal that meets a callback of its garbage collector; then it is sent to
    another such command.
    """
    for attempt in range(3):
        config = write_config(tmp_path, sample_csv, output_uri=f"{tmp_path}/run-{attempt}")
        with start("prepare", config) as process:
            wait_for(lambda: len(ray_of(process)) >= num_processes)
            processes = ray_of(process)
            process.send_signal(number)
            _, stderr = process.communicate(timeout=200)
        if "Exception ignored in" not in stderr:
            break
    assert process.returncode == code, stderr
    assert messages(stderr) == ["sentiflow: interrupted; run the same command again to resume"]
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]
    assert not (tmp_path / f"run-{attempt}/prepared/manifest.json").exists()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.soak)]
)
def test_a_stopped_command_ends_its_mlflow_run_as_killed(tmp_path, sample_csv, number):
    with start("prepare", write_config(tmp_path, sample_csv)) as process:
        wait_for(lambda: runs(tmp_path))
        process.send_signal(number)
        _, stderr = process.communicate(timeout=200)
    assert process.returncode == 128 + number, stderr
    assert messages(stderr) == ["sentiflow: interrupted; run the same command again to resume"]
    assert [run.info.status for run in runs(tmp_path)] == ["KILLED"]


def configure(folder, csv, run):
    """Write settings whose stages have many parts, steps or epochs, for the input of ``run``."""
    return write_config(
        folder,
        csv,
        prepare={"csv": str(csv), "rows_per_file": 150, "vocabulary": {"min_count": 2}},
        train={
            "prepared_uri": f"{run}/prepared",
            "model": SMALL_MODEL,
            "num_epochs": 20,
            "checkpoints": {"every_minutes": 0.001},
        },
        score={"corpus": str(csv), "rows_per_file": 150, "model_uri": f"{run}/trained/model"},
        sweep={"space": {"train.learning_rate": [0.01, 0.02]}},
    )


SIGNS = {
    "prepare": "prepared/_work/**/*.json",
    "train": "trained/checkpoints/*",
    "score": "scored/_work/**/*.json",
    "sweep": "sweep/trials/*/checkpoints/*",
}
"""Files that say that a stage has begun to work."""
VICTIMS = {"raylet": "/raylet/raylet", "GCS": "/gcs/gcs_server", "agent": "ray::DashboardAgent"}
KILLED = [
    pytest.param(*case, marks=() if case == ("prepare", "raylet") else pytest.mark.soak)
    for case in itertools.product(SIGNS, VICTIMS)
]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(("verb", "victim"), KILLED)
def test_a_command_whose_ray_is_killed_ends_with_one_line_and_resumes(
    tmp_path, sample_csv, verb, victim, request, sentiflow
):
    run = tmp_path if verb == "prepare" else request.getfixturevalue("finished_run") / "run"
    config = configure(tmp_path, sample_csv, run)
    with start(verb, config) as process:
        wait_for(lambda: next((tmp_path / "run").glob(SIGNS[verb]), None))
        of_ray = psutil.Process(process.pid).children(recursive=True)
        (killed,) = (p for p in of_ray if VICTIMS[victim] in " ".join(p.cmdline()))
        killed.kill()
        _, stderr = process.communicate(timeout=200)
    assert process.returncode == 1, stderr
    assert "sentiflow: Ray has ended" in stderr, stderr
    lines = messages(stderr)
    shown = {line.partition(" ")[0] for line in lines if not line.startswith("[20")}
    assert shown <= {verb, "ray", "sentiflow:"}, "others are of Ray's compiled code, with a time"
    _, alive = psutil.wait_procs(of_ray, timeout=30)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]
    again = sentiflow(verb, config)
    assert again.returncode == 0, again.stderr


def runs(folder):
    """List the MLflow runs so far; the store is not made by looking at it."""
    if not (folder / "mlruns").exists():
        return []
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("test")
    return client.search_runs([experiment.experiment_id]) if experiment else []


@pytest.mark.ray
@pytest.mark.slow
def test_a_store_that_is_away_ends_the_command_though_ray_is_starting(
    tmp_path, sample_csv, sentiflow
):
    config = write_config(tmp_path, sample_csv)
    result = sentiflow("prepare", config, "tracking.uri=http://127.0.0.1:9")
    assert result.returncode == 1
    (line,) = messages(result.stderr)
    assert "cannot reach the MLflow store http://127.0.0.1:9" in line
    assert not (tmp_path / "run/prepared").exists()


def plan_preparation(config, uri):
    """Plan a preparation that has no input."""
    return types.SimpleNamespace(config=config, spec=OutputSpec("prepare", uri, {}, {}))


@pytest.fixture
def happened(monkeypatch):
    """Note, in place of Ray, the store and a stage, when each of them is asked for something."""
    from sentiflow.cluster import connection
    from sentiflow.tracking import experiment_store

    notes = []

    @contextlib.contextmanager
    def starting(**options):
        notes.append("Ray starts")
        yield lambda: notes.append("Ray is waited for") or Resources(2, 0, 1, 2)
        notes.append("Ray is stopped")

    def note(what, answer):
        return lambda *_, **__: notes.append(what) or answer

    stage = types.SimpleNamespace(
        resolve=lambda config: plan_preparation(config, config.prepare.output_uri),
        run=note("the stage runs", {"stage": "prepare", "fingerprint": "", "inputs": {}}),
    )
    monkeypatch.setattr(connection, "starting", starting)
    monkeypatch.setattr(
        experiment_store, "open_store", note("the store opens", experiment_store.Store("", ""))
    )
    monkeypatch.setattr(stage_plans, "import_stage", lambda verb: stage)
    return notes


def run(folder, csv, verb="prepare"):
    return stages.run(settings.load(write_config(folder, csv), ()), [verb])


def finish_preparation(folder, csv):
    """Publish prepared data without a table; returns their directory."""
    uri = settings.load(write_config(folder, csv), ()).prepare.output_uri
    publish(OutputSpec("prepare", uri, {}, {}))
    return uri


def test_the_store_opens_while_ray_starts(tmp_path, sample_csv, happened):
    run(tmp_path, sample_csv)
    opened = happened.index("the store opens")
    assert happened.index("Ray starts") < opened < happened.index("Ray is waited for")


def test_what_is_complete_starts_nothing_and_is_tidied(tmp_path, sample_csv, happened):
    uri = finish_preparation(tmp_path, sample_csv)
    filesystem.write_bytes(f"{uri}/_work/ab/receipts/part", b"left by a kill")
    (outcome,) = run(tmp_path, sample_csv)
    assert not outcome.ran
    assert happened == []
    assert filesystem.listing(uri) == ["manifest.json"]


def test_a_wrong_input_is_said_before_anything_is_started(tmp_path, sample_csv, happened):
    def refuse(config):
        raise UserError("no such file")

    stage_plans.import_stage("prepare").resolve = refuse
    with pytest.raises(UserError):
        run(tmp_path, sample_csv)
    assert happened == []


def test_a_whole_run_starts_ray_once(tmp_path, sample_csv, happened):
    config = settings.load(write_config(tmp_path, sample_csv), ())
    stage = stage_plans.import_stage("prepare")
    stage.resolve = lambda config: plan_preparation(config, f"{tmp_path}/{len(happened)}")
    stages.run(config, stage_plans.VERBS)
    assert happened.count("the stage runs") == len(stage_plans.VERBS)
    assert happened.count("Ray starts") == 1
    assert happened[-1] == "Ray is stopped"
