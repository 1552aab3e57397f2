"""A process of ``frontier.py``: one model is loaded, answers texts, and is measured on one core.

    python benchmarks/answering.py LAUNCHED KIND MODEL TEXTS

It prints JSON: ``start``, the seconds from the launch of the process to its first answer;
``accuracy`` on the test rows; and the texts per second if they come 10,000 at a time (the median)
or all at once. Each model gets a list of Python strings. A library is imported when it is needed,
so that each start is that of its own model.
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
from typing import Any

PIECE = 10_000
NUM_TRIES = 5
PIECES, WHOLE = "texts/s, 10,000 at a time", "texts/s, all at once"

Answerer = tuple[Callable[[list[str]], Any], Callable[[Any], list[bool]]]
"""Texts -> what the model's own library returns -> whether each text is positive."""


def load_sentiflow(model: str, *, bf16: bool = False) -> Answerer:
    """Load a package, or several to average, separated by commas, as a worker of ``score`` does."""
    import pyarrow as pa
    import torch

    import sentiflow
    from sentiflow.cluster import memory

    torch.set_num_threads(1)
    memory.keep_freed()
    uris = model.split(",")
    package = sentiflow.load_model(uris if len(uris) > 1 else model).package
    return lambda texts: package.score(
        pa.array(texts), bf16=bf16
    ), lambda scores: scores.prediction == 1


def load_fasttext(model: str, *, tokenized: bool) -> Answerer:
    """Load a model of fastText, which reads texts as they are, or our tokens."""
    import fasttext

    predict = fasttext.load_model(model).predict
    join = load_tokenizer() if tokenized else lambda texts: texts
    return lambda texts: predict(join(texts)), lambda found: [
        x[0] == "__label__1" for x in found[0]
    ]


def load_tfidf(model: str) -> Answerer:
    """Load logistic regression over TF-IDF of our tokens."""
    import numpy as np

    weights, words = np.load(model), json.loads(Path(model).with_suffix(".json").read_text())
    vectorizer = make_vectorizer(vocabulary=list(words))
    vectorizer.idf_ = np.array(list(words.values()))
    join, coefficients = load_tokenizer(), weights["coefficients"]
    bias = float(weights["intercept"][0])

    def answer(texts: list[str]) -> Any:
        logits = vectorizer.transform(join(texts)) @ coefficients + bias
        return 1 / (1 + np.exp(-logits))

    return answer, lambda found: found > 0.5


LOADERS: dict[str, Callable[[str], Answerer]] = {
    "sentiflow": load_sentiflow,
    "sentiflow-bf16": partial(load_sentiflow, bf16=True),
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
    """Load our tokenizer: texts -> their tokens, separated by spaces."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from sentiflow.models.tokenizer import tokenize

    def join(texts: list[str]) -> list[str]:
        tokens = tokenize(pa.array(texts), name="tweet").to_lists()
        return pc.binary_join(tokens.cast(pa.list_(pa.string())), " ").to_pylist()

    return join


def train_fasttext(rows: Any, path: Path, *, dim: int, ngrams: int, letters: int = 0) -> None:
    """Train fastText on texts and labels, with n-grams of words and of 3 to ``letters`` letters.

    Some trainings end with "Encountered NaN", and not with another seed.
    """
    import fasttext

    corpus = path.with_suffix(".txt")
    corpus.write_text("\n".join("__label__" + rows["label"].astype(str) + " " + rows["text"]))
    sizes = {"dim": dim, "wordNgrams": ngrams, "minn": 3 if letters else 0, "maxn": letters}
    sizes |= {"epoch": 5, "minCount": 2, "bucket": 500_000, "thread": 1, "verbose": 0}
    for seed in range(NUM_TRIES):
        with contextlib.suppress(RuntimeError):
            model = fasttext.train_supervised(str(corpus), seed=seed, **sizes)
            model.save_model(str(path))
            return
    print(f"{path.name} is left out: fastText encountered NaN with {NUM_TRIES} seeds", flush=True)


def main(launched: str, kind: str, model: str, texts: str) -> None:
    """Load, answer and measure."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    answer, find = LOADERS[kind.replace("-turbo", "")](model)
    answer(["what a lovely day"])
    start = time.time() - float(launched)
    rows = json.loads(Path(texts).read_text())
    pairs = zip(find(answer(rows["test"])), rows["labels"], strict=True)
    accuracy = statistics.mean(bool(a) == bool(b) for a, b in pairs)
    corpus = rows["corpus"]
    pieces = [corpus[first : first + PIECE] for first in range(0, len(corpus), PIECE)]
    rates = {PIECES: statistics.median(measure_rate(answer, piece) for piece in pieces)}
    rates[WHOLE] = measure_rate(answer, corpus)
    print(json.dumps({"accuracy": accuracy} | rates | {"start, seconds": start}))


def measure_rate(answer: Callable[[list[str]], Any], texts: list[str]) -> float:
    """Measure texts per second."""
    began = time.perf_counter()
    answer(texts)
    return len(texts) / (time.perf_counter() - began)


if __name__ == "__main__" and sys.argv[1:]:
    main(*sys.argv[1:])
