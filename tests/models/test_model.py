"""A model in Python: whatever holds the texts, each gets the prediction that `score` gives it."""

import copy
import math
import pickle
import sys

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from conftest import new_package
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import sentiflow
from sentiflow.errors import JobError, UserError
from sentiflow.models import model as models
from sentiflow.models.model import Model

TEXTS = ["good morning", None, "bad bad day", "", "good", "unheard of"]
MODEL = Model(new_package(), "here")
COLUMNS = [
    "predicted_label", "confidence", "probability", "probability_negative", "probability_positive",
    "num_tokens",
]  # fmt: skip


@pytest.fixture
def expected() -> pd.DataFrame:
    scores = MODEL.package.score(pa.array([text or "" for text in TEXTS]))
    return pd.DataFrame(
        {
            "predicted_label": [MODEL.classes[code] for code in scores.prediction],
            "confidence": scores.probabilities.max(axis=1),
            "probability": scores.probability,
            "probability_negative": scores.probabilities[:, 0],
            "probability_positive": scores.probabilities[:, 1],
            "num_tokens": scores.num_tokens,
        }
    )


def same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(found, expected, rtol=0, atol=1e-6)


def test_the_most_probable_classes_are_named_with_their_probabilities(expected):
    found = MODEL.predict(TEXTS, top=3)  # of two classes there are two
    assert list(found.columns) == [
        "predicted_label", "confidence", "label_2", "confidence_2", "num_tokens"
    ]  # fmt: skip
    same(found[["predicted_label", "confidence"]], expected[["predicted_label", "confidence"]])
    assert (found["predicted_label"] != found["label_2"]).all()
    np.testing.assert_allclose(found["confidence"] + found["confidence_2"], 1, atol=1e-6)
    assert len(MODEL.predict([], top=1)) == 0
    with pytest.raises(UserError, match="top is 0"):
        MODEL.predict(TEXTS, top=0)


CONTAINERS = {
    "list": list,
    "tuple": tuple,
    "iterator": iter,
    "array of objects": lambda texts: np.array(texts, object),
    "index": lambda texts: pd.Index(texts, dtype=object),
    "Arrow": pa.array,
    "large Arrow": lambda texts: pa.array(texts, pa.large_string()),
    "Arrow view": lambda texts: pa.array(texts, pa.string_view()),
    "chunks": lambda texts: pa.chunked_array([texts[:2], [], texts[2:]], pa.string()),
    "slice": lambda texts: pa.array(["x", *texts, "y"]).slice(1, len(texts)),
    "dictionary": lambda texts: pa.array(texts).dictionary_encode(),
    "column of a table": lambda texts: pa.table({"text": texts})["text"],
    "column of DuckDB": lambda texts: duckdb.from_arrow(pa.table({"text": texts})).to_arrow_table()[
        "text"
    ],
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_what_holds_the_texts_does_not_matter(kind, expected):
    found = MODEL.predict(CONTAINERS[kind](TEXTS))
    assert list(found.columns) == COLUMNS
    same(found, expected)


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, np.nan], ids=str)
@pytest.mark.parametrize(
    "dtype",
    [
        "object", "str", "string", "string[pyarrow]", "category",
        pd.ArrowDtype(pa.string()), pd.ArrowDtype(pa.large_string()),
    ],
    ids=str,
)  # fmt: skip
def test_a_series_of_any_type_keeps_its_index(dtype, missing, expected):
    index = pd.MultiIndex.from_tuples([(n % 2, f"row {n}") for n in range(len(TEXTS))])
    texts = [missing if text is None else text for text in TEXTS]
    series = pd.Series(pd.Series(texts, dtype=object).astype(dtype).array, index=index)
    same(MODEL.predict(series), expected.set_axis(index))
    frame = pd.DataFrame({"text": series}).sort_index(ascending=False)
    same(
        frame.join(MODEL.predict(frame["text"]))[COLUMNS], expected.set_axis(index).loc[frame.index]
    )


@pytest.mark.parametrize(
    "nothing",
    [[], iter([]), np.array([]), pd.Series([], dtype=str), pa.array([], pa.string()), pa.array([])],
    ids=lambda nothing: type(nothing).__name__,
)
def test_no_texts_give_an_empty_table_with_the_same_columns(nothing):
    found = MODEL.predict(nothing)
    assert len(found) == 0
    assert found.dtypes.to_dict() == MODEL.predict(["good"]).dtypes.to_dict()
    assert MODEL.predict_proba([]).shape == (0, 2)


@pytest.mark.parametrize("text", ["bad bad day", np.str_("bad bad day"), np.array("bad bad day")])
def test_one_text_gives_one_row(text, expected):
    same(MODEL.predict(text), expected.iloc[[2]].reset_index(drop=True))


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        (5, "a model takes texts, not int"),
        (None, "a model takes texts, not NoneType"),
        (b"good", "a model takes texts, not bytes"),
        ({"text": "good"}, "a model takes texts, not dict"),
        (pd.DataFrame({"text": ["good"]}), r"not DataFrame: name its column: frame\["),
        (["good", 5], "text 1 is 5 of type int"),
        (pd.Series([0.5, 1.5]), "text 0 is 0.5 of type float"),
        (["good", None, b"bad"], "text 2 is b'bad' of type bytes: decode it"),
        ([["good"]], r"text 0 is \['good'\] of type list"),
        (["good", ["bad", ["day"]]], r"text 1 is \['bad', \['day'\]\] of type list"),
        (np.array([["good"]]), "text 0 is array"),
        (np.array(5), "a model takes texts, not int"),
        (pa.array([None, 7]), "text 1 is 7 of type int"),
        (pa.array([float("nan")]), "text 0 is nan of type float"),
        ([None, *["good"] * 40_000, True], "text 40001 is True of type bool"),
    ],
    ids=str,
)
def test_what_is_no_text_is_named(texts, problem):
    with pytest.raises(UserError, match=problem):
        MODEL.predict(texts)


@settings(max_examples=30)
@given(st.lists(st.none() | st.text(st.characters(), max_size=20), max_size=12), st.integers(1, 4))
def test_each_text_is_predicted_as_if_alone_however_they_are_cut(texts, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "PIECE", size)
        together = MODEL.predict_proba(texts)
    alone = [MODEL.predict_proba([text])[0] for text in texts]
    np.testing.assert_allclose(together, np.reshape(alone, (-1, 2)), rtol=0, atol=1e-6)


def test_a_model_that_gives_no_number_is_no_answer():
    package = new_package()
    with torch.no_grad():
        package.network.output.bias.fill_(float("nan"))
    with pytest.raises(JobError, match="no finite probability for 'good'"):
        Model(package, "here").predict(["good"])


def test_a_model_is_a_step_of_scikit_learn():
    texts = ["good", "bad"] * 10
    labels = [1, 0] * 10
    pipeline = make_pipeline(FunctionTransformer(MODEL.predict_proba), LogisticRegression(C=1e4))
    assert cross_val_score(pipeline, texts, labels, cv=2).tolist() == [1, 1]
    assert pipeline.fit(texts, labels).predict(["bad", "good"]).tolist() == [0, 1]


def test_a_copy_is_the_model_itself_and_a_pickle_answers_the_same(expected):
    assert copy.deepcopy(MODEL) is MODEL
    same(pickle.loads(pickle.dumps(MODEL)).predict(TEXTS), expected)


@pytest.mark.ray
@pytest.mark.slow
def test_predict_equals_the_predictions_of_score(finished_run):
    run = sentiflow.load_run(finished_run / "run")
    texts = run.prepared.tweets.to_pandas(["row_id", "text"]).set_index("row_id")["text"]
    predictions = sentiflow.read_predictions(run).set_index("row_id")
    for model in (run.model, sentiflow.load_model(finished_run / "run/trained/model")):
        found = model.predict(texts)
        assert len(found) == len(predictions) > 5000
        same(found, predictions.loc[texts.index, COLUMNS].rename_axis("row_id"))


@pytest.fixture
def without_pandas(monkeypatch):
    """Let every import of pandas fail."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    models._find_pandas.cache_clear()
    yield
    models._find_pandas.cache_clear()


def test_an_arrow_table_has_the_columns_of_the_frame(expected):
    found = MODEL.predict(TEXTS, arrow=True)
    assert isinstance(found, pa.Table)
    assert found["confidence"].type == pa.float32()
    same(found.to_pandas(), expected)
    top = MODEL.predict(TEXTS, top=2, arrow=True)
    same(top.to_pandas(), MODEL.predict(TEXTS, top=2))
    assert MODEL.predict([], arrow=True).schema == found.schema


@pytest.mark.usefixtures("without_pandas")
@pytest.mark.parametrize("make", [list, np.array, pa.array, iter])
def test_a_table_is_returned_where_pandas_is_not_installed(make):
    expected = MODEL.predict(TEXTS, arrow=True)
    texts = np.array(TEXTS, object) if make is np.array else make(TEXTS)
    assert MODEL.predict(texts).equals(expected)
    assert MODEL.predict("good").num_rows == 1
    with_nan = [math.nan if text is None else text for text in TEXTS]
    assert MODEL.predict(with_nan).equals(expected)


@pytest.mark.usefixtures("without_pandas")
def test_a_value_that_is_no_text_is_named_where_pandas_is_not_installed():
    with pytest.raises(UserError, match="text 3 is 7 of type int"):
        MODEL.predict(["good", None, math.nan, 7])
    with pytest.raises(UserError, match="takes texts, not dict"):
        MODEL.predict({"text": "good"})
