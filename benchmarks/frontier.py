"""Accuracy against speed, from text to probabilities on one core: our models and their rivals.

    python benchmarks/frontier.py DIR CSV ... [--unlabelled CSV ...] [--seeds 3] [--plot PNG]

Trains what is not in DIR yet: networks on hard labels, presets, the best model, students of the
best model of all seeds, fastText with several features and sizes, logistic regression. Students
also learn from the unlabelled texts, on which the best model is pretrained, too. Then measures what
is there, in turn, each time in a process of its own (``answering.py``), on the same rows: accuracy
on the test rows (each round takes another seed), and the speed on NUM_TEXTS texts of all splits,
which are repeated if there are fewer. Without arguments it runs on a small synthetic corpus.

- fastText reads texts as they are, which is its fastest way, or our tokens, made in its time.
- ``--turbo SITE``: fastText's models by fasttext-turbo too, installed by ``pip install --target
  SITE fasttext-turbo``, because its module has the name of fastText's.
- ``--models bag gru64`` trains some of ours.
"""

import itertools
import json
import os
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import measuring
import numpy as np
import pandas as pd
import pyarrow.dataset as ds
from answering import PIECES, WHOLE, load_tokenizer, make_vectorizer, train_fasttext
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.linear_model import LogisticRegression

from sentiflow import plotting

FAST, BEST, QUICKSTART = (
    measuring.CONFIGS / f"{name}.yaml" for name in ("fast", "sentiment140", "quickstart")
)
TAUGHT = {
    "train.model.dropout": 0.1,
    "train.model.output_dropout": 0.1,
    "train.learning_rate": 0.02,
    "train.num_epochs": 6,
}
"""What a student needs beside its teachers: their answers are smoother than labels."""
BAG = {"kind": "bag_of_embeddings", "hidden_sizes": [100], "pooling": "mean"}
BAG |= {"vectors": "tuned", "dropout": 0.3}
SIZE32 = {"train.model.hidden_size": 32}
OURS = {
    "gru16": ("GRU(16)", FAST, {}),
    "gru32": ("GRU(32)", FAST, SIZE32),
    "gru64": ("GRU(64), bidirectional", QUICKSTART, {}),
    "bag": ("bag of embeddings", QUICKSTART, {"train.model": BAG}),
    "fast": ("preset fast", measuring.PLAIN, {"train.preset": "fast"}),
    "balanced": ("preset balanced", measuring.PLAIN, {"train.preset": "balanced"}),
    "best": ("best", BEST, {}),
    "student16": ("GRU(16), student", FAST, TAUGHT),
    "student32": ("GRU(32), student", FAST, TAUGHT | SIZE32),
}
"""Name, title, config and what is changed in it; the best is the teacher of those after it."""
SHORT = {"train.num_epochs": 1, "train.pretrain.num_epochs": 0}
"""What is changed on the synthetic corpus."""
FEATURES = {"bigrams": (2, 0), "words": (1, 0), "characters": (2, 5)}
"""Longest word n-gram and longest character n-gram of fastText."""
DIMS = (50, 10)
NUM_TEXTS = 120_000
BASE = "fastText, bigrams, 50"
TURBO = "fasttext-turbo"
STYLES = {
    "sentiflow": {"marker": "o", "color": plotting.BLUE, "label": "sentiflow"},
    "fasttext": {"marker": "s", "color": plotting.ORANGE, "label": "fastText, texts as they are"},
    "fasttext-tokens": {"marker": "s", "color": plotting.ORANGE, "fillstyle": "none"}
    | {"label": "fastText, our tokens"},
    TURBO: {"marker": "D", "color": plotting.ORANGE, "fillstyle": "none"}
    | {"label": "fasttext-turbo, the same models"},
    "tfidf": {"marker": "^", "color": plotting.INK, "label": "logistic regression"},
}

Contestant = tuple[str, list[str]]
"""A loader of ``answering.py``, and a model of each seed."""


def train_ours(folder: Path, csv: list[Path], options: Namespace) -> None:
    """Prepare the texts, and train the models that are not there yet."""
    settings: dict[str, object] = {"prepare.csv": [file.resolve() for file in csv]}
    if options.unlabelled:
        settings["prepare.unlabelled"] = {
            "files": [str(file.resolve()) for file in options.unlabelled],
            "format": {"kind": "csv", "columns": {"text": "text"}},
        }
    measuring.run_job("prepare", folder / "data", settings)
    settings["train.prepared_uri"] = folder / "data/prepared"
    for name, seed in itertools.product(options.models, range(options.seeds)):
        _, config, changes = OURS[name]
        changes = changes | ({} if options.inputs else SHORT) | {"train.seed": seed}
        if name.startswith("student"):
            changes["train.distill.teachers"] = find_models(folder, "best")
        output = folder / f"{name}-{seed}"
        record = measuring.run_job("train", output, settings | changes, config=config)
        rate = record["history"][-1]["tweets_per_second"]
        print(f"{output.name}: {record['seconds']:.0f} s, {rate:,.0f} tweets/s", flush=True)


def read_split(folder: Path, split: str, *, tokenized: bool = False) -> pd.DataFrame:
    """Read the labelled rows of a split: their words or our tokens, separated by spaces.

    They are shuffled, because fastText trains in the order of the file.
    """
    tweets = ds.dataset(folder / f"data/prepared/tweets/split={split}")
    frame = tweets.to_table(columns=["text", "label"]).to_pandas()
    texts = load_tokenizer()(frame["text"].tolist()) if tokenized else frame["text"]
    frame = frame.assign(text=pd.Series(texts).str.split().str.join(" "))
    return frame[frame["label"].isin([0, 1])].sample(frac=1, random_state=0)


def train_rivals(folder: Path) -> None:
    """Train fastText and logistic regression on the rows of our train split."""
    for suffix in ("", "-tokens"):
        rows = read_split(folder, "train", tokenized=bool(suffix))
        for (feature, (ngrams, letters)), dim in itertools.product(FEATURES.items(), DIMS):
            path = folder / f"fasttext{suffix}-{feature}-{dim}.bin"
            if not path.exists():
                train_fasttext(rows, path, dim=dim, ngrams=ngrams, letters=letters)
    if not (folder / "tfidf.npz").exists():
        vectorizer = make_vectorizer(min_df=2)
        features = vectorizer.fit_transform(rows["text"])
        model = LogisticRegression(C=2.0, max_iter=300).fit(features, rows["label"])
        words = zip(vectorizer.get_feature_names_out(), vectorizer.idf_, strict=True)
        (folder / "tfidf.json").write_text(json.dumps(dict(words)))
        np.savez(folder / "tfidf.npz", coefficients=model.coef_[0], intercept=model.intercept_)


def find_models(folder: Path, name: str) -> list[str]:
    """List the packages of all seeds."""
    return sorted(str(path.parent) for path in folder.glob(f"{name}-*/trained/model/manifest.json"))


def list_contestants(folder: Path, *, with_turbo: bool) -> Iterator[tuple[str, Contestant]]:
    """List the models that are there, the base first."""
    for suffix, feature, dim in itertools.product(("", "-tokens"), FEATURES, DIMS):
        model = folder / f"fasttext{suffix}-{feature}-{dim}.bin"
        if model.exists():
            title = f"fastText, {feature}, {dim}{', our tokens' if suffix else ''}"
            yield title, (f"fasttext{suffix}", [str(model)])
            if with_turbo and not suffix:
                yield title.replace("fastText", TURBO), (TURBO, [str(model)])
    yield "TF-IDF, logistic regression", ("tfidf", [str(folder / "tfidf.npz")])
    for name, (title, *_) in OURS.items():
        if models := find_models(folder, name):
            yield title, ("sentiflow", models)
            if name == "best" and len(models) > 1:
                yield f"average of {len(models)}", ("sentiflow", [",".join(models)])


def write_texts(folder: Path) -> Path:
    """Write the test rows, and the texts that are timed: those of all splits, shuffled once."""
    splits = {split: read_split(folder, split) for split in ("train", "validation", "test")}
    texts = pd.concat(splits.values())["text"].sample(frac=1, random_state=0)
    test = splits["test"]
    print(f"{len(test):,} test rows; {NUM_TEXTS:,} texts of {len(texts):,} rows")
    rows = {"test": test["text"].tolist(), "labels": test["label"].tolist()}
    path = folder / "texts.json"
    path.write_text(json.dumps(rows | {"corpus": np.resize(texts, NUM_TEXTS).tolist()}))
    return path


def answer(kind: str, models: Iterator[str], texts: Path, turbo: str) -> measuring.Figures:
    """Let a process of its own load the next model and answer."""
    script = Path(__file__).with_name("answering.py")
    environment = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    if kind == TURBO:
        environment["PYTHONPATH"] = f"{turbo}:{os.environ.get('PYTHONPATH', '')}"
    return json.loads(
        measuring.python(script, time.time(), kind, next(models), texts, **environment)
    )


def draw(medians: dict[str, dict[str, float]], kinds: dict[str, str]) -> bytes:
    """Draw accuracy against speed, with the models that none beats in both on a line.

    Ours on the line are named, and the base; models far less accurate than it are left out.
    """
    table = pd.DataFrame(medians).T.assign(kind=pd.Series(kinds))
    table = table[table["accuracy"] > table.loc[BASE, "accuracy"] - 0.03]
    with mpl.rc_context(plotting.PLOT_STYLE):
        figure = Figure(figsize=(8, 9))
        panels = figure.subplots(2, 1, sharex=True)
        for axes, unit in zip(panels, (PIECES, WHOLE), strict=True):
            speeds = (table[unit] / table.loc[BASE, unit]).sort_values(ascending=False)
            best_so_far = table["accuracy"][speeds.index].cummax()
            front = best_so_far[~best_so_far.duplicated()]
            line = {"where": "post", "color": plotting.GRAY, "linewidth": 1, "zorder": 1}
            axes.step(speeds[front.index], front, **line)
            for kind, style in STYLES.items():
                rows = table[table["kind"] == kind]
                axes.plot(speeds[rows.index], rows["accuracy"], linestyle="", markersize=5, **style)
            ours = [title for title in front.index if table.loc[title, "kind"] == "sentiflow"]
            for title in (*ours, BASE):
                point = (speeds[title], table.loc[title, "accuracy"])
                x, side = (-5, "right") if title == BASE else (5, "left")  # the line goes on there
                axes.annotate(title, point, (x, 5), textcoords="offset points", fontsize=7, ha=side)
            axes.set(title=unit.partition(", ")[2], xscale="log", ylabel="Test accuracy")
            axes.margins(x=0.12)
            axes.yaxis.set_major_formatter(plotting.format_percent)
            axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel(f"Texts per second on one core ({BASE} = 1)")
        axes.legend(handles=[Line2D([], [], linestyle="", **style) for style in STYLES.values()])
        return plotting.to_png(figure)


def measure(folder: Path, options: Namespace) -> Iterable[Any]:
    """Train what is missing, measure, and draw."""
    temporary, (folder, *csv) = folder, options.inputs or [folder]
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    csv = csv or [measuring.make_csv(temporary / "sample.csv", 20_000)]
    train_ours(folder, csv, options)
    train_rivals(folder)
    texts = write_texts(folder)
    contestants = dict(list_contestants(folder, with_turbo=bool(options.turbo)))
    runs = {
        title: partial(answer, kind, itertools.cycle(models), texts, options.turbo)
        for title, (kind, models) in contestants.items()
    }
    medians = measuring.compare("model", runs, options.repeats)
    if options.plot:
        kinds = {title: kind for title, (kind, _) in contestants.items()}
        options.plot.write_bytes(draw(medians, kinds))
    return ()


if __name__ == "__main__":
    own = {"unlabelled": [Path], "seeds": 3, "models": list(OURS), "turbo": "", "plot": Path}
    measuring.main(__doc__, measure, **own)
