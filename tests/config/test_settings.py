"""Settings are valid as a whole, or refused with a line for each fault, with key and way out."""

import pytest
import yaml
from conftest import PROJECT

from sentiflow.config import faults, settings
from sentiflow.config.setting_descriptions import describe
from sentiflow.config.settings import flatten
from sentiflow.config.types import LOCATION
from sentiflow.errors import UserError

SHIPPED = sorted((PROJECT / "configs").glob("*.yaml"))

MINIMAL = {"name": "trial", "output_uri": "runs/trial", "prepare": {"csv": "tweets.csv"}}


@pytest.fixture
def path(tmp_path):
    """A settings file with nothing but what is required."""
    path = tmp_path / "trial.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    return path


@pytest.fixture
def load(path):
    """Load the minimal settings with overrides, below ``/base``."""
    return lambda *overrides: settings.load(path, overrides, base="/base")


def faults_of(load, *overrides):
    """Name the lines of the error that overrides cause."""
    with pytest.raises(UserError) as error:
        load(*overrides)
    return str(error.value).splitlines()


def value_of(config, key):
    """Look a dotted key up."""
    for name in key.split("."):
        config = getattr(config, name)
    return config


@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda path: path.name)
def test_shipped_settings_load(shipped):
    config = settings.load(shipped)
    assert config.name == shipped.stem
    assert settings.validate(config.model_dump(), source="itself") == config


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.num_epochs=7", 7),
        ("train.learning_rate=1e-3", 0.001),
        ("train.model.cell=lstm", "lstm"),
        ("train.model.bidirectional=false", False),
        ("train.num_workers=auto", "auto"),
        ("train.num_workers=2", 2),
        ("train.clip_norm=null", None),
        ("prepare.vocabulary.max_size=null", None),
        ("prepare.csv=[a.csv, /b.csv]", ("/base/a.csv", "/b.csv")),
        ("prepare.csv=s3://bucket/*.csv", ("s3://bucket/*.csv",)),
        ("score.keep_columns=text", ("text",)),
        ("score.keep_columns=[]", ()),
        ("score.format.errors=ignore", "ignore"),
        ("score.model_uri=models:/trial/3", "models:/trial/3"),
        ("score.model_uri=[a, models:/b/3]", ("/base/a", "models:/b/3")),
        ("score.model_uri=[a]", "/base/a"),
        ("train.distill.teachers=a.parquet", ("/base/a.parquet",)),
        ("train.distill.teachers=[runs/a, models:/b/3]", ("/base/runs/a", "models:/b/3")),
        ("output_uri=/a=b", "/a=b"),
        ("name=2024-01-31", "2024-01-31"),
    ],
)
def test_an_override_changes_its_setting(load, override, expected):
    assert value_of(load(override), override.partition("=")[0]) == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("latin1", "latin-1"),
        ("ISO-8859-1", "latin-1"),
        ("L1", "latin-1"),
        ("windows-1252", "cp1252"),
        ("UTF8", "utf-8"),
        ("utf-8-sig", "utf-8"),
        ("UTF-16", "utf-8"),
    ],
)
def test_an_encoding_has_any_name_that_python_knows(load, written, expected):
    assert load(f"format.encoding={written}") == load(f"format.encoding={expected}")


@pytest.mark.parametrize(
    "override",
    [
        "output_uri=runs/x",
        "prepare.csv=x.csv",
        "prepare.corrections=x.csv",
        "score.corpus=x.parquet",
        "score.model_uri=m",
        "score.model_uri=[/m, m]",
        "train.init_from=m",
        "train.distill.teachers=[/m, m]",
        "prepare.vocabulary.vectors=v.txt",
    ],
)
def test_a_submitted_job_refuses_relative_locations(load, monkeypatch, override):
    absolute = ("output_uri=/runs/x", "prepare.csv=s3://in/x.csv")
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    load(*absolute)
    with pytest.raises(UserError, match="is relative, but this is a submitted job"):
        load(*absolute, override)


@pytest.mark.parametrize(
    ("written", "problem"),
    [("[]", "names no model"), ("[a, a]", "names a model twice"), ("5", "must be a model, or")],
)
def test_a_list_of_models_names_each_once(load, written, problem):
    with pytest.raises(UserError, match=f"score.model_uri.*{problem}"):
        load(f"score.model_uri={written}")


@pytest.mark.parametrize(
    "override", ["train.output_uri=/runs/x/prepared", "score.output_uri=/runs/x/report/deep"]
)
def test_stages_do_not_write_into_each_other(load, override):
    with pytest.raises(UserError, match="each stage needs its own directory"):
        load("output_uri=/runs/x", override)


def test_a_delimiter_is_typed_as_it_is(load):
    kind = ("format.kind=csv", "format.columns.text=0")
    assert load(*kind, "format.delimiter=,").format.delimiter == ","
    assert load(*kind, 'format.delimiter=";"').format.delimiter == ";"
    assert load(*kind, "format.delimiter=\t").format.delimiter == "\t"
    assert load(*kind, "format.delimiter= ").format.delimiter == " "
    for empty in ("format.delimiter=", "train.seed= "):
        with pytest.raises(UserError, match="has no value"):
            load(*kind, empty)


def test_relative_locations_become_absolute_and_defaults_follow_the_output(load):
    assert {key: uri for key, uri in flatten(load().model_dump()).items() if "uri" in key} == {
        "output_uri": "/base/runs/trial",
        "prepare.output_uri": "/base/runs/trial/prepared",
        "train.prepared_uri": "/base/runs/trial/prepared",
        "train.output_uri": "/base/runs/trial/trained",
        "score.prepared_uri": "/base/runs/trial/prepared",
        "score.model_uri": "/base/runs/trial/trained/model",
        "score.output_uri": "/base/runs/trial/scored",
        "trends.output_uri": "/base/runs/trial/trends",
        "evaluate.scored_uri": "/base/runs/trial/scored",
        "evaluate.output_uri": "/base/runs/trial/report",
        "sweep.output_uri": "/base/runs/trial/sweep",
        "tracking.uri": None,
    }


LOCATIONS = [".".join(path) for path, field in faults.walk() if LOCATION in field.metadata]


@pytest.mark.parametrize("key", LOCATIONS)
def test_every_setting_refuses_what_is_no_location_by_its_key(key):
    for value in ("gs:x", "~no-such-user/x", "file://host/x"):
        with pytest.raises(UserError) as error:
            settings.load(MINIMAL, {key: value}, base="/base")
        (line,) = str(error.value).splitlines()
        assert f"{key}='" in line


def every_setting(**model):
    """Flatten settings in which no section is left out."""
    form = {"kind": "csv", "columns": {"text": 0, "label": 1}, "labels": "auto"}
    train = {"model": model, "refit": {"of": "run"}, "unsure": {"max_error": 0.05}}
    full = MINIMAL | {"prepare": {}, "format": form, "train": train}
    return flatten(settings.validate(full, source="full").model_dump())


def all_kinds():
    return [every_setting(), every_setting(kind="bag_of_embeddings")]


def test_described_settings_are_those_of_the_program():
    described = [key for key, _, _ in describe()]
    rnn, _ = all_kinds()
    assert [key for key in dict.fromkeys(described) if key in rnn] == list(rnn)
    assert set(described) == {key for found in all_kinds() for key in found}
    assert len(set(described)) == len(described)
    assert all(meaning for _, _, meaning in describe())


def test_sections_may_share_settings_by_merge_keys(path):
    path.write_text("""
name: trial
output_uri: runs
prepare: {csv: a.csv}
train: &base
  <<: {num_epochs: 3, seed: 1}
  seed: 2
score: {<<: [{rows_per_file: 7}, {keep_columns: [a]}], num_workers: 9}
""")
    config = settings.load(path)
    assert (config.train.num_epochs, config.train.seed) == (3, 2)
    assert (config.score.rows_per_file, config.score.num_workers) == (7, 9)


def test_settings_in_which_a_config_differs_from_its_preset_are_listed(load):
    preset = "train.preset=fast"
    assert settings.list_preset_changes(load(preset).train) == []
    own = load(
        preset, "train.num_epochs=3", "train.model.dropout=0.2", "train.model.cell=rnn"
    ).train
    assert settings.list_preset_changes(own) == ["train.model.cell", "train.num_epochs"]
    assert settings.list_preset_changes(load().train) == []
