"""A process of ``frontier.py``: load one model, answer texts, and measure it on one core.

    python benchmarks/answering.py LAUNCHED KIND MODEL TEXTS

It prints JSON: the seconds from the launch of the process to its first answer; the accuracy on the
test rows; and the texts per second if they come 10,000 at a time (the median) or all at once. Each
model gets a list of Python strings. A library is imported only by the process that needs it, so
that no other model's start is slower.
"""

import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

PIECE = 10_000
"""Texts that come at a time."""
NUM_TRIES = 5
"""Seeds that fastText is trained with until one succeeds, at most."""
PIECES = "texts/s, 10,000 at a time"
WHOLE = "texts/s, all at once"


class Answerer(NamedTuple):
    """A model that is loaded."""

    answer: Callable[[list[str]], Any]
    """Texts -> what the model's library returns. This is what is timed."""
    find_positive: Callable[[Any], Any]
    """What the library returns -> whether each text is positive."""


def load_sentiflow(model: str) -> Answerer:
    """Load a model package as a worker of ``score`` does on a CPU.

    Several packages, separated by commas, are averaged.
    """
    import pyarrow as pa

    import sentiflow
    from sentiflow.cluster import memory

    memory.keep_freed()
    uris = model.split(",")
    package = sentiflow.load_model(uris if len(uris) > 1 else model, device="cpu").package
    return Answerer(
        answer=lambda texts: package.score(pa.array(texts)),
        find_positive=lambda scores: scores.prediction == 1,
    )


def load_fasttext(model: str, *, tokenized: bool) -> Answerer:
    """Load a model of fastText that reads texts as they are, or our tokens."""
    import fasttext

    predict = fasttext.load_model(model).predict
    join = load_tokenizer() if tokenized else lambda texts: texts

    def find_positive(found: Any) -> list[bool]:
        labels, _ = found
        return [best[0] == "__label__1" for best in labels]

    return Answerer(answer=lambda texts: predict(join(texts)), find_positive=find_positive)


def load_tfidf(model: str) -> Answerer:
    """Load logistic regression over TF-IDF of our tokens."""
    import numpy as np

    weights = np.load(model)
    words = json.loads(Path(model).with_suffix(".json").read_text())
    vectorizer = make_vectorizer(vocabulary=list(words))
    vectorizer.idf_ = np.array(list(words.values()))
    join = load_tokenizer()
    coefficients = weights["coefficients"]
    bias = float(weights["intercept"][0])

    def answer(texts: list[str]) -> Any:
        logits = vectorizer.transform(join(texts)) @ coefficients + bias
        return 1 / (1 + np.exp(-logits))

    return Answerer(answer=answer, find_positive=lambda found: found > 0.5)


LOADERS: dict[str, Callable[[str], Answerer]] = {
    "sentiflow": load_sentiflow,
    "fasttext": partial(load_fasttext, tokenized=False),
    "fasttext-tokens": partial(load_fasttext, tokenized=True),
    "tfidf": load_tfidf,
}


def make_vectorizer(**more: Any) -> Any:
    """Make features that are not fitted yet: TF-IDF of words and bigrams."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, tokenizer=str.split, token_pattern=None, **more
    )


def load_tokenizer() -> Callable[[list[str]], list[str]]:
    """Load our tokenizer. It returns the tokens of each text, separated by spaces."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from sentiflow.models.tokenizer import tokenize

    def join(texts: list[str]) -> list[str]:
        tokens = tokenize(pa.array(texts), name="tweet").to_lists()
        return pc.binary_join(tokens.cast(pa.list_(pa.string())), " ").to_pylist()

    return join


def train_fasttext(rows: Any, path: Path, *, dim: int, ngrams: int, letters: int = 0) -> None:
    """Train fastText, and save the model.

    Some trainings end with "Encountered NaN". Another seed is tried then.

    Args:
        rows: Texts and labels.
        path: File of the model.
        dim: Size of the vectors.
        ngrams: Words of the longest n-gram of words.
        letters: Letters of the longest n-gram of letters; the shortest has 3. 0: none.
    """
    import fasttext

    corpus = path.with_suffix(".txt")
    lines = "__label__" + rows["label"].astype(str) + " " + rows["text"]
    corpus.write_text("\n".join(lines))
    settings = {
        "dim": dim,
        "wordNgrams": ngrams,
        "minn": 3 if letters else 0,
        "maxn": letters,
        "epoch": 5,
        "minCount": 2,
        "bucket": 500_000,
        "thread": 1,
        "verbose": 0,
    }
    for seed in range(NUM_TRIES):
        with contextlib.suppress(RuntimeError):
            model = fasttext.train_supervised(str(corpus), seed=seed, **settings)
            model.save_model(str(path))
            return
    print(f"{path.name} is left out: fastText encountered NaN with {NUM_TRIES} seeds", flush=True)


def main(launched: str, kind: str, model: str, texts: str) -> None:
    """Load, answer and measure."""
    if hasattr(os, "sched_setaffinity"):
        last_core = max(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {last_core})
    load = LOADERS[kind.replace("-turbo", "")]
    answer, find_positive = load(model)
    answer(["what a lovely day"])
    start = time.time() - float(launched)
    rows = json.loads(Path(texts).read_text())
    is_positive = find_positive(answer(rows["test"]))
    pairs = zip(is_positive, rows["labels"], strict=True)
    accuracy = statistics.mean(bool(found) == bool(label) for found, label in pairs)
    corpus = rows["corpus"]
    pieces = [corpus[first : first + PIECE] for first in range(0, len(corpus), PIECE)]
    figures = {
        "accuracy": accuracy,
        PIECES: statistics.median(measure_rate(answer, piece) for piece in pieces),
        WHOLE: measure_rate(answer, corpus),
        "start, seconds": start,
    }
    print(json.dumps(figures))


def measure_rate(answer: Callable[[list[str]], Any], texts: list[str]) -> float:
    """Measure texts per second."""
    began = time.perf_counter()
    answer(texts)
    return len(texts) / (time.perf_counter() - began)


if __name__ == "__main__" and sys.argv[1:]:
    main(*sys.argv[1:])
