"""What a run cannot do is refused in a line, and nothing is touched."""
# ruff: noqa: F811 -- fixtures are imported

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import messages, write_config
from test_pipeline import copy_of_run, record, run_here, score_corpus  # noqa: F401
from typer.testing import CliRunner

from sentiflow.cli.app import app
from sentiflow.data import sample
from sentiflow.errors import UserError

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_a_mistake_in_a_later_stage_ends_a_run_before_anything_starts(tmp_path, sample_csv):
    write_config(tmp_path, sample_csv, tracking={"uri": f"sqlite:///{tmp_path}/mlflow.db"})
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="the corpus has no column brand: name it in prep"):
        run_here(tmp_path, "run", "score.keep_columns=[brand]")
    with pytest.raises(UserError, match=r"a label that format\.labels does not name"):
        run_here(
            tmp_path,
            "run",
            "format={kind: csv, columns: {text: 5, label: 0}, labels: {negative: 0, positive: 1}}",
        )
    assert sorted(tmp_path.rglob("*")) == before, "neither a run nor a directory is left"


def test_other_settings_are_refused_and_named_and_nothing_is_touched(copy_of_run):
    before = record(copy_of_run, "trained")
    result = CliRunner().invoke(app, ["run", str(copy_of_run / "config.yaml"), "train.seed=5"])
    assert result.exit_code == 2
    assert "seed: 0 there, 5 here" in result.stderr
    assert "--overwrite" in result.stderr
    assert record(copy_of_run, "trained") == before


@pytest.mark.parametrize(
    ("verb", "table", "code"), [("train", "encoded", 1), ("score", "tweets", 2)]
)
def test_the_last_line_names_a_damaged_file(copy_of_run, resources, verb, table, code):
    path = next((copy_of_run / f"run/prepared/{table}/split=train").glob("*.parquet"))
    path.write_bytes(b"x" * path.stat().st_size)
    place = f"{verb}.output_uri={copy_of_run}/damaged"
    result = CliRunner().invoke(app, [verb, str(copy_of_run / "config.yaml"), place])
    assert result.exit_code == code
    assert "Parquet" in result.stderr.splitlines()[-1]
    assert not (copy_of_run / "damaged/manifest.json").exists()


@pytest.mark.parametrize(("verb", "table"), [("train", "encoded"), ("score", "tweets")])
def test_an_input_with_a_file_of_another_size_is_refused_at_once(copy_of_run, verb, table):
    path = next((copy_of_run / f"run/prepared/{table}/split=train").glob("*.parquet"))
    path.write_bytes(b"half")
    place = f"{verb}.output_uri={copy_of_run}/damaged"
    result = CliRunner().invoke(app, [verb, str(copy_of_run / "config.yaml"), place])
    assert result.exit_code == 2
    (line,) = messages(result.stderr)
    assert f"{path} is missing or damaged: make it again by sentiflow prepare" in line
    assert not (copy_of_run / "damaged").exists()


def test_a_file_named_twice_is_refused(copy_of_run, resources):
    path = copy_of_run / "other.parquet"
    pq.write_table(pa.table({"text": ["so sad", "lovely"]}), path)
    with pytest.raises(UserError, match=r"other\.parquet is named twice: name each file once"):
        score_corpus(copy_of_run, f"[{path},{path}]")


def test_a_column_that_predictions_have_themselves_is_refused(copy_of_run, resources):
    with pytest.raises(UserError, match="their own column probability"):
        score_corpus(copy_of_run, "prepared", "score.keep_columns=[probability]")


def test_a_column_that_the_corpus_lacks_is_refused(copy_of_run, resources):
    with pytest.raises(UserError, match="no column color"):
        score_corpus(copy_of_run, "prepared", "score.keep_columns=[color]")


def test_a_wrong_vocabulary_source_leaves_no_directory(tmp_path, sample_csv, resources):
    write_config(tmp_path, sample_csv)
    with pytest.raises(UserError, match=r"no GloVe vectors 'torchtext:7B\.50d'"):
        run_here(tmp_path, "prepare", "prepare.vocabulary.vectors=torchtext:7B.50d")
    assert not (tmp_path / "run").exists()


def test_a_corpus_of_one_class_is_refused_and_nothing_is_left(tmp_path, resources):
    csv = tmp_path / "negative.csv"
    csv.write_bytes(b"".join(sample.generate(num_rows=20_000, seed=0)).split(b'\n"4"')[0] + b"\n")
    write_config(tmp_path, csv)
    with pytest.raises(UserError, match="none of the 10,000 accepted rows is positive"):
        run_here(tmp_path, "prepare")
    assert not (tmp_path / "run/prepared").exists()


def test_too_many_bad_rows_are_refused_with_counts_and_examples(tmp_path, sample_csv, resources):
    csv = tmp_path / "dirty.csv"
    lines = sample_csv.read_bytes().splitlines(keepends=True) * 2  # more than is looked at
    csv.write_bytes(b"".join(lines + [b'"4","no text"\n'] * 150))
    write_config(tmp_path, csv)
    with pytest.raises(UserError) as refusal:
        run_here(tmp_path, "prepare")
    message = str(refusal.value)
    assert "150 of 12,150 rejected (150 wrong number of columns)" in message
    assert f"{csv}, byte {sum(map(len, lines))}, row 12000" in message
    assert not (tmp_path / "run/prepared").exists()


def test_a_directory_with_other_files_is_never_touched(tmp_path, sample_csv):
    (tmp_path / "run/prepared/tweets").mkdir(parents=True)
    (tmp_path / "run/prepared/tweets/mine.txt").write_text("keep me")
    write_config(tmp_path, sample_csv)
    with pytest.raises(UserError, match="holds files that are not from prepare"):
        run_here(tmp_path, "prepare", overwrite=True)
    assert (tmp_path / "run/prepared/tweets/mine.txt").read_text() == "keep me"
