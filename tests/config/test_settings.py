"""Settings are valid as a whole, or refused with a line for each fault, with key and way out."""

import time
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from conftest import PROJECT
from pydantic import ValidationError

from sentiflow.config import settings
from sentiflow.config.model_sections import KINDS, BagSettings, RnnSettings
from sentiflow.config.requirements import PREDICTED
from sentiflow.config.sections import Config
from sentiflow.config.settings import describe, flatten
from sentiflow.config.types import Settings
from sentiflow.data import schema
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


def test_five_configs_are_shipped():
    names = ["airline", "quickstart", "sentiment140", "tutorial_ann", "tutorial_rnn"]
    assert [path.stem for path in SHIPPED] == names


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
        ("output_uri=/a=b", "/a=b"),
    ],
)
def test_an_override_changes_its_setting(load, override, expected):
    assert value_of(load(override), override.partition("=")[0]) == expected


def test_an_override_may_give_a_whole_section_and_leaves_the_rest_alone(load):
    config = load("prepare.split={kind: tutorial}", "train.model.cell=rnn")
    assert config.prepare.split.kind == "tutorial"
    changed = {"prepare.split.kind", "train.model.cell"}
    before, after = flatten(load().model_dump()), flatten(config.model_dump())
    assert {key for key in before if before[key] != after[key]} == changed


def test_a_later_override_wins(load):
    assert load("train.seed=1", "train.seed=2").train.seed == 2


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("train.num_epochs", "cannot read the override 'train.num_epochs': write section.key="),
        ("=3", "cannot read the override '=3': write section.key="),
        ("train.seed=[1", "cannot read the value of 'train.seed=[1': it must be YAML"),
        ("prepare.csv.0=a", "cannot override prepare.csv.0: csv is a value, not a section"),
    ],
)
def test_an_override_that_cannot_be_read_is_named(load, override, fault):
    (line,) = faults_of(load, override)
    assert line.startswith(fault)


@pytest.mark.parametrize(
    ("override", "key", "hint"),
    [
        ("train.num_epohcs=3", "train.num_epohcs", "did you mean train.num_epochs?"),
        ("trian.num_epochs=3", "trian", "did you mean train?"),
        (
            "train.model.hiden_size=3",
            "train.model.hiden_size",
            "did you mean train.model.hidden_size?",
        ),
        ("score.format.erors=ignore", "score.format.erors", "did you mean score.format.errors?"),
        ("train.lr=1", "train.lr", "did you mean train.learning_rate?"),
        ("lr=1", "lr", "did you mean train.learning_rate?"),
        ("train.epochs=1", "train.epochs", "did you mean train.num_epochs?"),
        (
            "train.batch_size=1",
            "train.batch_size",
            "did you mean train.batching.global_batch_size?",
        ),
        ("train.hidden_size=1", "train.hidden_size", "did you mean train.model.hidden_size?"),
        ("format.sep=;", "format.sep", "did you mean format.delimiter?"),
        ("format.text=a", "format.text", "did you mean format.columns.text?"),
        ("score.csv=a", "score.csv", "did you mean score.corpus?"),
        ("prepare.learning_rate=1", "prepare.learning_rate", "did you mean train.learning_rate?"),
        ("prepare.lerning_rate=1", "prepare.lerning_rate", "did you mean train.learning_rate?"),
        ("tracking.zzz=1", "tracking.zzz", "known here: uri, required, register_model"),
    ],
)
def test_a_misspelt_setting_names_the_closest(load, override, key, hint):
    assert faults_of(load, override) == [f"command line: unknown setting {key}: {hint}"]


def test_a_mistake_is_named_where_it_was_typed(tmp_path):
    path = tmp_path / "trial.yaml"
    path.write_text("name: trial\ntrain:\n  lr: 3\n  model:\n    hidden_size: 0\n")
    with pytest.raises(UserError) as error:
        settings.load(path, ["train.seed=-1", "train.model.dropout=3"])
    assert [line.partition(": ")[::2] for line in str(error.value).splitlines()] == [
        (str(path), "the setting output_uri is missing: add it, or give output_uri=VALUE"),
        ("command line", "train.model.dropout=3: input should be less than 1"),
        (
            f"{path}, line 5",
            "train.model.hidden_size=0: input should be greater than or equal to 1",
        ),
        ("command line", "train.seed=-1: input should be greater than or equal to 0"),
        (f"{path}, line 3", "unknown setting train.lr: did you mean train.learning_rate?"),
    ]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        *(("latin1", "latin-1"), ("ISO-8859-1", "latin-1"), ("L1", "latin-1")),
        *(("windows-1252", "cp1252"), ("UTF8", "utf-8"), ("utf-8-sig", "utf-8")),
    ],
)
def test_an_encoding_has_any_name_that_python_knows(load, written, expected):
    assert load(f"format.encoding={written}") == load(f"format.encoding={expected}")


@pytest.mark.parametrize("written", ["utf-9", "utf-16", "cp1251", "[utf-8]"])
def test_another_encoding_is_refused_with_the_way_out(load, written):
    (line,) = faults_of(load, f"format.encoding={written}")
    assert "must be utf-8, latin-1 or cp1252; convert other files first: iconv -f" in line


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("train.num_epochs=0", "train.num_epochs=0: input should be greater than or equal to 1"),
        ("train.model.dropout=1", "train.model.dropout=1: input should be less than 1"),
        ("train.learning_rate=-1", "train.learning_rate=-1: input should be greater than 0"),
        ("prepare.split.kind=hsah", "prepare.split.kind='hsah': input should be 'hash', 'tut"),
        ("prepare.split.test_fraction=1.5", "prepare.split.test_fraction=1.5: input should be le"),
        ("prepare.split.test_fraction=.nan", "prepare.split.test_fraction=nan: input should be "),
        ("train.model.hidden_size=1.5", "train.model.hidden_size=1.5: input should be a valid in"),
        ("train.model=gru", "train.model='gru': must be a section whose kind is rnn or bag"),
        ("name=two words", "name='two words': string should match pattern"),
        ("prepare.keep_columns=[user,user]", "prepare.keep_columns=['user', 'user']: names user t"),
        ("score.keep_columns=[a,A]", "score.keep_columns=['a', 'A']: names a twice"),
        ("prepare.csv=3", "prepare.csv=3: input should be a valid tuple"),
        ("output_uri=null", "output_uri=None: input should be a valid string"),
    ],
)
def test_a_value_out_of_range_is_named_with_its_key(load, override, fault):
    (line,) = faults_of(load, override)
    assert line.startswith(f"command line: {fault}")


def test_every_fault_has_its_line(load):
    lines = faults_of(load, "train.num_epochs=0", "name=two words", "train.sede=1")
    assert len(lines) == 3


@pytest.mark.parametrize(
    "override",
    [
        "output_uri=runs/x",
        "prepare.csv=x.csv",
        "score.corpus=x.parquet",
        "score.model_uri=m",
        "train.init_from=m",
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
    "override", ["train.output_uri=/runs/x/prepared", "score.output_uri=/runs/x/report/deep"]
)
def test_stages_do_not_write_into_each_other(load, override):
    with pytest.raises(UserError, match="each stage needs its own directory"):
        load("output_uri=/runs/x", override)


@pytest.mark.parametrize("uri", ["s3://b/x?secret_key=abc", "s3://me:pw@b/x", "s3://b/x?region=eu"])
def test_locations_hold_neither_secrets_nor_options_of_a_store(load, uri):
    with pytest.raises(UserError) as error:
        load(f"output_uri={uri}")
    assert "abc" not in str(error.value)
    assert "pw@" not in str(error.value)


def test_a_question_mark_and_a_hash_belong_to_the_name_of_a_location(load):
    assert load("output_uri=s3://b/run#1?").train.output_uri == "s3://b/run#1?/trained"


@pytest.mark.parametrize("missing", ["name", "output_uri"])
def test_a_missing_setting_is_named(tmp_path, missing):
    path = tmp_path / "trial.yaml"
    path.write_text(yaml.safe_dump({name: v for name, v in MINIMAL.items() if name != missing}))
    with pytest.raises(UserError, match=rf"trial\.yaml: the setting {missing} is missing: "):
        settings.load(path)


MODEL, CORPUS = {"model_uri": "models:/m/1"}, {"corpus": "new.csv"}


@pytest.mark.parametrize(
    ("command", "sections", "needs"),
    [
        ("prepare", {}, "prepare.csv"),
        ("run", {"prepare": {}}, "prepare.csv"),
        ("score", {}, "score.corpus and score.model_uri"),
        ("score", {"score": MODEL}, "score.corpus"),
        ("score", {"score": CORPUS}, "score.model_uri"),
    ],
)
def test_what_a_command_needs_is_named_in_one_line(tmp_path, command, sections, needs):
    path = tmp_path / "trial.yaml"
    path.write_text(yaml.safe_dump({"name": "trial", "output_uri": "runs"} | sections))
    values = " ".join(f"{key}=VALUE" for key in needs.split(" and "))
    with pytest.raises(UserError) as error:
        settings.load(path, command=command)
    assert str(error.value) == (
        f"{path}: sentiflow {command} needs {needs}: add what is missing, or give {values}"
    )


def test_a_run_of_a_config_that_only_scores_names_the_command(tmp_path):
    path = tmp_path / "trial.yaml"
    path.write_text(yaml.safe_dump({"name": "n", "output_uri": "runs", "score": MODEL | CORPUS}))
    with pytest.raises(UserError, match=r"trial\.yaml only scores: sentiflow score .*trial\.yaml$"):
        settings.load(path, command="run")


def test_a_delimiter_is_typed_as_it_is(load):
    kind = ("format.kind=csv", "format.columns.text=0")
    assert load(*kind, "format.delimiter=,").format.delimiter == ","
    assert load(*kind, 'format.delimiter=";"').format.delimiter == ";"


@pytest.mark.parametrize(
    "sections",
    [
        {"score": MODEL | CORPUS},
        {"train": {"seed": 1}, "score": CORPUS},
        {"prepare": {"output_uri": "there"}, "score": MODEL},
        {"score": MODEL | {"prepared_uri": "there"}},
        {"prepare": {"csv": "a.csv"}},
    ],
)
def test_scoring_alone_needs_neither_input_nor_training(tmp_path, sections):
    path = tmp_path / "trial.yaml"
    path.write_text(yaml.safe_dump({"name": "trial", "output_uri": "runs"} | sections))
    assert settings.load(path, command="score") == settings.load(path)


FORMAT = """{kind: csv, columns: {text: body, label: mood}, delimiter: ;, errors: ignore,
    labels: {negative: bad, positive: good}}"""


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ("{encoding: cp1252}", {"columns.text": "body", "labels.positive": ("good",)}),
        ("{columns: {text: message}}", {"columns.text": "message", "labels": None}),
        ("{columns: {text: a, label: b}}", {"columns.id": None, "labels.negative": ("bad",)}),
        ("{kind: sentiment140}", {"columns": None, "delimiter": ","}),
    ],
)
def test_a_scored_format_inherits_what_it_does_not_say(load, own, expected):
    config = load(f"format={FORMAT}", f"score.format={own}").score.format
    found = flatten(config.model_dump())
    assert expected.items() <= found.items()
    assert found["errors"] == "ignore"
    assert found["delimiter"] == expected.get("delimiter", ";")


def test_a_fault_of_the_format_is_not_named_again_for_the_scored_one(load):
    fault = "command line: unknown setting format.kinds: did you mean format.kind?"
    assert faults_of(load, "format.kinds=csv", "score.format.errors=ignore") == [fault]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        pytest.param(b"name: [", "is not YAML: ", id="unclosed bracket"),
        pytest.param(b"name: \xff\xfe", "is not YAML: ", id="not UTF-8"),
        pytest.param(b"[1]: 2", "is not YAML: ", id="a list as a key"),
        pytest.param(b"name: a\nname: b", "the key 'name' occurs twice", id="key twice"),
        pytest.param(
            b"train:\n  seed: 1\n  num_epochs: 2\n  seed: 3",
            "the key 'seed' occurs twice in the section at line 2",
            id="key twice in a section",
        ),
        pytest.param(b"", "holds no settings: ", id="empty"),
        pytest.param(b"- name", "holds no settings: ", id="a list"),
        pytest.param(b"name", "holds no settings: ", id="a word"),
    ],
)
def test_a_file_without_settings_is_refused_in_one_line(tmp_path, content, fault):
    path = tmp_path / "trial.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        settings.load(path)
    assert str(error.value).startswith(f"{path} ")
    assert fault in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_directory_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"no such settings file: .*none\.yaml: see configs/"):
        settings.load(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="is a directory: name a settings file"):
        settings.load(tmp_path)


def test_relative_locations_become_absolute_and_defaults_follow_the_output(load):
    assert {key: uri for key, uri in flatten(load().model_dump()).items() if "uri" in key} == {
        "output_uri": "/base/runs/trial",
        "prepare.output_uri": "/base/runs/trial/prepared",
        "train.prepared_uri": "/base/runs/trial/prepared",
        "train.output_uri": "/base/runs/trial/trained",
        "score.prepared_uri": "/base/runs/trial/prepared",
        "score.model_uri": "/base/runs/trial/trained/model",
        "score.output_uri": "/base/runs/trial/scored",
        "evaluate.scored_uri": "/base/runs/trial/scored",
        "evaluate.output_uri": "/base/runs/trial/report",
        "sweep.output_uri": "/base/runs/trial/sweep",
        "tracking.uri": None,
    }


def test_a_job_takes_what_the_job_before_it_leaves(load):
    config = load("prepare.output_uri=p", "train.output_uri=s3://b/t", "score.output_uri=/s")
    assert config.train.prepared_uri == config.score.prepared_uri == "/base/p"
    assert config.score.model_uri == "s3://b/t/model"
    assert config.evaluate.scored_uri == "/s"


def test_each_location_can_be_set_alone(load):
    keys = [key for key in flatten(load().model_dump()) if key.endswith(("_uri",))]
    for key in keys:
        assert value_of(load(f"{key}=elsewhere"), key) == "/base/elsewhere"


def test_the_prepared_corpus_is_a_word_and_other_corpora_are_locations(load):
    assert load().score.corpus == ("prepared",)
    assert load("score.corpus=[prepared,new.csv]").score.corpus == ("prepared", "/base/new.csv")


def test_the_vectors_become_absolute_unless_they_are_a_name(load):
    assert load().prepare.vocabulary.vectors_cache == "/base/.vector_cache"
    for name in ("package:glove.6B.50d", "torchtext:6B.300d", "/v/x.zip::y.txt", "s3://b/v.txt"):
        assert load(f"prepare.vocabulary.vectors={name}").prepare.vocabulary.vectors == name
    found = load("prepare.vocabulary.vectors=v.zip::y.txt").prepare.vocabulary.vectors
    assert found == "/base/v.zip::y.txt"


def test_the_format_of_a_scored_corpus_defaults_to_the_top_level_one(load):
    assert load("format.errors=ignore").score.format.errors == "ignore"
    own = load("format.errors=ignore", "score.format={errors: replace}")
    assert own.score.format.errors == "replace"


def test_resolving_twice_changes_nothing(load):
    assert settings.resolve(load(), base="/other") == load()


def test_without_a_base_locations_are_relative_to_the_working_directory(path):
    assert settings.load(path).output_uri == str(Path.cwd() / "runs/trial")


@pytest.mark.parametrize("key", ["name", "train.num_epochs", "train.model.cell", "train.new"])
def test_settings_are_frozen(load, key):
    *sections, last = key.split(".")
    section = value_of(load(), ".".join(sections)) if sections else load()
    with pytest.raises(ValidationError):
        setattr(section, last, 3)


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("tracking.uri=https://ann:secret@host/", "tracking.uri"),
        ("prepare.csv=[a.csv,s3://id:secret@bucket/b.csv]", "prepare.csv"),
    ],
)
def test_a_password_in_a_location_is_refused_and_not_repeated(load, override, key):
    (line,) = faults_of(load, override)
    assert f"{key} holds a user name or password: " in line
    assert "secret" not in line


def test_every_setting_has_a_meaning():
    assert [key for key, _, meaning in describe() if not meaning] == []


def every_setting(**model):
    """Flatten settings in which no section is left out."""
    form = {"kind": "csv", "columns": {"text": 0, "label": 1}, "labels": "auto"}
    full = MINIMAL | {"prepare": {}, "format": form, "train": {"model": model}}
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


def test_described_defaults_are_the_real_ones():
    for key, default, _ in describe():
        if default != "required" and not key.endswith(("format.kind", "columns.label", ".labels")):
            real = next(found[key] for found in all_kinds() if key in found)
            assert yaml.safe_load(default) == (list(real) if isinstance(real, tuple) else real)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        (
            "train.model={kind: bag_of_embeddings, cell: gru}",
            "unknown setting train.model.cell: it belongs to kind: rnn",
        ),
        ("train.model={kind: bag_of_embeddings, poling: sum}", "did you mean train.model.pooling?"),
        ("train.model={kind: bag_of_embeddings, hidden_sizes: null}", "must be a list of whole"),
        ("train.model.num_layers=17", "train.model.num_layers=17: input should be less than or"),
        ("prepare.vocabulary.vectors=models:/x/1", "give the directory of the model's package"),
        ("train.model={kind: transformer}", "train.model: must be a section whose kind is rnn or"),
        ("train.model={kind: bag_of_embeddings, hidden_sizes: [3, 0]}", "train.model.hidden_sizes"),
        ("train.model={kind: bag_of_embeddings, pooling: max}", "train.model.pooling='max': "),
        ("train.model.hidden_sizes=[3]", "it belongs to kind: bag_of_embeddings"),
        (
            "train={model: {kind: bag_of_embeddings}, pretrain: {num_epochs: 1}}",
            "train: model.kind=bag_of_embeddings has no recurrent layer to pretrain",
        ),
    ],
)
def test_a_setting_of_another_kind_of_network_is_refused(load, override, line):
    (fault,) = faults_of(load, override)
    assert line in fault


def test_one_hidden_layer_may_be_a_number(load):
    model = load("train.model={kind: bag_of_embeddings, hidden_sizes: 100}").train.model
    assert model.hidden_sizes == (100,)
    assert BagSettings(hidden_sizes=[]).brief == "bag(linear)"


def test_networks_are_named_in_a_word_and_in_a_few():
    rnn = RnnSettings(hidden_size=64, num_layers=2, ngrams=3)
    bag = BagSettings()
    assert (rnn.brief, bag.brief) == ("gru(64)", "bag(30-10)")
    assert rnn.summary == "gru(64), 2 layers, bidirectional, attention, n-grams up to 3"
    assert bag.summary == "bag(30-10), sum of the word vectors"


def test_every_section_refuses_unknown_keys():
    sections, seen = [Config, *KINDS.values()], []
    while sections:
        section = sections.pop()
        seen.append(section.__name__)
        assert section.model_config["extra"] == "forbid"
        assert section.model_config["frozen"]
        kinds = [field.annotation for field in section.model_fields.values()]
        sections += [k for k in kinds if isinstance(k, type) and issubclass(k, Settings)]
    assert len(seen) > 8


def test_a_wrong_number_of_workers_has_one_line(load):
    (line,) = faults_of(load, "train.num_workers=two")
    assert "train.num_workers='two': " in line


@pytest.mark.parametrize(
    "overrides",
    [
        ["train.num_workers=0"],
        ["train.num_workers=-1"],
        ["train.seed=-1"],
        ["train.learning_rate=.inf"],
        ["prepare.split={validation_fraction: 0.6, test_fraction: 0.6}"],
        ["output_uri=''"],
    ],
    ids=lambda overrides: overrides[0],
)
def test_an_invalid_value_is_refused(load, overrides):
    (line,) = faults_of(load, *overrides)
    assert overrides[0].partition("=")[0] in line


@pytest.mark.parametrize("override", ["score.model_uri=", "score.model_uri=  "])
def test_an_override_without_a_value_is_refused(load, override):
    with pytest.raises(UserError, match=r"has no value: write score\.model_uri=null for no value"):
        load(override)


@pytest.mark.parametrize(
    ("override", "seed"),
    [("010", 10), ("0o10", 8), ("0x10", 16), ("0b10", 2), ("1_000", 1000), ("+7", 7), ("'5'", 5)],
)
def test_a_number_is_decimal_unless_it_says_otherwise(load, override, seed):
    assert load(f"train.seed={override}").train.seed == seed


@pytest.mark.parametrize("name", ["2024-13-01", "2024-01-31", "0x_", "0_1_"])
def test_what_looks_like_a_date_or_a_number_may_be_a_name(load, name):
    assert load(f"name={name}").name == name


def test_sections_may_share_settings_by_merge_keys(path):
    path.write_text("""
name: trial
output_uri: runs
prepare: {csv: a.csv}
train: &base
  <<: {num_epochs: 3, seed: 1}
  seed: 2
score: {<<: [{rows_per_file: 7}, {keep_raw: false}], batch_size: 9}
""")
    config = settings.load(path)
    assert (config.train.num_epochs, config.train.seed) == (3, 2)
    assert (config.score.rows_per_file, config.score.batch_size) == (7, 9)


@pytest.mark.parametrize(
    "value",
    [
        "!!timestamp soon",
        "!!int x",
        "!!float ''",
        "9" * 5000,
        "[" * 3000,
        "{[1]: 2}",
        "{a: 1, a: 2}",
    ],
    ids=lambda value: value[:12],
)
def test_strange_yaml_is_refused_in_one_short_line(load, path, value):
    (line,) = faults_of(load, f"train.seed={value}")
    assert len(line) < 200
    path.write_text(f"name: {value}")
    (line,) = faults_of(load)
    assert line.startswith(f"{path} is not YAML: ")
    assert len(line) < 400


@pytest.mark.parametrize("name", ["fast", "balanced", "best"])
def test_a_preset_is_a_whole_set_of_settings_and_every_one_can_be_changed(load, name):
    plain, preset = load(), load(f"train.preset={name}")
    changed = load(
        f"train.preset={name}", "train.num_epochs=9", "train.model.hidden_size=7",
        "train.pretrain.num_epochs=3",
    )  # fmt: skip
    assert preset.train.model != plain.train.model
    assert (changed.train.num_epochs, changed.train.pretrain.num_epochs) == (9, 3)
    assert changed.train.model == preset.train.model.model_copy(update={"hidden_size": 7})
    assert changed.train.batching == preset.train.batching
    again = settings.validate(changed.model_dump(mode="json"), source="itself")
    assert again.train == changed.train


def test_the_best_preset_is_the_configuration_for_sentiment140(load):
    shipped = settings.load(PROJECT / "configs/sentiment140.yaml").train
    names = ("model", "batching", "pretrain", "num_epochs", "learning_rate")
    preset = load("train.preset=best").train
    assert [getattr(preset, name) for name in names] == [getattr(shipped, name) for name in names]


def test_a_preset_that_does_not_fit_is_one_line(load):
    (line,) = faults_of(load, "train.preset=bset")
    assert "train.preset='bset'" in line
    assert "'balanced'" in line
    (line,) = faults_of(load, "train.preset=fast", "train.model.kind=bag_of_embeddings")
    assert "preset=fast is a recurrent network" in line


@pytest.mark.parametrize(
    ("overrides", "there"),
    [
        ([], "row_id, tweet_id"),
        (["prepare.keep_columns=[airline]"], "airline, row_id"),
        (["score.corpus=other.csv", "prepare.keep_columns=[brand]"], "row_id, tweet_id"),
        (["score.corpus=other.csv", "score.keep_columns=[airline]"], "airline, row_id"),
    ],
)
def test_a_column_of_slices_that_no_stage_keeps_is_refused(load, overrides, there):
    line = (
        "trial.yaml: evaluate.slices.columns: predictions will have no column brand; "
        f"their columns are {there}"
    )
    slices = "evaluate.slices.columns=[predicted_label, probability_joy, brand]"
    with pytest.raises(UserError, match=line):
        load(slices, *overrides)
    load(slices, *overrides, "score.keep_columns=[airline, brand]")
    load(slices, *overrides, "evaluate.scored_uri=other/scored")


def test_patterns_need_the_texts_of_scored_files(load):
    overrides = ["evaluate.slices={rain: rain}", "score.corpus=other.csv"]
    with pytest.raises(UserError, match=r"slices\.patterns need the texts, which .*name text"):
        load(*overrides)
    load(*overrides, "score.keep_columns=[text]")
    load(*overrides, "evaluate.scored_uri=other/scored")
    load(overrides[0])


@pytest.mark.parametrize(
    "override", ["prepare.keep_columns=[brand]", "score.prepared_uri=other/prepared"]
)
def test_prepared_data_may_hold_a_column_of_slices(load, override):
    load("evaluate.slices.columns=[brand]", override)


def test_finished_predictions_say_themselves_which_columns_they_have(path):
    settings.load(path, ["evaluate.slices.columns=[brand]"], command="evaluate")


def test_the_columns_of_all_predictions_are_those_of_the_settings():
    found = {name for name in schema.predictions(["positive"]).names if "y_p" not in name}
    assert found == set(PREDICTED)


def test_the_lines_of_a_file_with_aliases_are_found_in_no_time(tmp_path):
    path = tmp_path / "trial.yaml"
    names = "abcdefghijklmnop"
    lines = [
        f"{b}: &{b} {{{', '.join(f'{i}: *{a}' for i in range(9))}}}" for a, b in pairwise(names)
    ]
    path.write_text("\n".join(["a: &a {x: 1}", *lines, "name: trial", "output_uri: runs"]))
    began = time.monotonic()
    with pytest.raises(UserError) as error:
        settings.load(path)
    assert f"{path}, line 2: unknown setting b" in str(error.value)
    assert time.monotonic() - began < 5
