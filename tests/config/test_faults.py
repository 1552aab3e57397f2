"""A mistake in the settings is a line: where it was typed, what is wrong, and the way out."""

# ruff: noqa: F401, F811 - fixtures of another file

import pytest
import yaml
from test_settings import MINIMAL, faults_of, load, path

from sentiflow.config import settings
from sentiflow.config.faults import PREDICTED
from sentiflow.data import schema
from sentiflow.errors import UserError

RECORDED = (
    "settings are recorded; use environment variables instead (AWS_ACCESS_KEY_ID, "
    "MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD)"
)
FAULTS = {
    # An override that cannot be read
    "train.num_epochs": "cannot read the override 'train.num_epochs': write section.key=value",
    "=3": "cannot read the override '=3': write section.key=value",
    "train.seed=[1": "cannot read the value of 'train.seed=[1': it must be YAML",
    "prepare.csv.0=a": "cannot override prepare.csv.0: csv is a value, not a section",
    # A misspelt setting: the closest one is named, or all of the section
    "train.num_epohcs=3": "command line: unknown setting train.num_epohcs: did you mean "
    "train.num_epochs?",
    "trian.num_epochs=3": "command line: unknown setting trian: did you mean train?",
    "train.model.hiden_size=3": "command line: unknown setting train.model.hiden_size: did you "
    "mean train.model.hidden_size?",
    "score.format.erors=ignore": "command line: unknown setting score.format.erors: did you mean "
    "score.format.errors?",
    "prepare.lerning_rate=1": "command line: unknown setting prepare.lerning_rate: did you mean "
    "train.learning_rate?",
    "tracking.zzz=1": "command line: unknown setting tracking.zzz: known here: uri, required, "
    "register_model, user, tags",
    # A headline that these classes do not have
    "evaluate.headline=mae": "command line: evaluate.headline='mae': the classes have no order: "
    "set format.ordered: true if they are numbers, such as stars; or name accuracy or f1_macro",
    # A name that other programs give to a setting
    "train.lr=1": "command line: unknown setting train.lr: did you mean train.learning_rate?",
    "lr=1": "command line: unknown setting lr: did you mean train.learning_rate?",
    "train.batch_size=1": "command line: unknown setting train.batch_size: did you mean "
    "train.batching.global_batch_size?",
    "format.sep=;": "command line: unknown setting format.sep: did you mean format.delimiter?",
    "score.csv=a": "command line: unknown setting score.csv: did you mean score.corpus?",
    # A value out of range, or of another type
    "train.num_epochs=0": "command line: train.num_epochs=0: input should be greater than or equal "
    "to 1",
    "train.model.dropout=1": "command line: train.model.dropout=1: input should be less than 1",
    "train.linear=none": "command line: train.linear='none': input should be 'auto', True or False",
    "prepare.split.kind=hsah": "command line: prepare.split.kind='hsah': input should be 'hash', "
    "'tutorial', 'user', 'time' or 'column'",
    "prepare.split.test_fraction=.nan": "command line: prepare.split.test_fraction=nan: input "
    "should be a finite number",
    "train.model.hidden_size=1.5": "command line: train.model.hidden_size=1.5: input should be a "
    "valid integer, got a number with a fractional part",
    "train.model=gru": "command line: train.model='gru': must be a section whose kind is rnn or "
    "bag_of_embeddings",
    "name=two words": r"command line: name='two words': string should match pattern "
    r"'^\w[\w.-]*$'",
    "score.keep_columns=[a,A]": "command line: score.keep_columns=['a', 'A']: names a twice",
    "prepare.csv=3": "command line: prepare.csv=3: input should be a valid tuple",
    "train.num_workers=9": "command line: train: num_workers=9, but the rows are divided into 8 "
    "shards: set train.batching.num_shards=9",
    "output_uri=null": "command line: output_uri=None: input should be a valid string",
    # A password: it is not repeated
    "tracking.uri=https://ann:secret@host/": "command line: tracking.uri holds a user name or "
    f"password: {RECORDED}",
    "prepare.csv=[a.csv,s3://id:secret@bucket/b.csv]": "command line: prepare.csv holds a user "
    f"name or password: {RECORDED}",
    "output_uri=s3://b/x?secret_key=secret": "command line: output_uri holds a user name or "
    f"password: {RECORDED}",
    # A setting of another kind of network
    "train.model={kind: transformer}": "command line: train.model: must be a section whose kind is "
    "rnn or bag_of_embeddings",
    "train.model={kind: bag_of_embeddings, cell: gru}": "command line: unknown setting "
    "train.model.cell: it belongs to kind: rnn",
    "train.model={kind: bag_of_embeddings, poling: sum}": "command line: unknown setting "
    "train.model.poling: did you mean train.model.pooling?",
    "train.model={kind: bag_of_embeddings, hidden_sizes: 30}": "command line: "
    "train.model.hidden_sizes=30: input should be a valid tuple",
    "train.model={kind: bag_of_embeddings, hidden_sizes: [3, 0]}": "command line: "
    "train.model.hidden_sizes.1=0: input should be greater than or equal to 1",
    "train.model={kind: bag_of_embeddings, pooling: max}": "command line: "
    "train.model.pooling='max': input should be 'sum' or 'mean'",
    "train.model.hidden_sizes=[3]": "command line: unknown setting train.model.hidden_sizes: it "
    "belongs to kind: bag_of_embeddings",
    "train={model: {kind: bag_of_embeddings}, pretrain: {num_epochs: 1}}": "command line: train: "
    "model.kind=bag_of_embeddings has no recurrent layer to pretrain: set pretrain.num_epochs=0",
}
"""An override, and the one line that refuses it: where it was typed, what is wrong, the way out."""


@pytest.mark.parametrize("override", FAULTS)
def test_a_wrong_override_is_refused_in_one_line(load, override):
    assert faults_of(load, override) == [FAULTS[override]]


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


MODEL = {"model_uri": "models:/m/1"}
CORPUS = {"corpus": "new.csv"}


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


def test_a_run_of_settings_that_only_score_names_the_command_that_does(tmp_path):
    path = tmp_path / "trial.yaml"
    path.write_text(yaml.safe_dump({"name": "trial", "output_uri": "runs", "score": CORPUS}))
    with pytest.raises(UserError, match="; sentiflow score scores the corpus without training"):
        settings.load(path, command="run")


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
    found = schema.predictions(["positive"], has_unsure=True).names
    assert set(found) == {*PREDICTED, "probability_positive"}
