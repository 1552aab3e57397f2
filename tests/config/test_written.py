"""A command is written down as it was typed, and its settings can be read again."""

import numpy as np
import pytest

from sentiflow.config import settings, written, yaml_text


def write(config, changes=(), **options):
    raw = settings.read(config, changes)
    return written.write_down("run", config, changes, raw=raw, **options)


def test_the_settings_have_the_changes_and_no_defaults(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text(
        "# for march\nname: my\noutput_uri: runs/my\n"
        "prepare: {csv: tweets.csv, test: '2024-01-31'}\n"
    )
    command = write(
        "my.yaml", ["train.seed=1", "score.keep_columns=[a b]"], options=["--overwrite"]
    )
    assert (
        command.line == "sentiflow run my.yaml train.seed=1 'score.keep_columns=[a b]' --overwrite"
    )
    assert yaml_text.parse(command.settings) == {
        "name": "my",
        "output_uri": "runs/my",
        "prepare": {"csv": "tweets.csv", "test": "2024-01-31"},
        "train": {"seed": 1},
        "score": {"keep_columns": ["a b"]},
    }
    assert command.directory == str(tmp_path)
    first, *others = command.to_file().decode().splitlines()
    assert first == f"# {command.line}"
    assert "\n".join(others) == command.settings.strip()


def test_a_program_may_give_values_of_any_type():
    shared = [1, 2]
    config = {"name": "my", "output_uri": "runs/my", "a": shared, "b": shared}
    command = write(config, {"train.learning_rate": np.float64(0.5), "train.seed": np.int64(3)})
    assert command.line == "sentiflow run config.yaml train.learning_rate=0.5 'train.seed=\"3\"'"
    assert "&" not in command.settings
    assert yaml_text.parse(command.settings)["train"] == {"learning_rate": 0.5, "seed": "3"}


def test_a_job_of_a_cluster_has_no_directory_that_remains(monkeypatch):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert write({"name": "my"}).directory == ""


@pytest.mark.parametrize(
    "change", ["a=s3://AKIA:se/cret@bucket/x", "a=http://h/?access_key=se/cret"]
)
def test_nothing_that_is_written_down_holds_a_secret(change):
    command = write({"name": "my"}, [change])
    assert "se/cret" not in f"{command}{command.to_file()!r}"


def test_a_line_cannot_end_the_comment_of_the_file():
    command = write({"name": "my"}, ["a='x\nname: other'"])
    first, *others = command.to_file().decode().splitlines()
    assert "name: other" in first
    assert "name: other" not in others


def test_a_trial_has_the_settings_of_its_sweep_and_its_own_values():
    command = written.change(
        write({"name": "my", "train": {"seed": 1}}), {"train.model.cell": "rnn"}
    )
    assert yaml_text.parse(command.settings)["train"] == {"seed": 1, "model": {"cell": "rnn"}}
