"""Scoring against the bare model, against fastText, and against one worker.

    python benchmarks/score.py [--rows 1600000] [--repeats 3] [--models rnn50,best] [--large]

The corpus is one CSV of ``sentiflow sample``; the models are trained on 100,000 other tweets. Rates
are rows per second over all cores, the median of repeats in turn. ``whole`` counts the time of the
stage (after Ray has started) or of the processes (imports included). ``steady`` starts when each
process has finished its first 100,000 rows.

- sentiflow: the command, from CSV to Parquet, or ``from Parquet``.
- bare: the same model and batches, a process for each core; texts are in memory, predictions are
  discarded.
- fastText: its ``predict`` in Python, a process for each core, a list of texts in memory; with
  bigrams, and with character 3- to 5-grams.
- plain tasks: the same command, but each part is one plain task of Ray in place of Ray Data.
- ``--large``: ten times the rows, with time and peak memory of a process.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from measuring import import_fasttext, make_csv, python, sentiflow, take_turns, write_config

from sentiflow.config.format_sections import FormatSettings
from sentiflow.data import corpus, manifest, parts

PIECE = 100_000
CORES = len(os.sched_getaffinity(0))
MODELS = {
    "rnn50": {"cell": "rnn", "hidden_size": 50, "bidirectional": False, "pooling": "last"}
    | {"vectors": "frozen", "dropout": 0.0},
    "gru64": {"cell": "gru", "hidden_size": 64, "pooling": "mean_max"},
    "lstm128": {"cell": "lstm", "hidden_size": 128},
    "best": {"cell": "gru", "hidden_size": 128, "ngrams": 3},
}
FASTTEXT = {"bigrams": {"wordNgrams": 2}, "characters": {"wordNgrams": 2, "minn": 3, "maxn": 5}}

Rates = dict[str, float]


def main() -> None:
    """Run the comparisons and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_600_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--models", default="rnn50,best")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--process", nargs="+", help="KIND MODEL TEXT RANK, or tasks ARGUMENT ...")
    options = parser.parse_args()
    if options.process:
        kind, *arguments = options.process
        if kind == "tasks":
            score_by_tasks(arguments)
            return
        model, text, rank = arguments
        print(json.dumps(PROCESSES[kind](model, read_pieces(text, int(rank)))))
        return
    import_fasttext()
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), options)


def compare(folder: Path, options: argparse.Namespace) -> None:
    """Make the corpus and the models, and measure in turn."""
    make_csv(folder / "train.csv", 100_000, seed=2)
    make_csv(folder / "corpus.csv", options.rows, seed=1)
    names = options.models.split(",")
    configs = {name: train(folder, name, options.precision) for name in names}
    write_text(folder)
    for name in FASTTEXT:
        train_fasttext(folder, name)
    runs: dict[str, Callable[[], Rates]] = {}
    for name, config in configs.items():
        runs[f"sentiflow, {name}"] = lambda config=config: score(config)
        runs[f"sentiflow, {name}, one worker"] = lambda config=config: score(
            config, "score.num_workers=1"
        )
        runs[f"sentiflow, {name}, from Parquet"] = lambda config=config: score(
            config, f"score.corpus={folder}/corpus.parquet"
        )
        model = folder / name / "trained/model"
        runs[f"plain tasks, {name}"] = lambda config=config: score(config, run=run_by_tasks)
        runs[f"bare, {name}"] = lambda model=model: run_processes("bare", model, folder)
    for name in FASTTEXT:
        model = folder / f"{name}.bin"
        runs[f"fastText, {name}"] = lambda model=model: run_processes("fasttext", model, folder)
    measured = take_turns(runs, options.repeats)
    report(names, {name: median(rates) for name, rates in measured.items()})
    if options.large:
        make_csv(folder / "large.csv", 10 * options.rows, seed=3)
        for name, config in configs.items():
            rates = score(config, f"score.corpus={folder}/large.csv")
            print(f"{10 * options.rows:,} rows, {name}: {show(rates)}")


def report(names: list[str], rates: dict[str, Rates]) -> None:
    """Print the medians, then the ratios."""
    for name, values in rates.items():
        print(f"{name:<34} {show(values)}")
    for name in names:
        rivals = [f"bare, {name}", f"plain tasks, {name}", f"sentiflow, {name}, one worker"]
        rivals += [f"fastText, {kind}" for kind in FASTTEXT]
        for ours in (f"sentiflow, {name}", f"sentiflow, {name}, from Parquet"):
            for rival in rivals:
                ratios = (rates[ours][kind] / rates[rival][kind] for kind in ("whole", "steady"))
                print("{} to {}: whole {:.2f}, steady {:.2f}".format(ours, rival, *ratios))


def show(rates: Rates) -> str:
    """Write rates, and memory where it is known."""
    text = f"whole {rates['whole']:>9,.0f}/s, steady {rates['steady']:>9,.0f}/s"
    memory = rates.get("memory")
    return f"{text}, {memory / 1e6:,.0f} MB" if memory else text


def median(rates: list[Rates]) -> Rates:
    """Take the median of each figure."""
    return {name: statistics.median(item[name] for item in rates) for name in rates[0]}


def write_text(folder: Path) -> None:
    """Write texts and labels as Arrow and Parquet, for contestants that do not read CSV."""
    for name in ("corpus", "train"):
        source = corpus.open_csv(
            [f"{folder}/{name}.csv"], settings=FormatSettings(), rows_per_part=PIECE, unpack_to=""
        )
        rows = (parts.take_accepted(parts.read(part)) for part in source.parts)
        tables = [table.select(["label", "text"]) for table in rows]
        with pa.ipc.new_file(folder / f"{name}.arrow", tables[0].schema) as writer:
            for table in tables:
                writer.write_table(table.combine_chunks())
        pq.write_table(pa.concat_tables(tables), folder / f"{name}.parquet", row_group_size=PIECE)


def train(folder: Path, name: str, precision: str) -> Path:
    """Train a model for one epoch; its speed depends only on its size."""
    config = write_config(
        folder / f"{name}.yaml",
        output=folder / name,
        prepare={"csv": str(folder / "train.csv")},
        train={"model": MODELS[name], "num_epochs": 1},
        score={"corpus": str(folder / "corpus.csv"), "precision": precision},
    )
    sentiflow("prepare", config)
    sentiflow("train", config)
    return config


def score(config: Path, *overrides: str, run: Callable[..., object] = sentiflow) -> Rates:
    """Score the corpus into a new directory; the times of its files give the steady rate."""
    with tempfile.TemporaryDirectory(dir=config.parent) as output:
        run("score", config, *overrides, f"score.output_uri={output}/scored")
        record = manifest.read(f"{output}/scored")
        first = 1 if "score.num_workers=1" in overrides else CORES
        steady = measure_steady(f"{output}/scored", first)
    whole = record["counts"]["accepted"] / record["seconds"]
    return {"whole": whole, "steady": steady, "memory": record["peak_memory_bytes"]}


def measure_steady(folder: str, num_first: int) -> float:
    """Compute rows per second after the first files of predictions, from the times of the files."""
    files = sorted(
        (path.stat().st_mtime, pq.read_metadata(path).num_rows)
        for path in Path(folder, "predictions").iterdir()
    )
    rows = sum(rows for _, rows in files[num_first:])
    return rows / (files[-1][0] - files[num_first - 1][0])


def run_by_tasks(*arguments: object) -> None:
    """Run a command of sentiflow in which plain tasks take the place of Ray Data."""
    python(__file__, "--process", "tasks", *arguments)


def score_by_tasks(arguments: list[str]) -> None:
    """Run the command in this process, which is one for it alone."""
    from sentiflow.cli.app import main
    from sentiflow.cluster import dataset

    dataset.process = process_by_tasks
    sys.argv[1:] = arguments
    main()


def process_by_tasks(
    parts: Mapping[Any, Any], read: Callable, steps: Sequence[Callable], write: Callable, **_: Any
) -> Iterator[tuple[int, Any]]:
    """Do what ``dataset.process`` does, each part in one plain task."""
    import ray

    @ray.remote(num_cpus=1)
    def work(label: Any, part: Any) -> tuple[int, str]:
        table = read(part)
        for step in steps:
            table = step(table)
        return label.number, json.dumps(write(table, label))

    waiting = [work.remote(*item) for item in parts.items()]
    while waiting:
        (done,), waiting = ray.wait(waiting)
        number, result = ray.get(done)
        yield number, json.loads(result)


def run_processes(kind: str, model: Path, folder: Path) -> Rates:
    """Run a process for each core, each on its share of the pieces."""
    command = [sys.executable, __file__, "--process", kind, str(model), f"{folder}/corpus.arrow"]
    began = time.monotonic()
    processes = [
        subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE) for rank in range(CORES)
    ]
    results = [json.loads(process.communicate()[0]) for process in processes]
    seconds = time.monotonic() - began
    rows = sum(result["rows"] for result in results)
    steady = sum(result["steady"] for result in results)
    return {"whole": rows / seconds, "steady": steady}


def read_pieces(path: str, rank: int) -> list[pa.Array]:
    """Read this process's share of the texts, in pieces."""
    with pa.memory_map(path) as source:
        table = pa.ipc.open_file(source).read_all()
    pieces = table["text"].chunks
    return pieces[rank::CORES]


def run_bare(model: str, pieces: list[pa.Array]) -> dict[str, float]:
    """Score pieces with the model package only."""
    import torch

    from sentiflow.cluster import memory
    from sentiflow.models.package import ModelPackage

    torch.set_num_threads(1)
    memory.keep_freed()
    package = ModelPackage.load(model)
    return time_pieces(package.score, pieces)


def train_fasttext(folder: Path, name: str) -> None:
    """Train fastText on the training data of the models."""
    fasttext = import_fasttext()
    with pa.memory_map(str(folder / "train.arrow")) as source:
        table = pa.ipc.open_file(source).read_all()
    rows = zip(table["label"].to_pylist(), table["text"].to_pylist(), strict=True)
    path = folder / "train.txt"
    path.write_text("".join(f"__label__{label} {' '.join(t.split())}\n" for label, t in rows))
    settings = {"dim": 50, "epoch": 1, "thread": 1, "verbose": 0} | FASTTEXT[name]
    fasttext.train_supervised(str(path), **settings).save_model(str(folder / f"{name}.bin"))


def run_fasttext(model: str, pieces: list[pa.Array]) -> dict[str, float]:
    """Predict lists of texts with fastText."""
    predict = import_fasttext().load_model(model).predict
    return time_pieces(predict, [[" ".join(t.split()) for t in p.to_pylist()] for p in pieces])


def time_pieces(predict: Callable, pieces: list) -> dict[str, float]:
    """Predict pieces one after the other; the rate is measured from the second piece on."""
    predict(pieces[0])
    began = time.monotonic()
    for piece in pieces[1:]:
        predict(piece)
    seconds = time.monotonic() - began
    rows = sum(map(len, pieces))
    return {"rows": rows, "steady": (rows - len(pieces[0])) / seconds}


PROCESSES = {"bare": run_bare, "fasttext": run_fasttext}


if __name__ == "__main__":
    main()
