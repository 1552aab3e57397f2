"""A job and its upload are described as the cluster will receive them, or refused."""

import shlex
import shutil
import zipfile
from pathlib import Path

import pytest
import yaml

from sentiflow.cluster import submission
from sentiflow.errors import UserError

STORE = "http://tracking:5000"
PLACES = ("output_uri=s3://bucket/run", "prepare.csv=s3://bucket/*.csv", f"tracking.uri={STORE}")


@pytest.fixture(autouse=True)
def bare(monkeypatch, clone):
    """Be in the clone, without addresses."""
    monkeypatch.chdir(clone)
    for name in submission._PASSED:
        monkeypatch.delenv(name, raising=False)


def prepare(verb="train", config="configs/quickstart.yaml", overrides=PLACES, **options):
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


def test_each_submission_has_an_id_of_its_own():
    assert prepare().submission_id != prepare().submission_id


def test_addresses_are_passed_on_and_secrets_are_not(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@tracking")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio:9000")
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
    } | ({"SENTIFLOW_COMMIT": commit} if commit else {})
    assert "secret" not in repr(job)
    assert job.runtime_env(Path("/x"))["env_vars"] == job.variables
    assert job.results["runs"] == "https://tracking"


def test_named_variables_are_passed_on(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    job = prepare(variables=["OMP_NUM_THREADS", "A=b=c", "MLFLOW_DISABLE_TELEMETRY=false"])
    assert job.variables["OMP_NUM_THREADS"] == "2"
    assert job.variables["A"] == "b=c"
    assert job.variables["MLFLOW_DISABLE_TELEMETRY"] == "false"


@pytest.mark.parametrize(
    "variable",
    ["TOKENIZERS_PARALLELISM=false", "MAX_TOKENS=64", "BYPASS=1", "KEYBOARD=us", "AUTHOR=ada",
     "PATH_PREFIX=/x", "PASSES=3"],
)  # fmt: skip
def test_a_harmless_variable_is_passed_on(variable):
    name, _, value = variable.partition("=")
    assert prepare(variables=[variable]).variables[name] == value


@pytest.mark.parametrize(
    ("variable", "problem"),
    [
        ("AWS_SECRET_ACCESS_KEY", "may be a secret"),
        ("HF_TOKEN=abc", "may be a secret"),
        ("Password=abc", "may be a secret"),
        ("STORE=http://me:pw@host", "may be a secret"),
        ("DB_PASS=abc", "may be a secret"),
        ("PGPASSWORD=abc", "may be a secret"),
        ("MYSQL_PWD=abc", "may be a secret"),
        ("apiKey=abc", "may be a secret"),
        ("GITHUB_PAT=abc", "may be a secret"),
        ("SSH_AUTH=abc", "may be a secret"),
        ("CODE=ghp_abcabcabcabcabcabcabc", "may be a secret"),
        ("PEM=-----BEGIN RSA PRIVATE KEY-----abc", "may be a secret"),
        ("NOT_SET_HERE", "not set here: write NOT_SET_HERE=VALUE"),
        ("a b=c", "write NAME or NAME=VALUE"),
    ],
)
def test_a_variable_that_may_be_a_secret_is_refused(monkeypatch, variable, problem):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "abc")
    with pytest.raises(UserError, match=problem) as error:
        prepare(variables=[variable])
    assert "abc" not in str(error.value)
    assert "pw" not in str(error.value)


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


def test_a_password_of_a_database_is_not_passed_on(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:secret@host/db")
    with pytest.raises(
        UserError, match="contains a password, which the dashboard would show: set one"
    ) as error:
        prepare(overrides=PLACES[:2])
    assert "secret" not in str(error.value)
    job = prepare(overrides=(*PLACES[:2], "tracking.uri=postgresql://host/db"))
    assert "MLFLOW_TRACKING_URI" not in job.variables


def test_settings_that_the_job_would_not_find_are_refused(tmp_path):
    settings = yaml.safe_load(Path("configs/quickstart.yaml").read_text())
    outside = tmp_path / "mine.yaml"
    outside.write_text(yaml.safe_dump(settings))
    with pytest.raises(UserError, match="lies outside of"):
        prepare(config=outside)
    Path("runs/mine.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(UserError, match=r"runs/mine.yaml is not uploaded: \.rayignore"):
        prepare(config="runs/mine.yaml")


KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n"
SECRETS = [".env", ".env.local", "prod.env", "id_rsa", "tls.pem", "server.key", ".aws/credentials"]


@pytest.fixture
def add(clone):
    """Put a file into the clone, or a link to a path; what was added is removed at the end."""
    added = []

    def put(name, text="abc", *, link_to=None):
        path = clone / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(link_to) if link_to else path.write_text(text)
        added.append(path)

    yield put
    for path in added:
        path.unlink()


def test_our_rayignore_keeps_keys_and_hidden_files_here(add, clone):
    """So does Ray's own command, which obeys it."""
    for name in SECRETS:
        add(f"configs/{name}", KEY)
    assert not {f"configs/{name}" for name in SECRETS} & submission.measure(clone).keys()
    assert prepare().files


@pytest.mark.parametrize("name", [*SECRETS, "notes.txt", "auth_token", ".netrc"])
def test_a_key_is_not_uploaded_whatever_rayignore_says(add, clone, name):
    rayignore = (clone / ".rayignore").read_text()
    add(f"configs/{name}", KEY if name == "notes.txt" else "abc")
    try:
        (clone / ".rayignore").write_text(f"{rayignore}\n!/configs/**\n")
        with pytest.raises(
            UserError, match=f"configs/{name} would be uploaded, and (may be a|begins like)"
        ):
            prepare()
    finally:
        (clone / ".rayignore").write_text(rayignore)


def test_a_link_that_leads_elsewhere_is_not_uploaded(add, clone, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/notes.txt").write_text("abc")
    add("configs/extra", link_to=tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"configs/extra/notes\.txt .* outside of this directory"):
        prepare()


def test_a_link_to_a_file_that_stays_here_is_not_uploaded(add):
    add("configs/harmless.txt", link_to="../.env")
    with pytest.raises(
        UserError, match=r"configs/harmless\.txt would be uploaded, and may be a se"
    ):
        prepare()


def test_a_link_within_the_directory_is_uploaded(add):
    add("configs/other.yaml", link_to="quickstart.yaml")
    assert prepare(config="configs/quickstart.yaml").files["configs/other.yaml"]


def test_a_job_that_is_not_there_is_refused(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"no jobs/trian\.py .*: jobs here: doctor, evaluate"):
        prepare("trian")
    with pytest.raises(UserError, match="there is no jobs/"):
        prepare("../../x")


def test_too_much_is_refused(monkeypatch):
    monkeypatch.setattr(submission, "MAX_BYTES", 100_000)
    with pytest.raises(UserError, match=r"the upload has .*, more than 100 kB: sentiflow/.*py "):
        prepare()


@pytest.mark.parametrize(
    ("verb", "names"),
    [
        ("run", ["prepared", "model", "predictions", "report"]),
        ("train", ["model"]),
        ("sweep", ["sweep"]),
    ],
)
def test_a_job_says_where_its_results_will_be(verb, names):
    results = prepare(verb).results
    assert list(results) == [*names, "runs", "experiment"]
    assert all(results[name].startswith("s3://bucket/run/") for name in names)


def test_runtime_env_yaml_has_the_same_environment_for_rays_own_command():
    text = Path("runtime_env.yaml").read_text()
    assert yaml.safe_load(text) == {"env_vars": submission._ALWAYS}
    pinned = "".join(f"{line[2:]}\n" for line in text.splitlines()[-3:])
    assert yaml.safe_load(pinned) == {"pip": submission._PINNED}
    assert "pip" not in prepare().runtime_env(Path("/x"))
    assert prepare(installs=True).runtime_env(Path("/x"))["pip"] == submission._PINNED


MOST_BYTES = 2_000_000


@pytest.fixture(scope="module")
def found(clone) -> dict[str, int]:
    return submission.measure(clone)


def test_results_and_data_in_a_clone_are_not_uploaded(found):
    tops = {name.partition("/")[0] for name in found}
    assert tops == {"sentiflow", "jobs", "configs", "pyproject.toml", "constraints.txt"}


def test_an_upload_is_small(found):
    assert sum(found.values()) < MOST_BYTES, submission.find_largest(found, 10)


def test_it_holds_all_that_jobs_import_and_read(found, clone):
    assert sum(name.startswith("jobs/") for name in found) >= 6
    package = Path(submission.__file__).parents[1]
    suffixes = (".py", ".j2", ".css", ".yaml")
    files = {f.relative_to(package) for f in package.rglob("*") if f.suffix in suffixes}
    assert {f.suffix for f in files} == set(suffixes)
    assert {f"sentiflow/{name.as_posix()}" for name in files} <= set(found)


def test_it_is_what_ray_packs(found, clone, tmp_path):
    """Byte for byte the archive of Ray's own client."""
    from ray._private import ray_constants
    from ray._private.runtime_env import packaging

    excludes = ray_constants.get_runtime_env_default_excludes()
    path = tmp_path / "package.zip"
    packaging.create_package(str(clone), path, include_gitignore=True, excludes=excludes)
    with zipfile.ZipFile(path) as archive:
        packed = {i.filename: i.file_size for i in archive.infolist() if not i.is_dir()}
    assert packed == found
    assert path.stat().st_size < MOST_BYTES


def test_a_directory_without_rayignore_is_measured_whole_but_for_git_and_venv(clone, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(clone, folder)
    (folder / ".rayignore").unlink()
    tops = {name.partition("/")[0] for name in submission.measure(folder)}
    assert {"data", "docs", ".env"} <= tops
    assert not {".git", ".venv", "runs"} & tops


def test_what_is_too_large_is_named(tmp_path):
    (tmp_path / "data").mkdir()
    for name, size in (("data/tweets.csv", 25_000_000), ("data/a.csv", 10), ("b.py", 2_000)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
    with pytest.raises(UserError) as error:
        submission.check_size(submission.measure(tmp_path))
    assert str(error.value) == (
        "the upload has 25.0 MB, more than 20.0 MB: data/tweets.csv 25.0 MB, "
        "b.py 2 kB, data/a.csv 0 kB: add data to .rayignore, and give its URI in the settings"
    )
