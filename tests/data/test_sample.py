"""The synthetic corpus has Sentiment140's form and faults, and only word order explains it."""

import csv
import hashlib
import io
import re
from collections import Counter

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from sentiflow.data import sample
from sentiflow.data.sample import generate

NUM_ROWS = 20_000
SMALL = 1000

LINE = re.compile(
    rb'"[04]","\d{10}","[A-Z][a-z]{2} [A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d PDT 2009",'
    rb'"NO_QUERY","\w+","[^"\n]+"\n'
)


def corpus_of(num_rows, seed=0):
    """Generate a whole corpus as bytes."""
    return b"".join(generate(num_rows=num_rows, seed=seed))


def rows_of(corpus):
    """Parse a corpus to lists of six strings, read as latin-1."""
    return list(csv.reader(io.StringIO(corpus.decode("latin-1"), newline="")))


@pytest.fixture(scope="module")
def corpus():
    """The bytes of 20,000 rows."""
    return corpus_of(NUM_ROWS)


@pytest.fixture(scope="module")
def rows(corpus):
    """The same rows, parsed."""
    return rows_of(corpus)


@pytest.fixture
def small_blocks(monkeypatch):
    """Let a block have ``SMALL`` rows."""
    monkeypatch.setattr(sample, "BLOCK_ROWS", SMALL)


def test_same_seed_gives_the_same_bytes_in_every_version(corpus):
    expected = "bbf0c6c7c101438be75c0c1a4f21ae461bfe5956b2d704231bc3561912159a7d"
    assert hashlib.sha256(corpus).hexdigest() == expected
    blocks = b"".join(generate(num_rows=120_001, seed=5))
    expected = "19df6e287e01bb4f6f4241afce3b7e215c6ea31f9382d5670ff4f1a07e30c832"
    assert hashlib.sha256(blocks).hexdigest() == expected


def test_every_line_is_a_record_of_six_quoted_fields(corpus, rows):
    lines = corpus.splitlines(keepends=True)
    assert [line for line in lines if not LINE.fullmatch(line)] == []
    assert [row for row in rows if len(row) != 6] == []
    assert len(lines) == len(rows) == NUM_ROWS


@pytest.mark.parametrize("num_rows", [0, 1, 2, 3, 999, 2 * SMALL + 3])
def test_negatives_come_first_and_are_half_of_the_rows(num_rows, small_blocks):
    targets = [line[1:2] for line in corpus_of(num_rows).splitlines()]
    num_negative = num_rows // 2
    assert targets == [b"0"] * num_negative + [b"4"] * (num_rows - num_negative)


def test_ids_ascend_within_a_label_across_blocks(small_blocks):
    ids = np.array([int(line[5:15]) for line in corpus_of(2 * SMALL + 200).splitlines()])
    steps = np.diff(ids)
    assert np.flatnonzero(steps <= 0).tolist() == [SMALL + 99]


@pytest.mark.parametrize(
    ("pattern", "low", "high"),
    [
        pytest.param(r"@\w+", 0.42, 0.49, id="mention"),
        pytest.param(r"https?://\S+", 0.03, 0.07, id="link"),
        pytest.param(r"#\w+", 0.02, 0.06, id="hashtag"),
        pytest.param(r"&(amp|lt|quot);", 0.04, 0.08, id="entity"),
        pytest.param(r"([aeo])\1\1", 0.04, 0.08, id="elongation"),
        pytest.param(r";D|:/(?!/)", 0.005, 0.05, id="emoticon"),
        pytest.param(r"&lt;3", 0.005, 0.05, id="heart"),
        pytest.param(r"^ | $", 0.65, 0.85, id="blank at an end"),
        pytest.param(r"^ ", 0.02, 0.1, id="blank in front"),
        pytest.param(r"\\$", 0.0001, 0.002, id="backslash at the end"),
        pytest.param(r",", 0.1, 0.6, id="comma"),
        pytest.param(r"n't\b", 0.02, 0.2, id="apostrophe"),
        pytest.param(r"(?<![@\w])[A-Z][a-z]+ [a-z]", 0.2, 0.6, id="capital"),
        pytest.param(r"(?<![@\w])[A-Z]{3,} [A-Z]", 0.01, 0.06, id="shouting"),
        pytest.param(r"[\x80-\xff]", 0.005, 0.015, id="beyond ASCII"),
    ],
)
def test_oddities_are_about_as_frequent_as_in_the_real_file(rows, pattern, low, high):
    assert low < np.mean([bool(re.search(pattern, row[5])) for row in rows]) < high


def test_spam_repeats_a_text(rows):
    repeats = Counter(row[5] for row in rows)
    assert 6 < max(repeats.values()) < 50
    assert len(repeats) > 0.95 * NUM_ROWS


def test_ids_under_both_labels_carry_the_same_tweet(rows):
    negative, positive = ({row[1]: row[2:] for row in rows if row[0] == t} for t in "04")
    shared = negative.keys() & positive.keys()
    assert 0.001 * NUM_ROWS / 2 < len(shared) < 0.005 * NUM_ROWS / 2
    assert [negative[key] for key in shared] == [positive[key] for key in shared]


def test_word_counts_alone_do_not_explain_the_labels(rows):
    train, test = train_test_split(rows, test_size=0.2, random_state=0)
    words = CountVectorizer().fit([row[5] for row in train])
    counts, held_out = (words.transform([row[5] for row in part]) for part in (train, test))
    model = LogisticRegression(solver="liblinear").fit(counts, [row[0] for row in train])
    assert 0.65 < model.score(held_out, [row[0] for row in test]) < 0.80
