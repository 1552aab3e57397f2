"""A row for which the model fails does not affect the other rows."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiflow.cluster import kept_models
from sentiflow.errors import JobError
from sentiflow.models.scores import Scores

CLASSES = ("bad", "fine", "good")
TEXTS = st.lists(st.sampled_from(["good", "bad", "boom", "nan"]), max_size=40)


def ask(text):
    """Answer with the length of each text; ``boom`` cannot be answered, ``nan`` has no number."""
    words = text.to_pylist()
    if "boom" in words:
        raise RuntimeError("index out of range\nin a long story")
    lengths = np.array([len(word) for word in words], np.int64)
    probability = np.array([np.nan if word == "nan" else len(word) / 10 for word in words])
    rest = (1 - probability) / 2
    return Scores(
        probabilities=np.stack([rest, rest, probability], axis=1).astype(np.float32),
        classes=CLASSES,
        num_tokens=lengths.astype(np.int32),
        lengths=lengths,
        num_unknown=np.zeros(len(words), np.int32),
    )


@settings(deadline=None)
@given(texts=TEXTS)
def test_failing_rows_are_found_and_all_others_are_scored(texts):
    scores, errors = kept_models.predict(
        pa.array(texts, pa.string()), ask, classes=CLASSES, max_failed=99
    )
    expected = {
        row: "RuntimeError: index out of range" if text == "boom" else kept_models.NOT_FINITE
        for row, text in enumerate(texts)
        if text in ("boom", "nan")
    }
    assert errors == expected
    answered = [row for row in range(len(texts)) if row not in errors]
    assert scores.lengths[answered].tolist() == [len(texts[row]) for row in answered]


@pytest.mark.parametrize("word", ["boom", "nan"])
def test_too_many_failures_raise_an_error_that_shows_the_last(word):
    texts = pa.array(["good", word, "good", word])
    kept_models.predict(texts, ask, classes=CLASSES, max_failed=2)
    with pytest.raises(JobError, match=f"for more than 1 rows .* '{word}': "):
        kept_models.predict(texts, ask, classes=CLASSES, max_failed=1)


def test_a_model_that_always_fails_is_stopped_early():
    asked = []

    def fail(text):
        asked.append(len(text))
        raise RuntimeError("no memory")

    with pytest.raises(JobError, match="no memory"):
        kept_models.predict(pa.array(["good"] * 100_000), fail, classes=CLASSES, max_failed=10)
    assert len(asked) < 100
