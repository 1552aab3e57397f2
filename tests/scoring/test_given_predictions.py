"""Predictions of another program: each row of the corpus gets its own, or is rejected."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from sentiflow.config import settings
from sentiflow.data import parts, schema
from sentiflow.errors import UserError
from sentiflow.models import package_files
from sentiflow.scoring import given_predictions
from sentiflow.scoring.given_predictions import NO_PREDICTION

CLASSES = ("negative", "positive", "neutral")
NUM_ROWS = 1000


def answer(num_rows=NUM_ROWS, *, seed=0):
    """Make predictions of another program, with probabilities."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(3), num_rows)
    table = {"row_id": np.arange(num_rows), "text": [f"Text number {n}" for n in range(num_rows)]}
    table["predicted_label"] = np.array(CLASSES)[probabilities.argmax(axis=1)]
    for name, column in zip(CLASSES, probabilities.T, strict=True):
        table[f"probability_{name}"] = column
    return pd.DataFrame(table)


def make_part(row_ids, *, rejected=()):
    """Make the rows of a part as ``parts.read`` returns them; their texts differ in case."""
    row_ids = np.asarray(row_ids)
    reason = [("empty text" if row_id in rejected else None) for row_id in row_ids]
    columns = {
        "row_id": pa.array(row_ids),
        "source": pa.array(["a.csv"] * len(row_ids)).dictionary_encode(),
        "offset": pa.array(row_ids * 10),
        "tweet_id": pa.nulls(len(row_ids), pa.string()),
        "text": pa.array([f"text  number {row_id}" for row_id in row_ids]),
        "label": pa.nulls(len(row_ids), pa.int8()),
        "unknown_label": pa.nulls(len(row_ids), pa.string()),
        "split": pa.nulls(len(row_ids), pa.string()),
        "raw": pa.array([b"raw" if each else None for each in reason], pa.binary()),
        "reason": pa.array(reason, pa.string()),
    }
    return pa.table(columns)


@pytest.fixture
def give(tmp_path, monkeypatch):
    """Write predictions to files, and sort them as a scoring does; small row groups."""
    monkeypatch.setattr(given_predictions, "_GROUP_ROWS", 100)

    def run(*tables, suffix="parquet", form=None, **score):
        names = []
        for number, table in enumerate(tables):
            names.append(str(tmp_path / f"answers-{number}.{suffix}"))
            if suffix == "parquet":
                table.to_parquet(names[-1], index=False)
            else:
                table.to_csv(names[-1], index=False)
        labels = {name: [name] for name in CLASSES}
        columns = {"text": "message", "label": "mood"}
        raw = {
            "name": "test",
            "output_uri": str(tmp_path / "run"),
            "format": form or {"kind": "csv", "columns": columns, "labels": labels},
            "score": {"predictions": names, "corpus": "x.csv"} | score,
        }
        config = settings.load(raw)
        described = given_predictions.describe(config, None, None)
        file = given_predictions.read(config.score, described)
        classes = tuple(described["settings"]["classes"])
        values = package_files.class_values_of(described)
        return given_predictions.write(file, classes, values, folder=str(tmp_path))

    return run


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize("without", ["text", "row_id", "none"])
def test_each_row_gets_its_prediction_whatever_the_key_and_the_order(give, suffix, without):
    table = answer()
    shuffled = table.sample(frac=1, random_state=1).drop(columns=without, errors="ignore")
    given = give(shuffled[:400], shuffled[400:], suffix=suffix)
    row_ids = np.random.default_rng(2).permutation(np.r_[100:350, 700:730])
    found = given_predictions.find(make_part(row_ids), given)
    expected = table.set_index("row_id").loc[row_ids]
    assert found.scores.columns["predicted_label"].to_pylist() == [*expected["predicted_label"]]
    columns = [f"probability_{name}" for name in CLASSES]
    np.testing.assert_allclose(found.scores.probabilities, expected[columns], atol=1e-6)
    assert found.table["reason"].null_count == len(row_ids)


def test_labels_alone_have_probabilities_of_0_and_1(give):
    table = answer()
    given = give(table[["row_id", "predicted_label"]])
    found = given_predictions.find(make_part(np.arange(NUM_ROWS)), given)
    assert found.scores.columns["predicted_label"].to_pylist() == [*table["predicted_label"]]
    assert np.isin(found.scores.probabilities, [0, 1]).all()
    assert (found.scores.probabilities.sum(axis=1) == 1).all()
    assert (found.scores.confidence == 1).all()


def test_a_label_counts_though_another_class_is_more_probable(give):
    table = answer().assign(predicted_label="neutral")
    found = given_predictions.find(make_part([3, 5]), give(table))
    assert found.scores.columns["predicted_label"].to_pylist() == ["neutral"] * 2
    np.testing.assert_allclose(found.scores.confidence, table["probability_neutral"][[3, 5]])
    assert found.scores.predicted == {"negative": 0, "positive": 0, "neutral": 2}


@pytest.mark.parametrize("key", ["row_id", "text"])
def test_rows_in_are_accepted_or_rejected_and_unused_predictions_are_counted(give, key):
    table = answer().drop(index=[7, 150])
    given = give(table[[key, "predicted_label"]])
    results = []
    num_accepted = 0
    for row_ids in (np.arange(100), np.arange(100, 200), np.arange(5000, 5010)):
        part = make_part(row_ids, rejected=[3])
        found = given_predictions.find(part, given)
        accepted = parts.accepted(found.table)
        assert len(accepted) == len(found.scores.prediction)
        rejected = parts.take_rejected(found.table)
        assert rejected.schema == schema.REJECTED
        assert len(accepted) + len(rejected) == len(part)
        reasons = dict(
            zip(rejected["row_id"].to_pylist(), rejected["reason"].to_pylist(), strict=True)
        )
        assert reasons == {
            row_id: "empty text" if row_id == 3 else NO_PREDICTION
            for row_id in row_ids
            if row_id in (3, 7, 150) or row_id >= 5000
        }
        without = list(reasons.values()).count(NO_PREDICTION)
        results.append({"used": found.used, "rejected_by_reason": {NO_PREDICTION: without}})
        num_accepted += len(accepted)
    counts = given_predictions.count(results, len(table), None)
    assert num_accepted == 197
    assert counts == {"predictions": 998, "unused": 998 - 197, "rows_without": 12}
    previous = {"given": counts}
    later = given_predictions.count(results[:1], len(table), previous)
    assert later == {"predictions": 998, "unused": 0, "rows_without": 13}


def test_a_text_that_occurs_several_times_has_one_prediction(give):
    table = answer()[["text", "predicted_label"]]
    again = table.assign(text=table["text"].str.upper())
    found = given_predictions.find(make_part([4, 4, 9]), give(pd.concat([table, again])))
    labels = table["predicted_label"][[4, 4, 9]].tolist()
    assert found.scores.columns["predicted_label"].to_pylist() == labels


NO_LABELS = {"kind": "csv", "columns": {"text": "message"}}


@pytest.mark.parametrize(
    ("columns", "classes"),
    [
        (["row_id", "predicted_label"], CLASSES),
        (["message", "probability_neutral", "probability_positive"], ("neutral", "positive")),
    ],
)
def test_classes_are_those_of_the_files_if_no_setting_names_them(give, columns, classes):
    table = answer().rename(columns={"text": "message"})
    sums = table["probability_neutral"] + table["probability_positive"]
    table["probability_neutral"] /= sums
    table["probability_positive"] /= sums
    given = give(table[columns], form=NO_LABELS)
    assert given.classes == classes


def change(row, **values):
    """Set values of a row."""

    def run(table):
        for name, value in values.items():
            table[name] = table[name].astype(object)
            table.loc[row, name] = value
        return [table]

    return run


OTHER = "predicted_label 'good' is none of negative, positive, neutral: correct the file and run "
FAULTS = {
    "another label": (change(28, predicted_label="good"), f"answers-0.csv: line 30: {OTHER}"),
    "the setting of classes": (
        change(28, predicted_label="good"),
        "the classes of the corpus are negative, positive, neutral (format.labels, or else train.",
    ),
    "not a number": (
        change(28, probability_neutral=None),
        "answers-0.csv: line 30: has a probability not from 0 to 1",
    ),
    "sums": (
        lambda t: [t.assign(probability_neutral=t["probability_neutral"] / 2)],
        "line 3: has probabilities that do not sum to 1",
    ),
    "twice in two files": (
        lambda t: [t, t[20:22]],
        "answers-1.csv: line 2: row_id '20' was given before (1 more)",
    ),
    "two answers": (
        lambda t: [t.drop(columns="row_id"), t[20:22].assign(row_id=0, predicted_label="neutral")],
        "has the columns row_id, text",
    ),
    "two answers to a text": (
        lambda t: [
            t[["text", "predicted_label"]],
            pd.DataFrame({"text": ["text NUMBER 5"] * 3, "predicted_label": CLASSES}),
        ],
        "the text has another prediction above (1 more): keep one prediction of each text, or name "
        "the rows by row_id",
    ),
    "no column": (
        lambda t: [t[["row_id", "text"]]],
        "has no column predicted_label or probability_<class>: it has row_id, text",
    ),
    "no row": (lambda t: [t[:0]], "answers-0.csv has no prediction"),
}


@pytest.mark.parametrize(("spoil", "line"), FAULTS.values(), ids=FAULTS)
def test_a_faulty_file_is_refused_in_one_line(give, spoil, line):
    with pytest.raises(UserError) as error:
        give(*spoil(answer()), suffix="csv")
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_other_faults_name_the_setting(give, tmp_path):
    with pytest.raises(UserError, match="there is only one: 'negative': name all classes: in form"):
        give(answer()[["row_id"]].assign(predicted_label="negative"), form=NO_LABELS)
    with pytest.raises(UserError, match=r"score\.predictions: no such file"):
        give(predictions=str(tmp_path / "absent.csv"))
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(UserError, match=r"a\.json is neither Parquet nor CSV"):
        give(predictions=str(tmp_path / "a.json"))
    with pytest.raises(UserError, match="predictions and model_uri exclude each other"):
        give(answer(), model_uri="runs/a")


def test_other_texts_under_the_same_numbers_are_refused(give):
    table = answer()
    given = give(table.assign(text=table["text"].to_numpy()[::-1]))
    with pytest.raises(UserError, match="has another text at row_id 5 than the corpus"):
        given_predictions.find(make_part([5, 6]), given)


def test_a_value_that_stands_for_a_class_is_read(give):
    form = {"kind": "csv", "columns": {"text": "message", "label": "mood"}}
    form["labels"] = {"negative": ["0"], "positive": ["4"], "neutral": ["2"]}
    table = answer()
    numbers = {"negative": "0", "positive": "4", "neutral": "2"}
    written = table[["row_id"]].assign(predicted_label=table["predicted_label"].map(numbers))
    found = given_predictions.find(make_part([1, 2]), give(written, form=form, suffix="csv"))
    expected = table["predicted_label"][[1, 2]].tolist()
    assert found.scores.columns["predicted_label"].to_pylist() == expected


STARS = {"1": "1", "2": "2", "5": "5", "10": "10"}


@pytest.mark.parametrize(("labels", "column"), [("auto", "star"), (STARS, "star"), (STARS, None)])
def test_ratings_of_another_program_keep_their_order_and_their_numbers(give, labels, column):
    row_ids = np.arange(8)
    table = pd.DataFrame({"row_id": row_ids, "predicted_label": np.resize([10, 2, 1, 5], 8)})
    columns = {"text": "message", "label": column}
    form = {"kind": "csv", "columns": columns, "labels": labels, "ordered": True}
    given = give(table, suffix="csv", form=form)
    assert given.classes == ("1", "2", "5", "10")
    scores = given_predictions.find(make_part(row_ids), given).scores
    assert scores.columns["expected_rating"].tolist() == [10, 2, 1, 5, 10, 2, 1, 5]
    assert scores.columns["median_label"].to_pylist() == ["10", "2", "1", "5"] * 2


STARS = {name: name for name in ("1", "2", "3", "4", "5")}


@pytest.mark.parametrize("labels", [STARS, None])
def test_ratings_with_decimals_are_refused_with_a_way_that_works(give, labels):
    ratings = np.linspace(1, 5, 201).round(2)
    form = {"kind": "csv", "columns": {"text": "message"}}
    ordered = form | {"ordered": True, "labels": STARS}
    table = pd.DataFrame({"row_id": np.arange(len(ratings))})
    advice = r"round them to a class; or, to keep their mean, write them as probabilities"
    with pytest.raises(UserError, match=advice):
        give(table.assign(predicted_label=ratings), suffix="csv", form=ordered if labels else form)
    for place, name in enumerate(STARS, start=1):
        table[f"probability_{name}"] = np.maximum(1 - np.abs(ratings - place), 0)
    given = give(table, suffix="csv", form=ordered)
    found = given_predictions.find(make_part(np.arange(len(ratings))), given)
    expected = found.scores.columns["expected_rating"]
    np.testing.assert_allclose(expected, ratings, atol=1e-5)


def test_an_unknown_label_that_is_no_rating_is_refused_as_before(give):
    form = {"kind": "csv", "columns": {"text": "message"}, "labels": STARS, "ordered": True}
    table = pd.DataFrame({"row_id": [0, 1], "predicted_label": ["1", "none"]})
    with pytest.raises(UserError, match=r"else train\.classes\)$"):
        give(table, form=form)
