"""Accuracy against speed, from text to probabilities on one core: our models and their rivals.

    python benchmarks/frontier.py DIR CSV ... [--unlabelled CSV ...] [--seeds 3] [--plot PNG]

Trains what is not in DIR yet: networks on hard labels, presets, the best model, students of the
best model of all seeds, fastText with several features and sizes, logistic regression. Students
also learn from the unlabelled texts, on which the best model is pretrained, too. Then measures what
is there, in turn, each time in a process of its own (``answering.py``), on the same rows: accuracy
on the test rows (each round takes another seed), and the speed on texts of all splits, which are
repeated if there are fewer than ``--texts``. Without arguments it runs on a small synthetic corpus.

- fastText reads texts as they are, which is its fastest way, or our tokens, made in its time.
- ``--turbo SITE``: fastText's models by fasttext-turbo too, installed by ``pip install --target
  SITE fasttext-turbo``, because its module has the name of fastText's.
- ``--models rnn50 gru16`` trains some of ours, ``--set KEY=VALUE`` changes a setting of them.
"""

import argparse
import contextlib
import itertools
import json
import os
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import fasttext
import matplotlib as mpl
import measuring
import numpy as np
import pandas as pd
import pyarrow.dataset as ds
from answering import PIECES, WHOLE, load_tokenizer, make_vectorizer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox
from sklearn.linear_model import LogisticRegression

from sentiflow import plotting

FAST, BEST, QUICKSTART, PLAIN = "fast", "sentiment140", "quickstart", ""
"""Files in ``configs/``, and a config without a section ``train``."""
TAUGHT = ["train.model.dropout=0.1", "train.model.output_dropout=0.1"]
TAUGHT += ["train.learning_rate=0.02", "train.num_epochs=6"]
"""What a student needs beside its teachers: their answers are smoother than labels."""
BAG = "{kind: bag_of_embeddings, hidden_sizes: [100], pooling: mean, vectors: tuned, dropout: 0.3}"
OURS = {
    "rnn50": ("RNN(50)", FAST, ["train.model.cell=rnn", "train.model.hidden_size=50"]),
    "gru16": ("GRU(16)", FAST, []),
    "gru32": ("GRU(32)", FAST, ["train.model.hidden_size=32"]),
    "gru64": ("GRU(64), bidirectional", QUICKSTART, []),
    "bag": ("bag of embeddings", QUICKSTART, [f"train.model={BAG}"]),
    "fast": ("preset fast", PLAIN, ["train.preset=fast"]),
    "balanced": ("preset balanced", PLAIN, ["train.preset=balanced"]),
    "best": ("best", BEST, []),
    "student16": ("GRU(16), student", FAST, TAUGHT),
    "student32": ("GRU(32), student", FAST, [*TAUGHT, "train.model.hidden_size=32"]),
}
"""Name, title, settings and what is changed in them; the best is the teacher of those after it."""
FEATURES = {"bigrams": (2, 0), "words": (1, 0), "characters": (2, 5)}
"""Longest word n-gram and longest character n-gram of fastText."""
DIMS = (10, 50)
NUM_TRIES = 5
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


class Contestant(NamedTuple):
    """What is measured."""

    kind: str
    """A loader of ``answering.py``."""
    models: list[str]
    """A model of each seed."""
    site: str = ""
    """A directory whose modules take precedence."""


def train_ours(folder: Path, options: argparse.Namespace) -> None:
    """Prepare the texts, and train the models that are not there yet."""
    csv, unlabelled = (
        json.dumps([str(Path(file).resolve()) for file in files])
        for files in (options.csv, options.unlabelled)
    )
    common = [f"tracking.uri=sqlite:///{folder}/mlflow.db", "tracking.register_model=false"]
    common += [f"prepare.csv={csv}", f"prepare.output_uri={folder}/prepared"]
    if options.unlabelled:
        common.append(f"prepare.unlabelled.files={unlabelled}")
        common.append("prepare.unlabelled.format={kind: csv, columns: {text: text}}")
    plain = measuring.write_config(
        folder / "plain.json", output=folder, prepare={"csv": "none.csv"}
    )
    measuring.sentiflow("prepare", plain, *common)
    for name in options.models:
        _, config, changes = OURS[name]
        path = f"configs/{config}.yaml" if config else plain
        for seed in range(options.seeds):
            output = folder / f"{name}-{seed}"
            if (output / "trained/manifest.json").exists():
                continue
            more = [*changes, f"train.seed={seed}", f"output_uri={output}", *options.set]
            if name.startswith("student"):
                more.append(f"train.distill.teachers={json.dumps(find_models(folder, 'best'))}")
            measuring.sentiflow("train", path, *common, *more)
            history = measuring.read_manifest(output / "trained")["history"]
            rate = len(history) / sum(1 / epoch["tweets_per_second"] for epoch in history)
            seconds = measuring.read_manifest(output / "trained")["seconds"]
            print(f"{output.name}: trained in {seconds:.0f} s, {rate:,.0f} tweets/s", flush=True)


def read_split(tweets: Path, split: str, *, tokenized: bool = False) -> pd.DataFrame:
    """Read the labelled rows of a split, with our tokens separated by spaces, or as they are.

    They are shuffled, because fastText trains in the order of the file.
    """
    frame = ds.dataset(tweets / f"split={split}").to_table(columns=["text", "label"]).to_pandas()
    if tokenized:
        frame = frame.assign(text=load_tokenizer()(frame["text"].tolist()))
    return frame[frame["label"].isin([0, 1])].sample(frac=1, random_state=0)


def train_fasttext(corpus: Path, path: Path, *, dim: int, ngrams: int, letters: int) -> None:
    """Train fastText, with word n-grams and character n-grams of 3 to ``letters`` letters.

    Some trainings end with "Encountered NaN", and not with another seed.
    """
    sizes = {"dim": dim, "wordNgrams": ngrams, "minn": 3 if letters else 0, "maxn": letters}
    sizes |= {"epoch": 5, "minCount": 2, "bucket": 500_000, "thread": 1, "verbose": 0}
    for seed in range(NUM_TRIES):
        with contextlib.suppress(RuntimeError):
            fasttext.train_supervised(str(corpus), seed=seed, **sizes).save_model(str(path))
            return
    print(f"{path.name} is left out: fastText encountered NaN with {NUM_TRIES} seeds", flush=True)


def train_rivals(folder: Path) -> None:
    """Train fastText and logistic regression on the rows of our train split."""
    corpus = folder / "fasttext.txt"
    for tokenized in (False, True):
        rows = read_split(folder / "prepared/tweets", "train", tokenized=tokenized)
        with corpus.open("w") as file:
            for text, label in rows[["text", "label"]].itertuples(index=False):
                file.write(f"__label__{label} {' '.join(text.split())}\n")
        for (feature, (ngrams, letters)), dim in itertools.product(FEATURES.items(), DIMS):
            path = folder / f"fasttext{'-tokens' * tokenized}-{feature}-{dim}.bin"
            if not path.exists():
                train_fasttext(corpus, path, dim=dim, ngrams=ngrams, letters=letters)
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


def list_contestants(folder: Path, turbo: str) -> Iterator[tuple[str, Contestant]]:
    """List the models that are there, the base first."""
    for suffix, feature, dim in itertools.product(("", "-tokens"), FEATURES, reversed(DIMS)):
        model = folder / f"fasttext{suffix}-{feature}-{dim}.bin"
        title = f"{feature}, {dim}{', our tokens' if suffix else ''}"
        if model.exists():
            yield f"fastText, {title}", Contestant(f"fasttext{suffix}", [str(model)])
        if model.exists() and turbo and not suffix:
            yield f"{TURBO}, {title}", Contestant("fasttext", [str(model)], turbo)
    yield "TF-IDF, logistic regression", Contestant("tfidf", [str(folder / "tfidf.npz")])
    for name, (title, *_) in OURS.items():
        if models := find_models(folder, name):
            yield title, Contestant("sentiflow", models)
            if name == "best" and len(models) > 1:
                yield f"average of {len(models)}", Contestant("sentiflow", [",".join(models)])


def write_texts(folder: Path, num_texts: int) -> Path:
    """Write the test rows, and the texts that are timed: those of all splits, shuffled once."""
    tweets = folder / "prepared/tweets"
    test = read_split(tweets, "test")
    texts = ds.dataset(tweets).to_table(columns=["text"])["text"].to_numpy()
    corpus = np.resize(np.random.default_rng(0).permutation(texts), num_texts)
    print(f"{len(test):,} test rows; {num_texts:,} texts of {len(texts):,} distinct rows")
    rows = {"test": [" ".join(text.split()) for text in test["text"]]}
    rows |= {"labels": test["label"].tolist(), "corpus": [" ".join(t.split()) for t in corpus]}
    path = folder / "texts.json"
    path.write_text(json.dumps(rows))
    return path


def answer(contestant: Contestant, models: Iterator[str], texts: Path) -> measuring.Figures:
    """Let a process of its own load the next model and answer."""
    script = Path(__file__).with_name("answering.py")
    environment = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    if contestant.site:
        environment["PYTHONPATH"] = f"{contestant.site}:{os.environ.get('PYTHONPATH', '')}"
    words = (script, time.time(), contestant.kind, next(models), texts)
    return json.loads(measuring.python(*words, **environment))


def draw(medians: dict[str, dict[str, float]], kinds: dict[str, str]) -> bytes:
    """Draw accuracy against speed, with the models that none beats in both on a line.

    Models that are far less accurate than the base are left out.
    """
    least = medians[BASE]["accuracy"] - 0.03
    rows = {title: row for title, row in medians.items() if row["accuracy"] > least}
    with mpl.rc_context(plotting.PLOT_STYLE):
        figure = Figure(figsize=(8, 9))
        panels = figure.subplots(2, 1, sharex=True)
        for axes, unit in zip(panels, (PIECES, WHOLE), strict=True):
            speeds = {title: row[unit] / medians[BASE][unit] for title, row in rows.items()}
            draw_panel(axes, rows, speeds, kinds)
            axes.set_title(unit.partition(", ")[2])
        axes.set_xlabel(f"Texts per second on one core ({BASE} = 1)")
        axes.legend(handles=[Line2D([], [], linestyle="", **style) for style in STYLES.values()])
        return plotting.to_png(figure)


def draw_panel(
    axes: Axes, rows: dict[str, dict[str, float]], speeds: dict[str, float], kinds: dict[str, str]
) -> None:
    """Draw one kind of speed."""
    front: list[tuple[float, float]] = []
    for title in sorted(rows, key=lambda title: -speeds[title]):
        if not front or rows[title]["accuracy"] > front[-1][1]:
            front.append((speeds[title], rows[title]["accuracy"]))
    axes.step(*zip(*front, strict=True), where="post", color=plotting.GRAY, linewidth=1, zorder=1)
    for title, row in rows.items():
        is_turbo = title.startswith(TURBO)
        point = (speeds[title], row["accuracy"])
        style = STYLES[TURBO if is_turbo else kinds[title]]
        axes.plot(*point, linestyle="", markersize=5, zorder=3, **style)
        if not is_turbo:
            label = title.removeprefix("fastText, ").removesuffix(", our tokens")
            place = {"textcoords": "offset points", "va": "center", "fontsize": 7, "zorder": 2}
            white = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
            axes.annotate(label, point, (0, 0), bbox=white, **place)
    axes.set(xscale="log", ylabel="Test accuracy")
    axes.margins(x=0.12)
    axes.yaxis.set_major_formatter(plotting.percent)
    axes.xaxis.set_major_formatter("{x:g}")
    spread_labels(axes)


def spread_labels(axes: Axes) -> None:
    """Put each label at the first place beside its point where it covers least."""
    axes.get_figure(root=True).draw_without_rendering()
    points = [axes.transData.transform(line.get_xydata()[0]) for line in axes.lines[1:]]
    taken = [Bbox.from_bounds(*(point - 5), 10, 10) for point in points]
    places = [(x, y) for y in (0, 9, -9, 18, -18) for x in (6, -6)]
    for text in axes.texts:
        covered = []
        for x, y in places:
            text.set(position=(x, y), ha="left" if x > 0 else "right")
            box = text.get_window_extent()
            shared = (Bbox.intersection(box, other) for other in taken)
            outside = axes.bbox.x0 > box.x0 or axes.bbox.x1 < box.x1
            covered.append(outside * 1e6 + sum(b.width * b.height for b in shared if b))
        x, y = places[int(np.argmin(covered))]
        text.set(position=(x, y), ha="left" if x > 0 else "right")
        taken.append(text.get_window_extent())


def main() -> None:
    """Train what is missing, measure, and draw."""
    parser = measuring.make_parser(__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("csv", nargs="*")
    parser.add_argument("--unlabelled", nargs="*", default=[])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--models", nargs="*", default=list(OURS), choices=list(OURS))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--texts", type=int, default=120_000)
    parser.add_argument("--turbo", default="", metavar="SITE")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = (options.folder or Path(name)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if not options.csv:
            options.csv = [measuring.make_csv(Path(name, "sample.csv"), 20_000)]
            options.set += ["train.num_epochs=1", "train.pretrain.num_epochs=0"]
        train_ours(folder, options)
        train_rivals(folder)
        texts = write_texts(folder, options.texts)
        contestants = dict(list_contestants(folder, options.turbo))
        runs = {
            title: partial(answer, one, itertools.cycle(one.models), texts)
            for title, one in contestants.items()
        }
        medians = measuring.compare("model", runs, options)
        if options.plot:
            kinds = {title: one.kind for title, one in contestants.items()}
            options.plot.write_bytes(draw(medians, kinds))


if __name__ == "__main__":
    main()
