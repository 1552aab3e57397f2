"""Accuracy against speed, from text to probabilities on one core: our models and their rivals.

    python benchmarks/frontier.py DIR CSV ... [--unlabelled CSV ...] [--seeds 3] [--plot PNG]

First the models that are not in DIR yet are trained: networks on hard labels, presets, the best
model, students of the best model of all seeds, fastText with several features and sizes, logistic
regression. The best model is pretrained on the unlabelled texts, and students also learn from them.

Then the models in DIR are measured in turn on the same rows, each time in a new process
(``answering.py``): the accuracy on the test rows (each round takes another seed), and the speed on
NUM_TEXTS texts of all splits, which are repeated if there are fewer. Without arguments it runs on
a small synthetic corpus.

- fastText reads texts as they are, which is fastest, or our tokens. Their tokenization is timed.
- ``--turbo SITE`` also measures fastText's models in fasttext-turbo, which ``pip install --target
  SITE fasttext-turbo`` installs apart because its module has the same name as fastText's.
- ``--models bag gru64`` trains some of our models.
"""

import itertools
import json
import os
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

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


class Ours(NamedTuple):
    """One of our models."""

    title: str
    config: Path
    changes: Mapping[str, Any]
    """Settings that are changed in the config."""


class Features(NamedTuple):
    """Features of fastText."""

    ngrams: int
    """Words of the longest n-gram of words."""
    letters: int
    """Letters of the longest n-gram of letters; 0: none."""


class Contestant(NamedTuple):
    """A model to measure."""

    title: str
    kind: str
    """Its loader in ``answering.py``, or TURBO."""
    models: list[str]
    """Its file, or its package of each seed."""


FAST = measuring.CONFIGS / "fast.yaml"
BEST = measuring.CONFIGS / "sentiment140.yaml"
QUICKSTART = measuring.CONFIGS / "quickstart.yaml"
TAUGHT = {
    "train.model.dropout": 0.1,
    "train.model.output_dropout": 0.1,
    "train.learning_rate": 0.02,
    "train.num_epochs": 6,
}
"""Settings of a student: the answers of its teachers are smoother than labels."""
BAG = {
    "kind": "bag_of_embeddings",
    "hidden_sizes": [100],
    "pooling": "mean",
    "vectors": "tuned",
    "dropout": 0.3,
}
SIZE32 = {"train.model.hidden_size": 32}
OURS = {
    "gru16": Ours("GRU(16)", FAST, {}),
    "gru32": Ours("GRU(32)", FAST, SIZE32),
    "gru64": Ours("GRU(64), bidirectional", QUICKSTART, {}),
    "bag": Ours("bag of embeddings", QUICKSTART, {"train.model": BAG}),
    "fast": Ours("preset fast", measuring.PLAIN, {"train.preset": "fast"}),
    "balanced": Ours("preset balanced", measuring.PLAIN, {"train.preset": "balanced"}),
    "best": Ours("best", BEST, {}),
    "student16": Ours("GRU(16), student", FAST, TAUGHT),
    "student32": Ours("GRU(32), student", FAST, TAUGHT | SIZE32),
}
"""Our models. The best is the teacher of the students, which are trained after it."""
SHORT = {"train.num_epochs": 1, "train.pretrain.num_epochs": 0}
"""Settings that are changed on the synthetic corpus."""
FEATURES = {
    "bigrams": Features(ngrams=2, letters=0),
    "words": Features(ngrams=1, letters=0),
    "characters": Features(ngrams=2, letters=5),
}
DIMS = (50, 10)
"""Sizes of the vectors of fastText."""
SUFFIXES = ("", "-tokens")
"""Suffixes of a fastText model that reads texts as they are, and of one that reads our tokens."""
NUM_TEXTS = 120_000
"""Texts that are timed."""
BASE = "fastText, bigrams, 50"
"""The contestant that speeds are compared with."""
TURBO = "fasttext-turbo"
STYLES: dict[str, dict[str, Any]] = {
    "sentiflow": {"marker": "o", "color": plotting.BLUE, "label": "sentiflow"},
    "fasttext": {"marker": "s", "color": plotting.ORANGE, "label": "fastText, texts as they are"},
    "fasttext-tokens": {
        "marker": "s",
        "color": plotting.ORANGE,
        "fillstyle": "none",
        "label": "fastText, our tokens",
    },
    TURBO: {
        "marker": "D",
        "color": plotting.ORANGE,
        "fillstyle": "none",
        "label": "fasttext-turbo, the same models",
    },
    "tfidf": {"marker": "^", "color": plotting.INK, "label": "logistic regression"},
}
"""Points of the plot, by kind of contestant."""


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
        ours = OURS[name]
        changes = {**settings, **ours.changes}
        if not options.inputs:
            changes |= SHORT
        changes["train.seed"] = seed
        if name.startswith("student"):
            changes["train.distill.teachers"] = find_models(folder, "best")
        output = folder / f"{name}-{seed}"
        record = measuring.run_job("train", output, changes, config=ours.config)
        rate = record["history"][-1]["tweets_per_second"]
        print(f"{output.name}: {record['seconds']:.0f} s, {rate:,.0f} tweets/s", flush=True)


def read_split(folder: Path, split: str, *, tokenized: bool = False) -> pd.DataFrame:
    """Read and shuffle the labelled rows of a split.

    A text is its words or our tokens, separated by spaces. The rows are shuffled because fastText
    trains in the order of the file.
    """
    tweets = ds.dataset(folder / f"data/prepared/tweets/split={split}")
    frame = tweets.to_table(columns=["text", "label"]).to_pandas()
    text = frame["text"]
    if tokenized:
        join = load_tokenizer()
        text = pd.Series(join(text.tolist()))
    frame = frame.assign(text=text.str.split().str.join(" "))
    is_labelled = frame["label"].isin([0, 1])
    return frame[is_labelled].sample(frac=1, random_state=0)


def train_rivals(folder: Path) -> None:
    """Train fastText and logistic regression on the rows of our train split."""
    of_words = read_split(folder, "train")
    of_tokens = read_split(folder, "train", tokenized=True)
    for suffix, rows in zip(SUFFIXES, (of_words, of_tokens), strict=True):
        for name, dim in itertools.product(FEATURES, DIMS):
            path = folder / f"fasttext{suffix}-{name}-{dim}.bin"
            if not path.exists():
                features = FEATURES[name]
                train_fasttext(
                    rows, path, dim=dim, ngrams=features.ngrams, letters=features.letters
                )
    if not (folder / "tfidf.npz").exists():
        train_tfidf(folder, of_tokens)


def train_tfidf(folder: Path, rows: pd.DataFrame) -> None:
    """Train logistic regression over TF-IDF of our tokens."""
    vectorizer = make_vectorizer(min_df=2)
    features = vectorizer.fit_transform(rows["text"])
    model = LogisticRegression(C=2.0, max_iter=300).fit(features, rows["label"])
    words = zip(vectorizer.get_feature_names_out(), vectorizer.idf_, strict=True)
    (folder / "tfidf.json").write_text(json.dumps(dict(words)))
    np.savez(folder / "tfidf.npz", coefficients=model.coef_[0], intercept=model.intercept_)


def find_models(folder: Path, name: str) -> list[str]:
    """List the packages of all seeds."""
    manifests = folder.glob(f"{name}-*/trained/model/manifest.json")
    return sorted(str(path.parent) for path in manifests)


def list_contestants(folder: Path, *, with_turbo: bool) -> Iterator[Contestant]:
    """List the models in a folder, the base first."""
    for suffix, name, dim in itertools.product(SUFFIXES, FEATURES, DIMS):
        model = folder / f"fasttext{suffix}-{name}-{dim}.bin"
        if model.exists():
            title = f"fastText, {name}, {dim}"
            if suffix:
                title += ", our tokens"
            yield Contestant(title, f"fasttext{suffix}", [str(model)])
            if with_turbo and not suffix:
                yield Contestant(title.replace("fastText", TURBO), TURBO, [str(model)])
    yield Contestant("TF-IDF, logistic regression", "tfidf", [str(folder / "tfidf.npz")])
    for name, ours in OURS.items():
        models = find_models(folder, name)
        if models:
            yield Contestant(ours.title, "sentiflow", models)
        if name == "best" and len(models) > 1:
            yield Contestant(f"average of {len(models)}", "sentiflow", [",".join(models)])


def write_texts(folder: Path) -> Path:
    """Write the test rows and the texts that are timed: the rows of all splits, shuffled once."""
    splits = {split: read_split(folder, split) for split in ("train", "validation", "test")}
    texts = pd.concat(splits.values())["text"].sample(frac=1, random_state=0)
    test = splits["test"]
    print(f"{len(test):,} test rows; {NUM_TEXTS:,} texts of {len(texts):,} rows")
    written = {
        "test": test["text"].tolist(),
        "labels": test["label"].tolist(),
        "corpus": np.resize(texts, NUM_TEXTS).tolist(),
    }
    path = folder / "texts.json"
    path.write_text(json.dumps(written))
    return path


def answer(kind: str, models: Iterator[str], texts: Path, turbo: str) -> measuring.Figures:
    """Load the next model in a new process, answer, and measure."""
    script = Path(__file__).with_name("answering.py")
    model = next(models)
    environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    if kind == TURBO:
        environment["PYTHONPATH"] = f"{turbo}:{os.environ.get('PYTHONPATH', '')}"
    launched = time.time()
    return json.loads(measuring.python(script, launched, kind, model, texts, **environment))


def draw(medians: dict[str, dict[str, float]], kinds: dict[str, str]) -> bytes:
    """Draw accuracy against speed, with a line through the models that no model beats in both.

    The base and our models on the line are named. Models far less accurate than the base are left
    out.
    """
    table = pd.DataFrame(medians).T.assign(kind=pd.Series(kinds))
    table = table[table["accuracy"] > medians[BASE]["accuracy"] - 0.03]
    with mpl.rc_context(plotting.PLOT_STYLE):
        figure = Figure(figsize=(8, 9))
        panels = figure.subplots(2, 1, sharex=True)
        for axes, unit in zip(panels, (PIECES, WHOLE), strict=True):
            speeds = (table[unit] / medians[BASE][unit]).sort_values(ascending=False)
            best_so_far = table["accuracy"][speeds.index].cummax()
            front = best_so_far[~best_so_far.duplicated()]
            axes.step(
                speeds[front.index],
                front,
                where="post",
                color=plotting.GRAY,
                linewidth=1,
                zorder=1,
            )
            for kind, style in STYLES.items():
                rows = table[table["kind"] == kind]
                axes.plot(speeds[rows.index], rows["accuracy"], linestyle="", markersize=5, **style)
            named = [title for title in front.index if kinds[title] == "sentiflow"]
            for title in [*named, BASE]:
                x = 5
                side = "left"
                if title == BASE:  # the line goes on to its right
                    x = -5
                    side = "right"
                axes.annotate(
                    title,
                    (speeds[title], medians[title]["accuracy"]),
                    (x, 5),
                    textcoords="offset points",
                    fontsize=7,
                    ha=side,
                )
            _, _, pace = unit.partition(", ")
            axes.set(title=pace, xscale="log", ylabel="Test accuracy")
            axes.margins(x=0.12)
            axes.yaxis.set_major_formatter(plotting.format_percent)
            axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel(f"Texts per second on one core ({BASE} = 1)")
        handles = [Line2D([], [], linestyle="", **style) for style in STYLES.values()]
        axes.legend(handles=handles)
        return plotting.to_png(figure)


def measure(folder: Path, options: Namespace) -> Iterable[measuring.Table]:
    """Train what is missing, measure, and draw."""
    models = folder
    if options.inputs:
        models = options.inputs[0].resolve()
        models.mkdir(parents=True, exist_ok=True)
    csv = options.inputs[1:]
    if not csv:
        csv = [measuring.make_csv(folder / "sample.csv", 20_000)]
    train_ours(models, csv, options)
    train_rivals(models)
    texts = write_texts(models)
    runs = {}
    kinds = {}
    for contestant in list_contestants(models, with_turbo=bool(options.turbo)):
        seeds = itertools.cycle(contestant.models)
        runs[contestant.title] = partial(answer, contestant.kind, seeds, texts, options.turbo)
        kinds[contestant.title] = contestant.kind
    medians = measuring.compare("model", runs, options.repeats)
    if options.plot:
        options.plot.write_bytes(draw(medians, kinds))
    return ()


if __name__ == "__main__":
    measuring.main(
        __doc__,
        measure,
        unlabelled=[Path],
        seeds=3,
        models=list(OURS),
        turbo="",
        plot=Path,
    )
