"""Accuracy against speed, from text to probabilities on one core: our models and their rivals.

    python benchmarks/frontier.py train DIR CSV ... [--unlabelled CSV ...] [--seeds 3]
    python benchmarks/frontier.py time DIR [--repeats 3] [--package NAME=MODEL] [--plot PNG]

``train`` trains what is not in DIR yet: networks on hard labels, the best model, students of the
best model of all seeds, fastText with several features and sizes, logistic regression. Students
also learn from the unlabelled texts, on which the best model is pretrained, too. ``time`` measures
what is there, in turn, each time in a process of its own (``answering.py``), on the same rows:
accuracy on the test rows (the mean of the seeds), and the speed on texts of all splits, which are
repeated if there are fewer than ``--texts``. It prints a table and writes DIR/frontier.json.
Without arguments both run on a small synthetic corpus.

- fastText reads texts as they are, which is its fastest way, or our tokens, made in its time.
- ``--turbo SITE``: fastText's models by fasttext-turbo too, installed by ``pip install --target
  SITE fasttext-turbo``, because its module has the name of fastText's.
- ``tokenlearn-static-model`` takes part if it is installed.
- ``--package``: a trained package, or several to average, separated by commas.
- ``--models rnn50 gru16`` trains some of ours, ``--set KEY=VALUE`` changes a setting of them.
"""

import argparse
import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import pyarrow.dataset as ds
from accuracy import make_regression, read_split, train_fasttext, write_fasttext
from answering import make_vectorizer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox
from measuring import make_csv, python, sentiflow, take_turns

from sentiflow import plotting

FAST, BEST = "configs/fast.yaml", "configs/sentiment140.yaml"
TAUGHT = ["train.model.dropout=0.1", "train.model.output_dropout=0.1"]
TAUGHT += ["train.learning_rate=0.02", "train.num_epochs=6"]
"""What a student needs beside its teachers: their answers are smoother than labels."""
OURS = {
    "rnn50": ("RNN(50)", FAST, ["train.model.cell=rnn", "train.model.hidden_size=50"]),
    "gru16": ("GRU(16)", FAST, []),
    "gru32": ("GRU(32)", FAST, ["train.model.hidden_size=32"]),
    "best": ("best", BEST, []),
    "student16": ("GRU(16), student", FAST, TAUGHT),
    "student32": ("GRU(32), student", FAST, [*TAUGHT, "train.model.hidden_size=32"]),
}
"""Name, title, settings and what is changed in them; the best is the teacher of those after it."""
FEATURES = {"words": (1, 0), "bigrams": (2, 0), "characters": (2, 5)}
"""Longest word n-gram and longest character n-gram of fastText."""
DIMS = (10, 50)
BASE = "fastText, bigrams, 50"
SPEEDS = ("pieces", "whole")
STYLES = {
    "sentiflow": {"marker": "o", "color": plotting.BLUE, "label": "sentiflow"},
    "fasttext": {"marker": "s", "color": plotting.ORANGE, "label": "fastText, texts as they are"},
    "fasttext-tokens": {"marker": "s", "color": plotting.ORANGE, "fillstyle": "none"}
    | {"label": "fastText, our tokens"},
    "turbo": {"marker": "D", "color": plotting.ORANGE, "fillstyle": "none"}
    | {"label": "fasttext-turbo, the same models"},
    "tfidf": {"marker": "^", "color": plotting.INK, "label": "logistic regression"},
}


class Contestant(NamedTuple):
    """What is measured."""

    title: str
    kind: str
    """A loader of ``answering.py``."""
    models: list[str]
    """A model of each seed; the first is timed."""
    site: str = ""
    """A directory whose modules take precedence."""


def train(options: argparse.Namespace) -> None:
    """Prepare the texts, and train what is not there yet."""
    folder = options.folder.resolve()
    csvs, unlabelled = (
        [str(Path(f).resolve()) for f in fs] for fs in (options.csv, options.unlabelled)
    )
    common = [f"tracking.uri=sqlite:///{folder}/mlflow.db", "tracking.register_model=false"]
    prepare = [f"output_uri={folder}", f"prepare.csv={json.dumps(csvs)}"]
    if unlabelled:
        prepare.append(f"prepare.unlabelled.files={json.dumps(unlabelled)}")
        prepare.append("prepare.unlabelled.format={kind: csv, columns: {text: text}}")
    sentiflow("prepare", FAST, *common, *prepare)
    common += [f"prepare.csv={json.dumps(csvs)}", f"train.prepared_uri={folder}/prepared"]
    for name, (_, config, changes) in OURS.items():
        for seed in range(options.seeds):
            output = folder / f"{name}-{seed}"
            if name not in options.models or (output / "trained/manifest.json").exists():
                continue
            more = [*changes, f"train.seed={seed}", f"output_uri={output}", *options.set]
            if name.startswith("student"):
                teachers = [str(model) for model in find_models(folder, "best")]
                more.append(f"train.distill.teachers={json.dumps(teachers)}")
            seconds = time.perf_counter()
            sentiflow("train", config, *common, *more)
            print(f"{output.name}: {time.perf_counter() - seconds:.0f} s", flush=True)
    train_rivals(folder)


def train_rivals(folder: Path) -> None:
    """Train fastText and logistic regression on the rows of our train split."""
    for tokenized in (False, True):
        rows = read_split(folder / "prepared/tweets", "train", tokenized=tokenized)
        write_fasttext(rows, folder / "fasttext.txt")
        for feature, (ngrams, characters) in FEATURES.items():
            for dim in DIMS:
                path = folder / f"fasttext{'-tokens' * tokenized}-{feature}-{dim}.bin"
                if not path.exists():
                    sizes = {"ngrams": ngrams, "characters": characters, "dim": dim, "thread": 1}
                    try:
                        train_fasttext(folder / "fasttext.txt", **sizes).save_model(str(path))
                    except RuntimeError as error:
                        print(f"{path.name}: {error} Left out: run train again", flush=True)
        if tokenized and not (folder / "tfidf.npz").exists():
            vectorizer = make_vectorizer(min_df=2)
            features = vectorizer.fit_transform(rows["text"])
            words = zip(vectorizer.get_feature_names_out(), vectorizer.idf_, strict=True)
            (folder / "tfidf.json").write_text(json.dumps(dict(words)))
            regress(folder / "tfidf.npz", features, rows["label"])
        if not tokenized and importlib.util.find_spec("static_model"):
            from static_model import get_embeddings

            embeddings = np.array(get_embeddings(rows["text"].tolist()))
            regress(folder / "static.npz", embeddings, rows["label"])


def regress(path: Path, features: object, labels: object) -> None:
    """Train logistic regression and save its weights."""
    model = make_regression().fit(features, labels)
    np.savez(path, coefficients=model.coef_[0], intercept=model.intercept_[0])


def find_models(folder: Path, name: str) -> list[Path]:
    """List the packages of all seeds."""
    return sorted(path.parent for path in folder.glob(f"{name}-*/trained/model/manifest.json"))


def list_contestants(folder: Path, packages: list[str], turbo: str) -> Iterator[Contestant]:
    """List the models that are there."""
    for name, (title, *_) in OURS.items():
        if models := [str(model) for model in find_models(folder, name)]:
            yield Contestant(title, "sentiflow", models)
            if name == "best" and len(models) > 1:
                yield Contestant(f"average of {len(models)}", "sentiflow", [",".join(models)])
    for package in packages:
        title, _, model = package.partition("=")
        yield Contestant(title, "sentiflow", [model])
    for suffix, note in (("", ""), ("-tokens", ", our tokens")):
        for feature in FEATURES:
            for dim in DIMS:
                model = str(folder / f"fasttext{suffix}-{feature}-{dim}.bin")
                if not Path(model).exists():
                    continue
                title = f"fastText, {feature}, {dim}{note}"
                yield Contestant(title, f"fasttext{suffix}", [model])
                if turbo and not note:
                    title = title.replace("fastText", "fasttext-turbo")
                    yield Contestant(title, f"fasttext{suffix}", [model], turbo)
    yield Contestant("TF-IDF, logistic regression", "tfidf", [str(folder / "tfidf.npz")])
    if (folder / "static.npz").exists():
        yield Contestant("static embeddings", "static", [str(folder / "static.npz")])


def write_texts(folder: Path, num_texts: int) -> None:
    """Write the test rows, and the texts that are timed: those of all splits, shuffled once."""
    tweets = folder / "prepared/tweets"
    test = read_split(tweets, "test", tokenized=False)
    texts = ds.dataset(tweets).to_table(columns=["text"])["text"].to_numpy()
    corpus = np.resize(np.random.default_rng(0).permutation(texts), num_texts)
    print(
        f"{len(test):,} test rows, {num_texts:,} texts, of which {len(texts):,} are distinct rows"
    )
    rows = {"test": [" ".join(text.split()) for text in test["text"]]}
    rows |= {"labels": test["label"].tolist(), "corpus": [" ".join(t.split()) for t in corpus]}
    (folder / "texts.json").write_text(json.dumps(rows))


def answer(contestant: Contestant, model: str, texts: Path, *more: str) -> dict[str, float]:
    """Let a process of its own load a model and answer."""
    script = Path(__file__).with_name("answering.py")
    environment = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    if contestant.site:
        environment["PYTHONPATH"] = f"{contestant.site}:{os.environ.get('PYTHONPATH', '')}"
    found = python(script, time.time(), contestant.kind, model, texts, *more, **environment)
    return json.loads(found)


def measure(options: argparse.Namespace) -> None:
    """Measure what is there, print a table and draw it."""
    folder = options.folder.resolve()
    write_texts(folder, options.texts)
    texts = folder / "texts.json"
    contestants = list(list_contestants(folder, options.package, options.turbo))
    runs = {c.title: partial(answer, c, c.models[0], texts, "--time") for c in contestants}
    measured = take_turns(runs, options.repeats)
    rows = []
    for contestant in contestants:
        turns = measured[contestant.title]
        accuracies = [turns[0]["accuracy"]]
        accuracies += [answer(contestant, m, texts)["accuracy"] for m in contestant.models[1:]]
        row = {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}
        row |= {"title": contestant.title, "kind": contestant.kind, "seeds": len(accuracies)}
        rows.append(row | {"accuracy": statistics.mean(accuracies), "turns": turns})
    (folder / "frontier.json").write_text(json.dumps(rows, indent=1))
    print_table(rows)
    if options.plot:
        options.plot.write_bytes(draw(rows))


def print_table(rows: list[dict]) -> None:
    """Print a row for each model, the most accurate first; speeds are also ratios to the base."""
    base = next(row for row in rows if row["title"] == BASE)
    print("| model | test accuracy | texts/s, 10,000 at a time | | all at once | | start |")
    print("|---|---|---|---|---|---|---|")
    for row in sorted(rows, key=lambda row: -row["accuracy"]):
        speeds = " | ".join(
            f"{row[name]:,.0f} | {row[name] / base[name]:.2f}" for name in ("pieces", "whole")
        )
        seeds = f" ({row['seeds']} seeds)" if row["seeds"] > 1 else ""
        print(
            f"| {row['title']} | {row['accuracy']:.4f}{seeds} | {speeds} | {row['start']:.1f} s |"
        )


def draw(rows: list[dict]) -> bytes:
    """Draw accuracy against speed, with the models that none beats in both on a line.

    Models that are far less accurate than the base are left out.
    """
    least = next(row["accuracy"] for row in rows if row["title"] == BASE) - 0.03
    rows = [row for row in rows if row["accuracy"] > least]
    with mpl.rc_context(plotting.PLOT_STYLE):
        figure = Figure(figsize=(8, 9))
        for axes, speed in zip(figure.subplots(2, 1, sharex=True), SPEEDS, strict=True):
            draw_panel(axes, rows, speed)
        return plotting.to_png(figure)


def draw_panel(axes: Axes, rows: list[dict], speed: str) -> None:
    """Draw one kind of speed."""
    base = next(row[speed] for row in rows if row["title"] == BASE)
    front: list[tuple[float, float]] = []
    for row in sorted(rows, key=lambda row: -row[speed]):
        if not front or row["accuracy"] > front[-1][1]:
            front.append((row[speed] / base, row["accuracy"]))
    axes.step(*zip(*front, strict=True), where="post", color=plotting.GRAY, linewidth=1, zorder=1)
    for row in rows:
        is_turbo = row["title"].startswith("fasttext-turbo")
        style = STYLES["turbo" if is_turbo else row["kind"]]
        point = (row[speed] / base, row["accuracy"])
        axes.plot(*point, linestyle="", markersize=5, zorder=3, **style)
        if is_turbo:
            continue
        label = row["title"].removeprefix("fastText, ").removesuffix(", our tokens")
        place = {"textcoords": "offset points", "va": "center", "fontsize": 7}
        white = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        axes.annotate(label, point, (0, 0), bbox=white, zorder=2, **place)
    titles = {"pieces": "10,000 texts at a time", "whole": "all texts at once"}
    axes.set(xscale="log", ylabel="Test accuracy", title=titles[speed])
    axes.margins(x=0.12)
    axes.yaxis.set_major_formatter(plotting.percent)
    axes.xaxis.set_major_formatter("{x:g}")
    spread_labels(axes)
    if speed == SPEEDS[-1]:
        axes.set_xlabel(f"Texts per second on one core ({BASE} = 1)")
        names = {style["label"]: style for style in STYLES.values()}
        axes.legend(handles=[Line2D([], [], linestyle="", **style) for style in names.values()])


def spread_labels(axes: Axes) -> None:
    """Put each label at the first place beside its point where it covers least."""
    figure = axes.get_figure(root=True)
    figure.draw_without_rendering()
    points = [axes.transData.transform(line.get_xydata()[0]) for line in axes.lines[1:]]
    taken = [Bbox.from_bounds(*(point - 5), 10, 10) for point in points]
    places = [(x, y) for y in (0, 9, -9, 18, -18) for x in (6, -6)] + [(0, 9), (0, -9)]
    for text in axes.texts:
        covered = []
        for x, y in places:
            text.set(position=(x, y), ha="left" if x > 0 else "right" if x < 0 else "center")
            box = text.get_window_extent()
            shared = (Bbox.intersection(box, other) for other in taken)
            outside = axes.bbox.x0 > box.x0 or axes.bbox.x1 < box.x1
            covered.append(outside * 1e6 + sum(b.width * b.height for b in shared if b))
        x, y = places[int(np.argmin(covered))]
        text.set(position=(x, y), ha="left" if x > 0 else "right" if x < 0 else "center")
        taken.append(text.get_window_extent())


def main() -> None:
    """Train or measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(required=True)
    training = verbs.add_parser("train")
    training.set_defaults(run=train)
    training.add_argument("folder", type=Path)
    training.add_argument("csv", nargs="+")
    training.add_argument("--unlabelled", nargs="*", default=[])
    training.add_argument("--seeds", type=int, default=3)
    training.add_argument("--models", nargs="*", default=list(OURS), choices=list(OURS))
    training.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    timing = verbs.add_parser("time")
    timing.set_defaults(run=measure)
    timing.add_argument("folder", type=Path)
    timing.add_argument("--texts", type=int, default=120_000)
    timing.add_argument("--repeats", type=int, default=3)
    timing.add_argument("--package", action="append", default=[], metavar="NAME=MODEL[,MODEL ...]")
    timing.add_argument("--turbo", default="", metavar="SITE")
    timing.add_argument("--plot", type=Path)
    if sys.argv[1:]:
        options = parser.parse_args()
        options.run(options)
        return
    with tempfile.TemporaryDirectory() as name:
        csv = str(make_csv(Path(name, "sample.csv"), 20_000))
        quick = ["--seeds=1", "--set=train.num_epochs=1", "--set=train.pretrain.num_epochs=0"]
        for words in (["train", name, csv, *quick], ["time", name, "--texts=20000", "--repeats=1"]):
            options = parser.parse_args(words)
            options.run(options)


if __name__ == "__main__":
    main()
