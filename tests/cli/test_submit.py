"""Jobs are submitted to a real cluster with a token, from a clone, and followed to their end."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
import yaml
from mlflow import MlflowClient
from mlflow_server import Server
from ray_head import BIN, Head

from sentiflow.data import sample
from sentiflow.storage import filesystem

pytestmark = [pytest.mark.ray, pytest.mark.slow]

NUM_LINES = 4000
JOBS = {
    "count": f"""
import sys, time
for number in range({NUM_LINES}):
    print(f"line {{number}} of the log", file=sys.stderr if number % 2 else sys.stdout)
    if number % 1000 == 500:
        time.sleep(float(sys.argv[-1].partition("=")[2]))
""",
    "look": """
import json, os, ray, sentiflow, sys
def look():
    names = ("MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL", "RAY_USAGE_STATS_ENABLED", "EXTRA")
    return [sentiflow.__file__, os.getcwd()] + [os.environ.get(name) for name in names]
ray.init(logging_level="ERROR")
found = {"driver": look(), "worker": ray.get(ray.remote(look).remote())}
found["keys"] = sorted(os.environ)
print("\\n" + json.dumps(found))
sys.exit(int(sys.argv[-1].partition("=")[2]))
""",
}
"""Jobs of this test, by verb; the last word of their command is ``train.seed=<number>``."""


@pytest.fixture(scope="module")
def place(clone, bucket) -> str:
    """Bring a corpus and settings to where the cluster finds them, and the jobs into the clone."""
    rows = b"".join(sample.generate(num_rows=2000, seed=1))
    filesystem.write_bytes(f"{bucket}/in/tweets.csv", rows)
    settings = {
        "name": "submitted",
        "output_uri": f"{bucket}/run",
        "prepare": {"csv": f"{bucket}/in/tweets.csv", "vocabulary": {"min_count": 2}},
        "train": {"model": {"hidden_size": 16}, "num_epochs": 1},
    }
    (clone / "configs/submitted.yaml").write_text(yaml.safe_dump(settings))
    for verb, text in JOBS.items():
        (clone / f"jobs/{verb}.py").write_text(text)
    return bucket


@pytest.fixture(scope="module")
def cluster(place) -> Iterator[Head]:
    """Start a head whose nodes have the keys of the object store."""
    head = Head({name: value for name, value in os.environ.items() if name.startswith("AWS_")})
    try:
        head.start()
        yield head
    finally:
        head.stop()


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def start(cluster, clone):
    """Start a command of sentiflow in the clone, as a user with a token and without keys."""

    def begin(*arguments, program=(sys.executable, "-m", "sentiflow"), **variables):
        environment = cluster.client_environment(**variables)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.pop(name, None)
        environment = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"} | environment
        environment["PYTHONPATH"] = str(clone)
        environment.setdefault("RAY_API_SERVER_ADDRESS", cluster.address)
        return subprocess.Popen(
            [*program, *map(str, arguments)],
            cwd=clone, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip

    return begin


@pytest.fixture
def submit(start):
    """Submit a job, and wait for the end; exit code, standard output, standard error."""

    def run(verb, *arguments, **variables):
        process = start("submit", verb, "configs/submitted.yaml", *arguments, **variables)
        out, err = process.communicate(timeout=200)
        return process.returncode, out, err

    return run


def lines_of(log: str) -> list[int]:
    """Read the numbers of the lines that the job ``count`` writes."""
    return [int(number) for number in re.findall(r"^line (\d+) of the log$", log, re.M)]


def job_of(err: str) -> str:
    return re.search(r"sentiflow-\w+-submitted-[0-9a-f]{6}", err)[0]


SOAK = pytest.mark.soak


def test_settings_addresses_and_code_reach_driver_and_workers_and_keys_do_not(submit, cluster):
    code, out, err = submit(
        "look", "train.seed=2", "--env", "EXTRA", AWS_ENDPOINT_URL="http://minio:9000",
        EXTRA="more", SENTIFLOW_USER="ann",
    )  # fmt: skip
    assert code == 2, f"the exit code is the job's own: {err}"
    found = json.loads(out.splitlines()[-1])
    for file, folder, *variables in (found["driver"], found["worker"]):
        assert "_ray_pkg_" in file
        assert file.startswith(folder)
        assert variables == ["http://127.0.0.1:9", "http://minio:9000", "0", "more"]
    (known,) = [job for job in cluster.get("/api/jobs/") if job["submission_id"] == job_of(err)]
    assert not {"AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"} & set(
        known["runtime_env"]["env_vars"]
    )
    assert "AWS_SECRET_ACCESS_KEY" in found["keys"], "the nodes have them"
    assert known["metadata"]["sentiflow.user"] == "ann"
    assert known["runtime_env"]["env_vars"]["SENTIFLOW_USER"] == "ann"
    upload, shown, end = err.splitlines()
    assert upload.startswith("submit    sentiflow-look-submitted-")
    assert shown == "submit    all users of the cluster can read this job's EXTRA"
    assert "failed: " in end


@SOAK
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_client_does_not_stop_the_job(start, cluster, number):
    process = start("submit", "count", "configs/submitted.yaml", "train.seed=2")
    process.stdout.readline()
    process.stdout.readline()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (-9 if number == signal.SIGKILL else 143)
    again = start("submit", "--attach", job_of(err), "--json")
    out, err = again.communicate(timeout=100)
    assert again.returncode == 0, err
    assert json.loads(out)["status"] == "SUCCEEDED"
    assert lines_of(err) == list(range(NUM_LINES)), "with --json the log is on standard error"


@SOAK
def test_the_documented_command_of_ray_runs_a_job_from_a_clone_that_was_worked_in(
    start, store, place, clone
):
    process = start(
        "job", "submit", "--working-dir", ".", "--", "python", "jobs/prepare.py",
        "configs/submitted.yaml", f"tracking.uri={store.uri}", f"output_uri={place}/plain",
        program=[BIN / "ray"], RAY_AUTH_MODE="token",
    )  # fmt: skip
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, out + err
    assert filesystem.listing(f"{place}/plain/prepared/tweets")
    (run,) = runs_of(store)
    assert run.info.status == "FINISHED"
    assert run.data.tags["sentiflow.submission_id"].startswith("raysubmit_")
    assert "\x1b" not in re.sub(r".*(INFO|SUCC) cli\.py.*", "", out)
    assert "(pid=" not in out


def runs_of(store: Server):
    client = MlflowClient(store.uri)
    experiment = client.get_experiment_by_name("submitted")
    return client.search_runs([experiment.experiment_id])


@SOAK
class TestWholeRun:
    """With all stages; each takes tens of seconds."""

    def test_a_training_that_is_stopped_ends_its_run_as_killed(self, start, store, place):
        process = start(
            "submit", "run", "configs/submitted.yaml", f"output_uri={place}/stopped",
            "train.num_epochs=500", "tracking.tags.team=crm", MLFLOW_TRACKING_URI=store.uri,
            SENTIFLOW_USER="ann",
        )  # fmt: skip
        for line in process.stdout:
            if "epoch 3" in line:
                break
        process.send_signal(signal.SIGINT)
        job = job_of(process.communicate(timeout=60)[1])
        start("job", "stop", job, program=[BIN / "ray"], RAY_AUTH_MODE="token").communicate()
        (run,) = [
            run
            for run in runs_of(store)
            if run.data.tags.get("sentiflow.submission_id") == job
            and run.data.tags["sentiflow.stage"] == "train"
        ]
        assert run.info.status == "KILLED"
        by_ann = {"mlflow.user": "ann", "sentiflow.user": "ann", "team": "crm"}
        assert by_ann.items() <= run.data.tags.items(), "the driver is another user"
