"""An average of three models against the same three one after the other.

    python benchmarks/averages.py [--models DIR DIR DIR --csv FILE ...] [--repeats 3]

Without models, three seeds are trained for one epoch on 20,000 synthetic tweets, and score 200,000.
``commands``: rows per second of the stage, of ``sentiflow score`` once with the list, and three
times with one model each. ``one thread``: texts per second of the same in one process, from texts
in memory to probabilities.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from measuring import make_csv, seconds_of, sentiflow, show_rates, take_turns, write_config

from sentiflow.config import settings
from sentiflow.config.format_sections import FormatSettings
from sentiflow.data import corpus, manifest, parts
from sentiflow.models.scores import Scores
from sentiflow.tracking import model_sources

NUM_TEXTS = 50_000


def main() -> None:
    """Train, measure in turn, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs=3)
    parser.add_argument("--csv", nargs="+")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = options.csv or [str(make_csv(folder / "corpus.csv", 200_000, seed=2))]
        config = write_config(
            folder / "config.yaml",
            output=folder / "run",
            train={"preset": "fast", "num_epochs": 1},
            score={"corpus": files, "rows_per_file": 20_000},
        )
        models = options.models or train(config, folder)
        compare(config, folder, [str(Path(model).resolve()) for model in models], options.repeats)


def train(config: Path, folder: Path) -> list[str]:
    """Train three seeds; return their packages."""
    csv = make_csv(folder / "train.csv", 20_000)
    sentiflow("prepare", config, f"prepare.csv={csv}")
    for seed in range(3):
        sentiflow("train", config, f"train.seed={seed}", f"train.output_uri={folder}/seed{seed}")
    return [f"{folder}/seed{seed}/model" for seed in range(3)]


def compare(config: Path, folder: Path, models: list[str], repeats: int) -> None:
    """Compare commands, then calls in this process."""
    ways = {"average": [f"[{', '.join(models)}]"], "three scorings": models}
    runs = {name: lambda way=way: score_all(config, folder, way) for name, way in ways.items()}
    show_rates("commands", take_turns(runs, repeats), unit="rows/s")
    (file,) = corpus.open_csv(
        list(settings.load(config).score.corpus)[:1],
        settings=FormatSettings(), rows_per_part=NUM_TEXTS, unpack_to="",
    ).parts[:1]  # fmt: skip
    measure_calls(parts.take_accepted(parts.read(file))["text"].combine_chunks(), models, repeats)


def score_all(config: Path, folder: Path, models: list[str]) -> float:
    """Score the corpus with each of some models; return rows per second of it all."""
    seconds = rows = 0
    for model in models:
        with tempfile.TemporaryDirectory(dir=folder) as output:
            named = (f"score.model_uri={model}", f"score.output_uri={output}/scored")
            sentiflow("score", config, *named)
            record = manifest.read(f"{output}/scored")
            seconds, rows = seconds + record["seconds"], record["counts"]["accepted"]
    return rows / seconds


def measure_calls(texts: pa.Array, models: list[str], repeats: int) -> None:
    """Score texts in memory by the average, and by each model."""
    torch.set_num_threads(1)
    average, *each = [model_sources.load(uris) for uris in (models, *models)]

    def score_each() -> list[Scores]:
        return [package.score(texts) for package in each]

    rates = {
        "average": lambda: len(texts) / seconds_of(lambda: average.score(texts)),
        "three packages": lambda: len(texts) / seconds_of(score_each),
        "encoding alone": lambda: len(texts) / seconds_of(lambda: each[0].encode(texts)),
    }
    show_rates("one thread", take_turns(rates, repeats), unit="texts/s")
    mean = np.mean([scores.probabilities for scores in score_each()], axis=0)
    error = np.abs(average.score(texts).probabilities - mean).max()
    print(f"largest difference from the mean of the probabilities: {error:.1e}")


if __name__ == "__main__":
    main()
