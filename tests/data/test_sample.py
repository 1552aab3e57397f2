"""The synthetic corpus has Sentiment140's form and faults, and only word order explains it."""

import csv
import hashlib
import io
import re

import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from sentiflow.data.sample import generate

NUM_ROWS = 20_000

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


def test_word_counts_alone_do_not_explain_the_labels(rows):
    train, test = train_test_split(rows, test_size=0.2, random_state=0)
    words = CountVectorizer().fit([row[5] for row in train])
    counts, held_out = (words.transform([row[5] for row in part]) for part in (train, test))
    model = LogisticRegression(solver="liblinear").fit(counts, [row[0] for row in train])
    assert 0.65 < model.score(held_out, [row[0] for row in test]) < 0.80
