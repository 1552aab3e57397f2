"""Jobs are submitted to a real cluster with a token, from a clone, and followed to their end."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
import yaml
from conftest import messages
from mlflow import MlflowClient
from mlflow_server import Server
from ray_head import BIN, Head

from sentiflow.data import sample
from sentiflow.storage import filesystem

pytestmark = [pytest.mark.ray, pytest.mark.slow]

NUM_LINES = 4000
SEED = """
import sys
seed = next(word for word in sys.argv if word.startswith("train.seed=")).partition("=")[2]
"""
JOBS = {
    "count": f"""
import time
for number in range({NUM_LINES}):
    print(f"line {{number}} of the log", file=sys.stderr if number % 2 else sys.stdout)
    if number % 1000 == 500:
        time.sleep(float(seed))
""",
    "look": """
import json, os, ray, sentiflow
def look():
    names = ("MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL", "RAY_USAGE_STATS_ENABLED", "EXTRA")
    return [sentiflow.__file__, os.getcwd()] + [os.environ.get(name) for name in names]
ray.init(logging_level="ERROR")
found = {"driver": look(), "worker": ray.get(ray.remote(look).remote())}
found["keys"] = sorted(os.environ)
print("\\nbefore the result")
print(json.dumps(found))
sys.exit(int(seed))
""",
}
"""Jobs of this test, by verb; their commands have a word ``train.seed=<number>``."""


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
        (clone / f"jobs/{verb}.py").write_text(SEED + text)
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


def said_in(err: str) -> list[str]:
    """List the lines of the command itself; with ``--json`` the log is on standard error, too."""
    return [line for line in messages(err) if line.startswith("submit    ")]


def test_a_dry_run_estimates_the_job_with_the_cores_of_the_cluster(submit, tmp_path):
    """The dashboard, which asks for the token, counts them."""
    csv = tmp_path / "tweets.csv"
    csv.write_bytes(b"".join(sample.generate(num_rows=2000, seed=1)))
    code, out, err = submit("run", f"prepare.csv={csv}", f"output_uri={tmp_path}/run", "--dry-run")
    assert code == 0, err
    assert re.fullmatch(
        r"estimate    about \d+ s on 2 cores, [\d.]+ core hours \(prepare, train, score\)",
        out.splitlines()[-1],
    )


def test_settings_addresses_and_code_reach_driver_and_workers_and_keys_do_not(submit, cluster):
    """The JSON of a job is printed alone, also if its exit code is not 0, as that of ``doctor``."""
    arguments = ("look", "train.seed=2", "--env", "EXTRA", "--json")
    code, out, err = submit(*arguments, AWS_ENDPOINT_URL="http://minio:9000", EXTRA="more",
        SENTIFLOW_USER="ann",
    )  # fmt: skip
    assert code == 2, f"the exit code is the job's own: {err}"
    found = json.loads(out)
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
    assert "before the result\n" in err
    assert out.strip() not in err
    upload, shown, end = said_in(err)
    assert upload.startswith("submit    sentiflow-look-submitted-")
    assert shown == "submit    all users of the cluster can read this job's EXTRA"
    assert "failed with exit code 2: " in end


def test_the_same_command_attaches_while_the_job_runs(start, submit, cluster):
    first = start("submit", "count", "configs/submitted.yaml", "train.seed=60")
    first.stdout.readline()
    first.stdout.readline()
    code, out, err = submit("count", "train.seed=60", "--no-wait", "--json")
    assert code == 0, err
    job = json.loads(out)["job"]
    assert f"submit    {job} does this work already, since " in err
    code, other, err = submit("count", "train.seed=0", "--no-wait")
    assert code == 0, err
    assert "does this work already" not in err
    assert other.strip() != job
    first.send_signal(signal.SIGINT)
    _, err = first.communicate(timeout=100)
    assert first.returncode == 130
    assert job_of(err) == job
    assert said_in(err)[-1].startswith("submit    detached; the job continues; follow it: ")
    stop(start, job)


def stop(start, job: str) -> None:
    command = start("job", "stop", job, program=[BIN / "ray"], RAY_AUTH_MODE="token")
    command.communicate(timeout=100)


@SOAK
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_killed_client_does_not_stop_the_job(start, cluster, number):
    process = start("submit", "count", "configs/submitted.yaml", "train.seed=2")
    process.stdout.readline()
    process.stdout.readline()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    attach = f"--attach {job_of(err)}"
    if number == signal.SIGKILL:
        assert process.returncode == -number
    else:
        assert process.returncode == 128 + number
        assert f"detached; the job continues; follow it: sentiflow submit {attach}" in err
    refused = start("submit", *attach.split(), "--json")
    _, err = refused.communicate(timeout=100)
    assert refused.returncode == 2
    assert err.endswith("without --json, so its log has no JSON: attach without --json\n")
    again = start("submit", *attach.split())
    out, err = again.communicate(timeout=100)
    assert again.returncode == 0, err
    assert lines_of(out) == list(range(NUM_LINES)), "the whole log, from its beginning"


@SOAK
def test_timeout_detaches_though_it_sends_two_signals(start, cluster):
    limited = ("timeout", "-s", "TERM", "30", sys.executable, "-m", "sentiflow")
    process = start("submit", "count", "configs/submitted.yaml", "train.seed=60", program=limited)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 124, "the exit code of timeout itself"
    assert lines_of(out), "it followed the job"
    assert said_in(err)[-1].startswith("submit    detached; the job continues; follow it: ")
    assert "interrupted" not in err
    (known,) = [job for job in cluster.get("/api/jobs/") if job["submission_id"] == job_of(err)]
    assert known["status"] == "RUNNING"
    stop(start, job_of(err))


@SOAK
def test_a_taken_port_of_the_agent_is_named(place, start):
    """Another Ray on the machine has it, when the head starts."""
    with socket.create_server(("0.0.0.0", 0)) as other:
        head = Head(agent_port=other.getsockname()[1])
        try:
            head.start()
            process = start(
                "submit", "count", "configs/submitted.yaml", "train.seed=1",
                "--address", head.address, HOME=str(head.home),
            )  # fmt: skip
            _, err = process.communicate(timeout=100)
        finally:
            head.stop()
    assert process.returncode == 1
    assert "its head has no agent, which starts jobs: the head may be just starting; or " in err


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
        stop(start, job)
        (run,) = [
            run
            for run in runs_of(store)
            if run.data.tags.get("sentiflow.submission_id") == job
            and run.data.tags["sentiflow.stage"] == "train"
        ]
        assert run.info.status == "KILLED"
        by_ann = {"mlflow.user": "ann", "sentiflow.user": "ann", "team": "crm"}
        assert by_ann.items() <= run.data.tags.items(), "the driver is another user"
