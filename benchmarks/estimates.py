"""How right estimates are: the time that is told before a stage, and the time that it takes.

    python benchmarks/estimates.py --folder /tmp/estimates --data ../shared/data [--only NAME ...]

Each case is run twice, in two directories beside each other: the first time with the built-in
rates, the second time, with another seed, by the speed of the first run. Estimates below a minute,
which users do not see, count as well.
"""

import argparse
import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from sentiflow import progress
from sentiflow.config import settings
from sentiflow.data import sample
from sentiflow.pipeline import estimates, stage_plans, stages

STAGES: tuple[stage_plans.Verb, ...] = ("prepare", "train", "score")
KOREAN = {
    "kind": "csv",
    "columns": {"text": "review", "label": "rating"},
    "labels": {
        "negative": ["1", "2", "3", "4"],
        "neutral": ["5", "6", "7"],
        "positive": ["8", "9", "10"],
    },
}
AIRLINE = {"kind": "csv", "columns": {"text": "text", "label": "sentiment"}, "labels": "auto"}
LONG = {"kind": "csv", "columns": {"text": "text", "label": "label"}, "labels": "auto"}
GRU = {"cell": "gru", "hidden_size": 128, "bidirectional": True, "pooling": "attention"}
SMALL = {"cell": "gru", "hidden_size": 16, "bidirectional": False, "pooling": "last"}


def train(
    model: dict[str, Any], *, epochs: int, batch: int | None = None, **more: Any
) -> dict[str, Any]:
    """Make the section ``train``; without a size, batches have the default size."""
    section = {"model": model, "num_epochs": epochs, **more}
    if batch is not None:
        section["batching"] = {"global_batch_size": batch}
    return section


CASES: dict[str, dict[str, Any]] = {
    "quickstart": {
        "prepare": {"csv": "{tweets}"},
        "train": train({**GRU, "hidden_size": 64, "pooling": "mean_max"}, epochs=3, batch=128),
    },
    "many rows, small network": {
        "prepare": {"csv": "{many}"},
        "train": train(SMALL, epochs=1),
    },
    "real tweets": {
        "prepare": {"csv": "{data}/sentiment140_a.csv"},
        "train": train(SMALL, epochs=4),
    },
    "real tweets, large network": {
        "prepare": {"csv": "{data}/sentiment140_a.csv", "every_nth": 4},
        "train": train(GRU, epochs=2, linear="auto"),
    },
    "three classes": {
        "format": AIRLINE,
        "prepare": {"csv": "{data}/airline_tweets.csv"},
        "train": train(GRU, epochs=4, batch=64, linear=True),
    },
    "folds": {
        "format": AIRLINE,
        "prepare": {"csv": "{few_airline}"},
        "train": train(GRU, epochs=6, batch=64, linear=True, folds=5),
    },
    "Korean, scored": {
        "format": KOREAN,
        "prepare": {"csv": "{few_korean}"},
        "train": train(GRU, epochs=4, batch=64, linear=True),
        "score": {"corpus": ["{korean}"], "keep_columns": ["movie_id"]},
    },
    "long texts": {
        "format": LONG,
        "prepare": {"csv": "{long}", "max_length": 512},
        "train": train(GRU, epochs=2, batch=32, linear=True),
    },
    "long texts, folds": {
        "format": LONG,
        "prepare": {
            "csv": "{data}/long_reviews.csv.gz",
            "max_length": 512,
            "split": {"validation_fraction": 0},
        },
        "train": train(GRU, epochs=9, batch=64, linear=True, folds=5),
    },
    "Korean, given test rows": {
        "format": KOREAN,
        "prepare": {
            "csv": "{few_korean}",
            "test": "{given_korean}",
            "split": {"validation_fraction": 0},
        },
        "train": train(GRU, epochs=9, batch=64, linear=True, folds=5),
    },
    "linear model alone": {
        "format": KOREAN,
        "prepare": {"csv": "{korean}", "duplicates": "drop"},
        "train": train({**SMALL, "hidden_size": 8}, epochs=1, linear=True),
    },
    "sentence encoder": {
        "format": AIRLINE,
        "prepare": {"csv": "{few_airline}", "unlabelled": {"files": ["{texts}"]}},
        "train": train(
            SMALL, epochs=2, linear=True, distill={"teachers": ["encoder:use-multilingual"]}
        ),
    },
}
"""The settings of each case. A name in braces stands for a file, see :func:`write_files`."""


def write_sample(path: Path, num_rows: int) -> Path:
    """Write synthetic tweets."""
    path.write_bytes(b"".join(sample.generate(num_rows=num_rows, seed=1)))
    return path


def cut(source: Path, path: Path, num_rows: int, *, after: int = 0) -> Path:
    """Write the header of a file and some lines.

    Args:
        source: The file.
        path: The new file.
        num_rows: Number of lines to write.
        after: Number of lines to leave out before them.
    """
    opener = gzip.open if source.suffix == ".gz" else open
    with opener(source, "rt", encoding="utf-8") as lines, path.open("w", encoding="utf-8") as out:
        for number, line in enumerate(lines):
            if number > after + num_rows:
                break
            if number == 0 or number > after:
                out.write(line)
    return path


def write_files(folder: Path, data: Path) -> dict[str, str]:
    """Write the files of the cases; return the locations by which :data:`CASES` names them."""
    korean = data / "korean_reviews.csv.gz"
    written = {
        "tweets": write_sample(folder / "tweets.csv", 20_000),
        "many": write_sample(folder / "many.csv", 400_000),
        "korean": cut(korean, folder / "korean.csv", 60_000),
        "few_korean": cut(korean, folder / "few_korean.csv", 2000),
        "given_korean": cut(korean, folder / "given_korean.csv", 3000, after=2000),
        "long": cut(data / "long_reviews.csv.gz", folder / "long.csv", 700),
        "few_airline": cut(data / "airline_tweets.csv", folder / "few_airline.csv", 1500),
        "texts": cut(data / "tweets_unlabelled.csv", folder / "texts.csv", 2000),
        "data": data,
    }
    return {name: str(path) for name, path in written.items()}


def fill(value: Any, files: Mapping[str, str]) -> Any:
    """Replace the names of files in the settings of a case, such as ``{tweets}``."""
    if isinstance(value, dict):
        return {key: fill(each, files) for key, each in value.items()}
    if isinstance(value, list):
        return [fill(each, files) for each in value]
    if isinstance(value, str):
        return value.format_map(files)
    return value


def measure(folder: Path, name: str, case: dict[str, Any], run: str) -> None:
    """Run the stages of a case; compare each with the estimate that is told when it begins."""
    root = folder / name.replace(" ", "_").replace(",", "")
    section = case["train"] | {"seed": ord(run)}
    tracking = {"uri": f"sqlite:///{folder}/mlflow.db", "register_model": False}
    config = settings.load(
        case
        | {
            "name": "estimates",
            "output_uri": str(root / run),
            "train": section,
            "tracking": tracking,
        }
    )
    told: dict[str, estimates.Estimate] = {}
    estimate = estimates.estimate

    def note(verb: str, *arguments: Any, **options: Any) -> estimates.Estimate | None:
        found = estimate(verb, *arguments, **options)
        if found:
            told[verb] = found
        return found

    with mock.patch.object(estimates, "estimate", note), progress.shown():
        outcomes = stages.run(config, STAGES)
    seconds = {outcome.verb: outcome.record["seconds"] for outcome in outcomes}
    for stage in STAGES:
        print_line(name, run, stage, told[stage].seconds, seconds[stage], told[stage])
    whole = sum(found.seconds for found in told.values())
    print_line(name, run, "all", whole, sum(seconds.values()), told["train"])


def print_line(
    name: str, run: str, stage: str, told: float, taken: float, found: estimates.Estimate
) -> None:
    """Print what was told, what was taken, and the ratio of the larger to the smaller."""
    ratio = max(told / taken, taken / told)
    by = "an earlier run" if found.uri else "built-in rates"
    print(
        f"{name:28} {run} {stage:8} told {told:6.1f} s, taken {taken:6.1f} s, {ratio:5.2f} times, "
        f"load {found.load_percent}%, by {by}",
        flush=True,
    )


def main() -> None:
    """Run the cases that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=())
    parser.add_argument("--runs", nargs="*", default=("a", "b"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    files = write_files(options.folder, options.data)
    for name, case in CASES.items():
        if not options.only or name in options.only:
            for run in options.runs:
                measure(options.folder, name, fill(case, files), run)


if __name__ == "__main__":
    main()
