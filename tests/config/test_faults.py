"""A mistake in the settings is a line: where it was typed, what is wrong, and the way out."""

# ruff: noqa: F401, F811 - fixtures of another file

import pytest
import yaml
from test_settings import MINIMAL, faults_of, load, path

from sentiflow.config import settings
from sentiflow.config.faults import PREDICTED
from sentiflow.data import schema
from sentiflow.errors import UserError


def test_a_value_that_may_be_of_several_kinds_is_refused_once(load):
    assert faults_of(load, "train.linear=none") == [
        "command line: train.linear='none': input should be 'auto', True or False"
    ]


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
        (
            "train.batch_size=1",
            "train.batch_size",
            "did you mean train.batching.global_batch_size?",
        ),
        ("format.sep=;", "format.sep", "did you mean format.delimiter?"),
        ("score.csv=a", "score.csv", "did you mean score.corpus?"),
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
    ("override", "fault"),
    [
        ("train.num_epochs=0", "train.num_epochs=0: input should be greater than or equal to 1"),
        ("train.model.dropout=1", "train.model.dropout=1: input should be less than 1"),
        ("prepare.split.kind=hsah", "prepare.split.kind='hsah': input should be 'hash', 'tut"),
        ("prepare.split.test_fraction=.nan", "prepare.split.test_fraction=nan: input should be "),
        ("train.model.hidden_size=1.5", "train.model.hidden_size=1.5: input should be a valid in"),
        ("train.model=gru", "train.model='gru': must be a section whose kind is rnn or bag"),
        ("name=two words", "name='two words': string should match pattern"),
        ("score.keep_columns=[a,A]", "score.keep_columns=['a', 'A']: names a twice"),
        ("prepare.csv=3", "prepare.csv=3: input should be a valid tuple"),
        (
            "train.num_workers=9",
            "train: num_workers=9, but the rows are divided into 8 shards: set train.batch",
        ),
        ("output_uri=null", "output_uri=None: input should be a valid string"),
    ],
)
def test_a_value_out_of_range_is_named_with_its_key(load, override, fault):
    (line,) = faults_of(load, override)
    assert line.startswith(f"command line: {fault}")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        pytest.param(b"name: [", "is not YAML: ", id="unclosed bracket"),
        pytest.param(b"name: \xff\xfe", "is not YAML: ", id="not UTF-8"),
        pytest.param(b"name: a\nname: b", "the key 'name' occurs twice", id="key twice"),
        pytest.param(
            b"train:\n  seed: 1\n  num_epochs: 2\n  seed: 3",
            "the key 'seed' occurs twice in the section at line 2",
            id="key twice in a section",
        ),
        pytest.param(b"", "holds no settings: ", id="empty"),
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


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("tracking.uri=https://ann:secret@host/", "tracking.uri"),
        ("prepare.csv=[a.csv,s3://id:secret@bucket/b.csv]", "prepare.csv"),
        ("output_uri=s3://b/x?secret_key=secret", "output_uri"),
    ],
)
def test_a_password_in_a_location_is_refused_and_not_repeated(load, override, key):
    (line,) = faults_of(load, override)
    assert f"{key} holds a user name or password: " in line
    assert "secret" not in line.replace("secret_key", "")


@pytest.mark.parametrize(
    ("override", "line"),
    [
        (
            "train.model={kind: bag_of_embeddings, cell: gru}",
            "unknown setting train.model.cell: it belongs to kind: rnn",
        ),
        ("train.model={kind: bag_of_embeddings, poling: sum}", "did you mean train.model.pooling?"),
        (
            "train.model={kind: bag_of_embeddings, hidden_sizes: 30}",
            "hidden_sizes=30: input should be a valid",
        ),
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


@pytest.mark.parametrize(
    "value",
    [
        "9" * 5000,
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


# What a command or a section needs of another


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
    overrides = ["evaluate.slices.patterns={rain: rain}", "score.corpus=other.csv"]
    with pytest.raises(UserError, match=r"slices\.patterns need the texts, which .*name text"):
        load(*overrides)
    load(*overrides, "score.keep_columns=[text]")
    load(*overrides, "evaluate.scored_uri=other/scored")
    load(overrides[0])


def test_the_columns_of_all_predictions_are_those_of_the_settings():
    found = {
        name
        for name in schema.predictions(["positive"], has_unsure=True).names
        if "y_p" not in name
    }
    assert found == set(PREDICTED)
