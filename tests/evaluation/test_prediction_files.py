"""Predictions of another program are compared, and evaluated, as those of a run are."""
# ruff: noqa: F811 -- fixtures are imported

import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics
from test_comparison import runs  # noqa: F401
from test_evaluated_rows import LABEL, NUM_ROWS, ROW_IDS, TEXTS, by_tens

from sentiflow.cli.compare import to_text
from sentiflow.config.class_names import BINARY
from sentiflow.data import label_files, label_values, manifest
from sentiflow.errors import UserError
from sentiflow.evaluation import comparison, evaluated_rows, replaced_predictions

IS_TEST = by_tens() == "test"


def rival(seed=1, *, wrong=20):
    """Predict all rows; of the first ``wrong`` test rows the other label."""
    code = LABEL.copy()
    turned = np.flatnonzero(IS_TEST)[:wrong]
    code[turned] = 1 - code[turned]
    positive = np.where(code, 0.9, 0.1) + np.random.default_rng(seed).uniform(-0.05, 0.05, NUM_ROWS)
    return pd.DataFrame(
        {
            "row_id": ROW_IDS,
            "text": TEXTS,
            "predicted_label": np.array(BINARY)[code],
            "probability_negative": 1 - positive,
            "probability_positive": positive,
        }
    )


@pytest.fixture
def write(tmp_path):
    """Write a table as Parquet or CSV; gives its name."""

    def run(table, name="rival.parquet", **options):
        path = tmp_path / name
        if name.endswith(".parquet"):
            table.to_parquet(path, index=False)
        else:
            table.to_csv(path, index=False, **options)
        return str(path)

    return run


FORMS = {
    "Parquet": ("rival.parquet", [], {}),
    "CSV": ("rival.csv", [], {}),
    "a spreadsheet": ("rival.csv", [], {"sep": ";", "encoding": "utf-8-sig"}),
    "rows": ("rival.parquet", ["text"], {}),
    "texts": ("rival.csv", ["row_id"], {}),
    "probabilities alone": ("rival.parquet", ["predicted_label"], {}),
}


@pytest.mark.parametrize(("name", "without", "options"), FORMS.values(), ids=FORMS)
def test_a_file_is_compared_as_a_run_on_the_same_test_rows(runs, write, name, without, options):
    table = rival()
    run = runs.run("a", wrong=[8])
    file = write(table.drop(columns=without), name, **options)
    found = comparison.compare(run, file)
    turned = comparison.compare(file, run)
    assert (found.split, found.num_rows) == ("test", IS_TEST.sum())
    test = table[IS_TEST]
    label = LABEL[IS_TEST]
    positive = test["probability_positive"]
    prediction = (positive >= 0.5).astype(int)
    figures = found.second.figures
    assert figures["accuracy"] == (prediction == label).mean() == 40 / 60
    assert figures["f1_macro"] == pytest.approx(
        metrics.f1_score(label, prediction, average="macro")
    )
    assert figures["log_loss"] == pytest.approx(metrics.log_loss(label, positive), rel=1e-5)
    assert figures["brier"] == pytest.approx(metrics.brier_score_loss(label, positive), rel=1e-5)
    assert (found.mcnemar.only_first_right, found.mcnemar.only_second_right) == (19, 0)
    assert turned.first.figures == figures
    assert turned.differences["accuracy"].value == -found.differences["accuracy"].value
    assert found.slices
    assert f"it is unknown which rows {file} was trained on" in found.notes
    text = to_text(found)
    assert "a file of predictions, labels and probabilities" in text
    assert "is worse than" in " ".join(text.split())
    json.dumps(asdict(found), allow_nan=False)


def test_labels_alone_have_no_metrics_of_probabilities(runs, write):
    run = runs.run("a")
    file = write(rival()[["row_id", "predicted_label"]])
    found = comparison.compare(run, file, columns=["prediction"], margin=0.0)
    for name in ("log_loss", "brier", "roc_auc"):
        assert found.differences[name] is found.second.figures[name] is None
        assert found.first.figures[name] is not None
    assert found.differences["accuracy"].value == -20 / 60
    assert {check.name for check in found.regression.worse} >= {"accuracy", "macro F1"}
    json.dumps(asdict(found), allow_nan=False)


def test_a_class_that_only_the_file_predicts_counts_against_it(runs, write):
    table = rival(wrong=0)
    table.loc[8, "predicted_label"] = "Neutral"  # a class of the corpus, which no model has
    file = write(table[["row_id", "predicted_label"]])
    found = comparison.compare(runs.run("a", left_out=["neutral"]), file)
    assert found.second.figures["accuracy"] == 59 / 60
    assert found.second.figures["by_class"]["neutral"]["num_predicted"] == 1
    label = LABEL[IS_TEST]
    prediction = np.where(ROW_IDS == 8, 2, LABEL)[IS_TEST]
    expected = metrics.f1_score(label, prediction, average="macro")
    assert found.second.figures["f1_macro"] == pytest.approx(expected)
    of_labelled = metrics.f1_score(label, prediction, average="macro", labels=[0, 1])
    counts = "predicted by the first 0, by the second 1 times"
    note = (
        f"Without neutral ({counts}), which no row is labelled with, the macro F1 is 1.0000 and "
        f"{of_labelled:.4f}."
    )
    assert found.f1_macro_note == note
    assert note in " ".join(to_text(found).split())
    assert note.partition(" (")[0] in to_text(found, "comparison.md.j2")


def change(**values):
    """Set values of the row with number 28, which is a test row."""

    def run(table):
        for name, value in values.items():
            table[name] = table[name].astype(object)
            table.loc[28, name] = value
        return table

    return run


FAULTS = {
    "no key": (
        lambda t: t.drop(columns=["row_id", "text"]),
        "has no column row_id or text; its columns are predicted_label, probability_negative",
    ),
    "no prediction": (
        lambda t: t[["row_id", "text"]],
        "has no column predicted_label or probability_<class>: it has row_id",
    ),
    "another class": (
        lambda t: t.assign(probability_spam=0.0),
        "has a column probability_spam, which is no class of the corpus: the classes of the corpus "
        "are negative, positive, neutral",
    ),
    "another label": (
        change(predicted_label="good"),
        "row 28: predicted_label 'good' is none of negative, positive, neutral",
    ),
    "no label": (change(predicted_label=None), "row 28: predicted_label '' is none of negative"),
    "a text as probability": (
        lambda t: t.assign(probability_positive="0,5"),
        "row 0: probability_positive '0,5' is not a number with a decimal point (299 more)",
    ),
    "sums": (
        lambda t: t.assign(probability_positive=t["probability_positive"] + (t["row_id"] == 28)),
        "row 28: has a probability not from 0 to 1",
    ),
    "half": (
        lambda t: t.assign(probability_positive=t["probability_positive"] / 2),
        "row 0: has probabilities that do not sum to 1",
    ),
    "not a number": (
        lambda t: t.assign(probability_positive=t["probability_positive"].where(t["row_id"] != 28)),
        "row 28: has a probability not from 0 to 1",
    ),
    "twice": (
        lambda t: pd.concat([t, t[t["row_id"] == 28]]),
        "row 300: row_id '28' was given before",
    ),
    "two answers to a text": (
        lambda t: pd.concat([t, t[29:30].assign(predicted_label="neutral")]).drop(columns="row_id"),
        "row 300: the text has another prediction above",
    ),
    "a row too few": (
        lambda t: t[~t["row_id"].isin([28, 8, 0])],
        "has no prediction for 2 of 60 evaluated rows; the first has the row_id 8: predict every ",
    ),
    "other numbers": (
        lambda t: t.assign(row_id=t["row_id"].to_numpy()[::-1]),
        "has another text at row_id 8 than the corpus: row_id counts the records of the corpus ",
    ),
    "numbers that are none": (
        lambda t: t.assign(row_id=t["row_id"] + 0.5),
        "row 0: row_id '0.5' is not a row number",
    ),
    "no number": (
        lambda t: t.assign(row_id=t["row_id"].astype("Int64").where(t["row_id"] != 28)),
        "row 28: row_id '' is not a row number",
    ),
}


@pytest.mark.parametrize(("spoil", "line"), FAULTS.values(), ids=FAULTS)
def test_a_faulty_file_is_refused_in_one_line(runs, write, spoil, line):
    run = runs.run("a")
    file = write(spoil(rival()))
    with pytest.raises(UserError) as error:
        comparison.compare(run, file)
    assert line in str(error.value)
    assert str(error.value).startswith(file)
    assert "\n" not in str(error.value)


def test_one_of_the_two_is_a_run_and_the_file_is_there(runs, write, tmp_path):
    file = write(rival())
    with pytest.raises(UserError, match="one of the two must be a run"):
        comparison.compare(file, file)
    with pytest.raises(UserError, match=r"there is no .*absent\.csv"):
        comparison.compare(runs.run("a"), str(tmp_path / "absent.csv"))


def test_values_of_the_corpus_are_labels_too(runs, write):
    run = runs.run("a")
    table = rival()
    record = manifest.read(f"{run}/scored")
    table["predicted_label"] = table["predicted_label"].map({"negative": "0", "positive": "4"})
    found = replaced_predictions.read(write(table, "rival.csv"), record)
    assert found.classes == BINARY
    assert (found.prediction == (rival()["predicted_label"] == "positive")).all()


def test_ids_of_tweets_are_row_numbers(write):
    numbers = [1234567890123456789, (1 << 63) - 1]
    for name in ("a.parquet", "a.csv"):
        file = write(pd.DataFrame({"row_id": numbers, "label": ["a", "b"]}), name)
        table = label_files.read(file, setting="x", needs=("row_id", "label"), hint="")
        assert label_values.read_row_ids(table).tolist() == numbers
    file = write(pd.DataFrame({"row_id": [str(1 << 63)], "label": ["a"]}), "b.csv")
    with pytest.raises(UserError, match="line 2: row_id '9223372036854775808' is not a row number"):
        label_values.read_row_ids(label_files.read(file, setting="x", needs=("label",), hint=""))


def test_predictions_that_sentiflow_wrote_are_such_a_file(runs, write):
    run = runs.run("a", wrong=[8, 18])
    rows = evaluated_rows.read(f"{run}/scored", manifest.read(f"{run}/scored")).to_pandas()
    rows["predicted_label"] = np.array(BINARY)[rows["prediction"]]
    found = comparison.compare(run, write(rows))
    assert found.verdict.startswith("No difference shown: both predict the same label")
    assert found.first.figures == pytest.approx(found.second.figures, rel=1e-5)
