"""Models of the benchmark `published.py`: train on a draw, answer its test rows, tell the costs.

Ours are trained by commands, as a user does it, and their CPU seconds are those of all processes
that the commands start. A Ray cluster that runs already is none of them, so there must be none.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import measuring
import numpy as np
import pandas as pd
import pyarrow as pa
import watching
from published_corpora import Draw

import sentiflow
from sentiflow.evaluation import tfidf

CHECKOUT = Path(sentiflow.__file__).parents[1]
"""The checkout of the project that this process has imported."""
PREDICT = """
import json, pathlib, sentiflow
texts = json.loads(pathlib.Path("texts.json").read_text())
predicted = sentiflow.load_model("run/trained/model").predict(texts)["predicted_label"]
print(json.dumps(predicted.tolist()))
"""
"""Script that answers with a trained model: it works with any checkout."""


@dataclass(frozen=True)
class Costs:
    """What a model has cost, and what it became."""

    train_cpu_s: float
    """CPU seconds of the training, with all processes that it starts."""
    prepare_cpu_s: float = 0.0
    """CPU seconds of the preparation."""
    train_seconds: float = 0.0
    """Time of the training, as its manifest has it."""
    told: str = ""
    """The time that the training told when it began; empty if it was below a minute."""
    unit: str = ""
    """What the network reads: ``words`` or ``characters``; empty for scikit-learn."""
    network_share: float = 0.0
    """Share of the network in the logits."""
    num_networks: int = 0
    """Networks that were trained: of the model, and of folds that did not leave it out."""
    max_networks: int = 0
    """Networks of a training in which no fold leaves it out; 0 for scikit-learn."""


class Answered(NamedTuple):
    """The answers of a model to the test rows of a draw."""

    prediction: np.ndarray
    """The position of the class of each row."""
    costs: Costs
    log: str = ""
    """What the commands have written."""


Answer = Callable[[Draw, list[str]], Answered]
"""Trains a model on a draw, and answers its test rows, given the names of the classes."""


@dataclass(frozen=True)
class Ours:
    """A model of ours: the settings that `init` writes, with changes."""

    changes: Mapping[str, Any] = field(default_factory=dict)
    """The changed settings."""
    checkout: Path = CHECKOUT
    """The checkout of the project whose commands run."""
    unlabelled: Sequence[Path] | None = None
    """Files of unlabelled texts; the texts of the draw are added. None: the model reads none."""

    def answer(self, draw: Draw, classes: list[str]) -> Answered:
        """Train the model on a draw, and answer its test rows."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            costs, log = self.train(draw, folder)
            predicted = predict(draw, folder, self.checkout)
        return Answered(pd.Index(classes).get_indexer(predicted), costs, log)

    def train(self, draw: Draw, folder: Path) -> tuple[Costs, str]:
        """Train as a first-time user who has a file of test rows does; returns also the log."""
        draw.train.to_csv(folder / "rows.csv", index=False)
        draw.test.to_csv(folder / "test.csv", index=False)
        settings = {"output_uri": "run", "tracking.uri": None, **self.changes}
        if self.unlabelled is not None:
            settings["prepare.unlabelled.files"] = self.list_unlabelled(draw, folder)
        written = []

        def run(verb: str, *arguments: str) -> watching.Usage:
            log = folder / f"{verb}.log"
            used = watching.run(
                verb, *arguments, folder=folder, log=log, PYTHONPATH=str(self.checkout)
            )
            written.append(log.read_text())
            return used

        run("init", "rows.csv", "--test", "test.csv", "--label", "label", "--text", "text")
        job = ["rows.yaml", *measuring.write_settings(settings)]
        prepared = run("prepare", *job)
        trained = run("train", *job)
        costs = read_costs(folder / "run/trained", prepared, trained, written[-1])
        return costs, "".join(written)

    def list_unlabelled(self, draw: Draw, folder: Path) -> list[str]:
        """List the files of unlabelled texts, and write the file of the draw's own."""
        assert self.unlabelled is not None, "the model reads unlabelled texts"
        files = [str(path.resolve()) for path in self.unlabelled]
        if draw.unlabelled:
            own = folder / "unlabelled.csv"
            pd.DataFrame({"text": draw.unlabelled}).to_csv(own, index=False)
            files.append(str(own))
        return files


def read_costs(output: Path, prepared: watching.Usage, trained: watching.Usage, log: str) -> Costs:
    """Read the costs of a model from the output of its training.

    Args:
        output: The output of the training.
        prepared: What its preparation has used.
        trained: What it has used.
        log: What it has written.
    """
    told = re.search(r"^train .* rows: about (.+?) on \d", log, re.MULTILINE)
    manifest = json.loads((output / "manifest.json").read_text())
    package = json.loads((output / "model/settings.json").read_text())
    costs = manifest["costs"]
    # An earlier checkout does not count the folds that it trains.
    num_folds = costs.get("num_folds_trained", manifest["settings"]["folds"])
    return Costs(
        train_cpu_s=trained.cpu_s,
        prepare_cpu_s=prepared.cpu_s,
        train_seconds=manifest["seconds"],
        told=told.group(1) if told else "",
        unit=package.get("unit", "words"),
        network_share=1 - package.get("linear_weight", 0.0),
        num_networks=costs["num_networks"],
        max_networks=1 + num_folds,
    )


def predict(draw: Draw, folder: Path, checkout: Path) -> list[str]:
    """Predict the labels of the test rows of a draw by the model that was trained in a folder."""
    (folder / "texts.json").write_text(json.dumps(draw.test["text"].tolist()))
    done = subprocess.run(
        [sys.executable, "-c", PREDICT],
        check=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(checkout)},
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout)


def scikit_learn(draw: Draw, classes: list[str]) -> Answered:
    """Answer with the baseline of the report."""
    train_text = pa.array(draw.train["text"].tolist())
    test_text = pa.array(draw.test["text"].tolist())
    label = pd.Index(classes).get_indexer(draw.train["label"])
    began = time.process_time()
    prediction = tfidf.predict(train_text, label, test_text).prediction
    return Answered(prediction, Costs(train_cpu_s=time.process_time() - began))


def keep(path: Path, answered: Answered) -> None:
    """Write answers, costs and log to files beside each other; the answers are written last."""
    path.with_name(f"{path.name}.log").write_text(answered.log)
    path.with_name(f"{path.name}.json").write_text(json.dumps(asdict(answered.costs), indent=1))
    np.save(path.with_name(f"{path.name}.npy"), answered.prediction)


def read_kept(path: Path) -> Answered | None:
    """Read what :func:`keep` has written; None if it has not."""
    answers = path.with_name(f"{path.name}.npy")
    if not answers.exists():
        return None
    costs = json.loads(path.with_name(f"{path.name}.json").read_text())
    return Answered(np.load(answers), Costs(**costs))
