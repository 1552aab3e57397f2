"""A job and its upload are described as the cluster will receive them, or refused."""

import getpass
import shlex
import zipfile
from pathlib import Path

import pytest
import yaml

from sentiflow.cluster import submission
from sentiflow.errors import UserError
from sentiflow.tracking import earlier_runs

QUICKSTART = "configs/quickstart.yaml"
STORE = "http://tracking:5000"
PLACES = ("output_uri=s3://bucket/run", "prepare.csv=s3://bucket/*.csv", f"tracking.uri={STORE}")


@pytest.fixture(autouse=True)
def bare(monkeypatch, clone):
    """Be in the clone, without addresses."""
    monkeypatch.chdir(clone)
    for name in submission._PASSED_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SENTIFLOW_USER", "ann")


def prepare(verb="train", config=QUICKSTART, overrides=PLACES, **options):
    return submission.prepare(verb, Path(config), list(overrides), folder=Path.cwd(), **options)


def test_the_command_survives_the_shell():
    odd = "prepare.csv=[s3://b/*.csv, 's3://b/$(x) a;b.csv']"
    overrides = [PLACES[0], PLACES[2], odd, "name=a.b_c-d"]
    job = prepare(
        overrides=overrides, config=Path.cwd() / "configs/quickstart.yaml", options=["-x"]
    )
    words = ["python", "jobs/train.py", "configs/quickstart.yaml", *overrides, "-x"]
    assert shlex.split(job.entrypoint) == words
    assert job.submission_id.startswith("sentiflow-train-a-b-c-d-")


def test_a_run_of_mlflow_is_repeated_and_its_settings_are_read_by_the_job(monkeypatch):
    run = earlier_runs.EarlierRun(
        uri="runs:/ab", tracking_uri=STORE, stage="train", directory="", fingerprint="", code="",
        settings={"name": "a", "output_uri": "s3://old", "prepare": {"csv": "s3://b/*.csv"}},
        metrics={},
    )  # fmt: skip
    monkeypatch.setattr(earlier_runs, "read", lambda uri, tracking_uri: run)
    overrides = ["output_uri=s3://bucket/new", PLACES[2]]
    job = prepare("run", "runs:/ab", overrides)
    assert shlex.split(job.entrypoint) == ["python", "jobs/run.py", "runs:/ab", *overrides]
    assert job.output_uri == "s3://bucket/new"
    assert not [name for name in job.files if name.startswith("configs/")]
    with pytest.raises(UserError, match="output_uri='new' is relative"):
        prepare("run", "runs:/ab", ["output_uri=new", PLACES[2]])


def test_addresses_are_passed_on_and_secrets_are_not(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://tracking")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio:9000")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://me:secret@minio:9000")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    job = prepare(overrides=PLACES[:2])
    commit = job.variables.get("SENTIFLOW_COMMIT", "")
    assert dict(job.variables) == {
        "RAY_USAGE_STATS_ENABLED": "0",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "RAY_JOB_STOP_WAIT_TIME_S": "30",
        "MLFLOW_TRACKING_URI": "https://tracking",
        "AWS_ENDPOINT_URL": "http://minio:9000",
        "AWS_REGION": "eu-west-1",
        "SENTIFLOW_USER": "ann",
    } | ({"SENTIFLOW_COMMIT": commit} if commit else {})
    assert "secret" not in repr(job)
    assert job.runtime_env(Path("/x"))["env_vars"] == job.variables


def test_the_job_knows_who_submitted_it(monkeypatch):
    assert prepare().user == "ann"
    by_setting = prepare(overrides=(*PLACES, "tracking.user=ben"))
    assert (by_setting.user, by_setting.variables["SENTIFLOW_USER"]) == ("ben", "ben")
    monkeypatch.delenv("SENTIFLOW_USER")
    here = getpass.getuser()
    assert (prepare().user, prepare().variables["SENTIFLOW_USER"]) == (here, here)
    monkeypatch.setenv("SENTIFLOW_USER", "a\nb")
    with pytest.raises(UserError, match=r"SENTIFLOW_USER=.*must be a name"):
        prepare()


def test_a_named_variable_is_passed_on_and_shown_by_ray_alone(monkeypatch):
    names = ["HF_TOKEN", "MLFLOW_DISABLE_TELEMETRY"]
    for name in names:
        monkeypatch.setenv(name, "hidden")
    job = prepare(variables=names)
    variables = job.runtime_env(Path("/x"))["env_vars"]
    assert [variables[name] for name in names] == ["hidden", "hidden"]
    assert "hidden" not in f"{job} {job.entrypoint}"


@pytest.mark.parametrize("variable", ["DBPASS=abc", "COOKIE=", "NOT_SET_HERE"])
def test_a_variable_is_named_without_its_value(monkeypatch, variable):
    monkeypatch.setenv("DBPASS", "abc")
    with pytest.raises(UserError, match=f"--env {variable.partition('=')[0]}: .*export") as error:
        prepare(variables=[variable])
    assert "abc" not in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        ((), "output_uri='runs/quickstart' is relative, but this is a submitted job"),
        ((*PLACES[:1], *PLACES[2:]), "prepare.csv='runs/quickstart/tweets.csv' is relative"),
        (PLACES[:2], "tracking.uri is null, and MLFLOW_TRACKING_URI is not set"),
        ((*PLACES[:2], "tracking.uri=sqlite:////shared/m.db"), "an SQLite store"),
        ((*PLACES, "train.num_epoch=3"), "did you mean train.num_epochs"),
    ],
)
def test_settings_are_refused_as_the_job_would_refuse_them(overrides, problem):
    with pytest.raises(UserError) as error:
        prepare(overrides=overrides)
    assert problem in str(error.value)


def test_a_password_of_a_store_is_not_passed_on(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@host:5000")
    with pytest.raises(UserError, match=r"tracking.uri is null, and MLFLOW_TR.* password") as error:
        prepare(overrides=PLACES[:2])
    assert "secret" not in str(error.value)
    job = prepare(overrides=(*PLACES[:2], "tracking.uri=http://host:5000"))
    assert "MLFLOW_TRACKING_URI" not in job.variables


NOT_UPLOADED = (
    "configs/account.json", "configs/accessKeys.csv", "configs/aws.ini", "configs/kubeconfig",
    "configs/secrets.yaml", "configs/a.jks", "configs/a.kdbx", "configs/.env", "jobs/aws.ini",
    "sentiflow/id_rsa", "sentiflow/.aws/credentials", "sentiflow/server.key", "data/tweets.csv",
)  # fmt: skip


@pytest.fixture
def worked_in(clone):
    """Put files into the clone that stay at home."""
    for name in NOT_UPLOADED[:-1]:
        (clone / name).parent.mkdir(exist_ok=True)
        (clone / name).write_text("a: secret")
    yield clone
    for name in NOT_UPLOADED[:-1]:
        (clone / name).unlink()


def test_the_code_and_the_named_settings_are_uploaded_and_nothing_else(worked_in, tmp_path):
    job = prepare()
    assert [name for name in job.files if name.startswith("configs/")] == [QUICKSTART]
    assert not {*NOT_UPLOADED} & job.files.keys()
    job.copy_files(tmp_path / "copy")
    copied = {p.relative_to(tmp_path / "copy").as_posix() for p in files_in(tmp_path / "copy")}
    assert copied == {*job.files}
    packed = pack(worked_in, tmp_path).keys()
    assert packed & {*NOT_UPLOADED} == {"configs/secrets.yaml"}, "of Ray's own command"


def test_a_job_that_is_not_there_is_refused():
    with pytest.raises(UserError, match=r"no jobs/trian\.py .*: .* doctor, evaluate"):
        prepare("trian")
    with pytest.raises(UserError, match="there is no jobs/"):
        prepare("../../x")


def test_runtime_env_yaml_has_the_same_environment_for_rays_own_command():
    text = Path("runtime_env.yaml").read_text()
    assert yaml.safe_load(text) == {"env_vars": submission._FIXED_VARIABLES}
    pinned = "".join(f"{line[2:]}\n" for line in text.splitlines()[-3:])
    assert yaml.safe_load(pinned) == {"pip": submission._PIP_OPTION}
    assert "pip" not in prepare().runtime_env(Path("/x"))
    assert prepare(installs=True).runtime_env(Path("/x"))["pip"] == submission._PIP_OPTION


def test_the_same_command_has_the_same_work_and_another_one_has_not(monkeypatch):
    """What a job prints, and the commit of its code, are no part of it."""
    work = prepare().work
    assert len(work) == 16
    assert prepare(overrides=PLACES[::-1]).work == work
    assert prepare(options=["--json", "--verbose"]).work == work
    monkeypatch.setattr(submission.runs, "read_commit", lambda: "c0ffee")
    assert prepare().work == work
    others = [
        prepare("score"),
        prepare(overrides=(*PLACES, "train.seed=8")),
        prepare(overrides=(*PLACES, "output_uri=s3://bucket/other")),
        prepare(options=["--overwrite"]),
    ]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio:9000")
    others.append(prepare())
    assert len({work, *(job.work for job in others)}) == 6


def test_a_job_that_checks_has_no_results():
    assert prepare("doctor").output_uri == ""
    assert prepare("run").output_uri == "s3://bucket/run"
    assert prepare("train").output_uri == "s3://bucket/run/trained"


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def pack(folder: Path, scratch: Path) -> dict[str, int]:
    """Make the archive of Ray's own client; gives the bytes by name."""
    from ray._private import ray_constants
    from ray._private.runtime_env import packaging

    excludes = ray_constants.get_runtime_env_default_excludes()
    path = scratch / "package.zip"
    packaging.create_package(str(folder), path, include_gitignore=True, excludes=excludes)
    with zipfile.ZipFile(path) as archive:
        return {i.filename: i.file_size for i in archive.infolist() if not i.is_dir()}


def test_rays_own_command_uploads_the_same_and_all_configs(clone, tmp_path):
    sizes = {name: path.stat().st_size for name, path in prepare().files.items()}
    packed = pack(clone, tmp_path)
    others = {path.relative_to(clone).as_posix() for path in clone.glob("configs/*.yaml")}
    assert packed.keys() - sizes.keys() == {*others, "sentiflow/py.typed"} - {QUICKSTART}
    assert packed.items() >= sizes.items()
    assert sum(packed.values()) < 4_000_000
