"""Shares of the predictions of another program are those of a model with the same answers."""
# ruff: noqa: F811 -- fixtures are imported

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from test_cli import invoke
from test_score import model, table  # noqa: F401

from sentiflow.cli.jobs import run as run_job
from sentiflow.config import settings
from sentiflow.data import manifest
from sentiflow.errors import UserError
from sentiflow.pipeline import stage_plans, stages

pytestmark = [pytest.mark.ray, pytest.mark.slow]

WORDS = ("good", "bad", "day", "love", "hate", "how", "not", "much")
FILE_ROWS = 400
SHARES = ("predicted_share", "corrected_share", "low", "high", "p_adjusted")


def write_corpus(folder, number):
    """Write a file of texts by shop and day; returns its rows."""
    rng = np.random.default_rng(number)
    rows = pd.DataFrame(
        {
            "message": [
                f"{' '.join(rng.choice(WORDS, 5))} {number} {row}" for row in range(FILE_ROWS)
            ],
            "shop": rng.choice(["north", "south"], FILE_ROWS),
            "day": np.datetime64("2026-01-01")
            + (number * 30 + rng.integers(0, 28, FILE_ROWS)) * np.timedelta64(1, "D"),
        }
    )
    rows.to_csv(folder / f"corpus-{number}.csv", index=False)
    return rows


def configure(folder, name, **score):
    """Write the settings of a scoring and its shares; returns their file."""
    corpus = {"corpus": str(folder / "corpus-*.csv"), "rows_per_file": 150}
    raw = {
        "name": name,
        "output_uri": str(folder / name / "run"),
        "format": {"kind": "csv", "columns": {"text": "message", "time": "day"}},
        "train": {"classes": ["negative", "positive"]},
        "score": corpus | {"keep_columns": ["shop", "time", "text"]} | score,
        "trends": {"by": ["shop", "time:month"], "labels": str(folder / "labels.csv")},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def measure(config, **options):
    """Run the stages of ``trends``; returns the manifests, and the table of shares."""
    loaded = settings.load(config)
    verbs = stage_plans.list_stages(loaded, "trends")
    if loaded.score.model_uri:
        verbs = ("score", "trends")
    outcomes = stages.run(loaded, verbs, **options)
    shares = pd.read_parquet(f"{loaded.trends.output_uri}/trends.parquet")
    return {outcome.verb: outcome.record for outcome in outcomes}, shares


def write_labels(folder, num_rows, *, size=200):
    """Label a random sample of the rows."""
    row_id = np.random.default_rng(7).choice(num_rows, size, replace=False)
    label = np.where(row_id % 3 == 0, "negative", "positive")
    pd.DataFrame({"row_id": row_id, "label": label}).to_csv(folder / "labels.csv", index=False)


@pytest.mark.parametrize("name", ["answers.csv", "answers.parquet"])
def test_own_predictions_that_are_given_have_the_same_corrected_shares(
    tmp_path, model, resources, name
):
    texts = pd.concat([write_corpus(tmp_path, number) for number in (0, 1)], ignore_index=True)
    write_labels(tmp_path, len(texts))
    own, expected = measure(configure(tmp_path, "own", model_uri=model))
    answers = table(tmp_path / "own")
    columns = ["row_id", "predicted_label", "probability_negative", "probability_positive"]
    answers = answers[columns].sample(frac=1, random_state=1)
    if name.endswith(".csv"):
        answers.to_csv(tmp_path / name, index=False)
    else:
        answers.drop(columns="row_id").assign(
            text=texts["message"][answers["row_id"]].to_numpy()
        ).to_parquet(tmp_path / name, index=False)
    given, found = measure(configure(tmp_path, "given", predictions=str(tmp_path / name)))
    assert own["score"]["classes"][:2] == given["score"]["classes"] == ["negative", "positive"]
    expected = expected[expected["class"] != "neutral"].reset_index(drop=True)
    keys = ["by", "group", "period", "class", "rows", "labelled", "method"]
    pd.testing.assert_frame_equal(found[keys], expected[keys])
    assert (found["method"] == "corrected").any()
    for column in SHARES:
        np.testing.assert_allclose(found[column], expected[column], atol=1e-6, err_msg=column)
    assert "another program has made these predictions" in given["trends"]["notes"][-1]
    counts = given["score"]["given"]
    assert counts == {"predictions": len(texts), "unused": 0, "rows_without": 0}


def test_files_that_are_added_to_the_corpus_get_the_predictions_that_are_added(tmp_path, resources):
    every = []
    for number in (0, 1):
        texts = write_corpus(tmp_path, number)
        rng = np.random.default_rng(number)
        answers = pd.DataFrame({"row_id": FILE_ROWS * number + np.arange(FILE_ROWS)})
        answers["predicted_label"] = rng.choice(["negative", "positive"], len(texts))
        answers[3:].to_csv(tmp_path / f"answers-{number}.csv", index=False)
        every.append(answers)
        write_labels(tmp_path, FILE_ROWS * (number + 1), size=100)
        config = configure(tmp_path, "given", predictions=str(tmp_path / "answers-*.csv"))
        records, _ = measure(config, overwrite=True)
        counts = records["score"]["given"]
        assert counts["rows_without"] == 3 * (number + 1)
        assert len(records["score"]["scorings"]) == number + 1, "extended, not done again"
        assert records["trends"]["counts"]["rows"] == (FILE_ROWS - 3) * (number + 1)
    scored = table(tmp_path / "given")
    expected = pd.concat(every, ignore_index=True).set_index("row_id")
    assert len(scored) == 2 * (FILE_ROWS - 3)
    assert scored["predicted_label"].tolist() == [
        *expected.loc[scored["row_id"], "predicted_label"]
    ]
    assert scored["model_version"].nunique() == 1
    rejected = table(tmp_path / "given", "rejected")
    assert rejected["reason"].unique().tolist() == ["no prediction"]
    assert rejected["row_id"].tolist() == [0, 1, 2, FILE_ROWS, FILE_ROWS + 1, FILE_ROWS + 2]
    assert (rejected["offset"] >= 0).all()
    answers.to_csv(tmp_path / "answers-1.csv", index=False)  # a file is changed
    with pytest.raises(UserError, match=r"another model: .* here by score\.predictions\)"):
        measure(config)
    records, _ = measure(config, overwrite=True)
    assert records["score"]["given"]["rows_without"] == 3


def test_the_command_scores_first_and_draws_rows_to_label(tmp_path, resources):
    texts = write_corpus(tmp_path, 0)
    label = np.where(texts["message"].str.contains("good"), "positive", "negative")
    rows = pd.DataFrame({"text": texts["message"], "predicted_label": label})
    rows.to_parquet(tmp_path / "answers.parquet", index=False)
    config = configure(tmp_path, "given", predictions=str(tmp_path / "answers.parquet"))
    raw = yaml.safe_load(config.read_text())
    del raw["trends"]["labels"]
    config.write_text(yaml.safe_dump(raw))
    to_label = tmp_path / "to_label.csv"
    drawn = invoke("trends", str(config), "--sample", "60", "--output", str(to_label))
    assert drawn.exit_code == 0, drawn.stderr
    sample = pd.read_csv(to_label)
    assert len(sample) == 60
    first = invoke("trends", str(config), "--json")
    assert first.exit_code == 0, first.stderr
    notes = json.loads(first.stdout)["trends"]["notes"]
    assert any("nothing is known of their errors: only labels tell them" in note for note in notes)
    page = (tmp_path / "given/run/trends/trends.html").read_text()
    assert "Which texts the program was trained on" in page
    sample.assign(label="negative").to_csv(to_label, index=False)
    second = invoke("trends", str(config), f"trends.labels={to_label}", "--overwrite", "--json")
    counts = json.loads(second.stdout)["trends"]["counts"]
    assert (counts["rows"], counts["sample"]) == (FILE_ROWS, 60)
    page = (tmp_path / "given/run/trends/trends.html").read_text()
    assert "60 labelled texts." in page
    assert "labelled texts that it was not trained on. " not in page


def test_labels_of_rows_without_a_prediction_are_counted(tmp_path, resources):
    write_corpus(tmp_path, 0)
    write_labels(tmp_path, FILE_ROWS, size=200)
    answers = pd.DataFrame({"row_id": np.arange(100, 600)})
    answers["predicted_label"] = np.where(answers["row_id"] % 2, "negative", "positive")
    answers.to_csv(tmp_path / "answers.csv", index=False)
    config = configure(tmp_path, "given", predictions=str(tmp_path / "answers.csv"))
    records, _ = measure(config)
    labelled = pd.read_csv(tmp_path / "labels.csv")["row_id"]
    num_left_out = int((labelled < 100).sum())
    notes = "\n".join(records["trends"]["notes"])
    assert f"{num_left_out} of 200 labels of trends.labels are left out" in notes
    assert "100 of 400 rows have no prediction in the files of score.predictions" in notes
    counts = records["score"]["given"]
    assert counts == {"predictions": 500, "unused": 200, "rows_without": 100}
    assert manifest.read(f"{tmp_path}/given/run/scored")["counts"]["rejected"] == 100


def test_what_needs_a_model_refuses_the_predictions_of_another_program(tmp_path, resources):
    write_corpus(tmp_path, 0)
    answers = pd.DataFrame({"row_id": np.arange(FILE_ROWS), "predicted_label": "negative"})
    answers.to_csv(tmp_path / "answers.csv", index=False)
    config = configure(tmp_path, "given", predictions=str(tmp_path / "answers.csv"))
    stages.run(settings.load(config), ["score"])
    with pytest.raises(UserError, match="has the predictions of another program, not of a model"):
        run_job(config, "evaluate")
    with pytest.raises(UserError, match="sentiflow run makes a model, and score"):
        run_job(config, "run")
    (tmp_path / "answers.csv").write_text("row_id,predicted_label\n0,negative\n1,good\n")
    is_refused = pytest.raises(UserError, match=r"line 3: predicted_label 'good' is none of neg")
    with is_refused:
        run_job(config, "trends", overwrite=True)
    assert manifest.read(f"{tmp_path}/given/run/scored"), "the earlier result stays"
