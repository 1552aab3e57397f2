"""``trends`` in some weeks of a year: CPU time beyond a run that has nothing to do, and memory.

    python benchmarks/trend_weeks.py [--weeks 2 26 52] [--rows 2000] [--parts 3] [--groups 100]
        [--labels 100] [--every 1] [--repeats 3]

``year.py`` runs the whole job. Here no model is trained and nothing is scored: each week brings
synthetic predictions of four versions, one after the other, in ``--parts`` files. Every ``--every``
weeks ``trends --sample`` draws ``--labels`` rows, which get their true classes. Then the command
``trends`` runs as after the last file of each of ``--weeks``, with what it has kept of the weeks
before, and once more when it has nothing to do.
"""

import shutil
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import measuring
import numpy as np
import pyarrow as pa
import watching
import yaml
from measuring import Table

import sentiflow
from sentiflow.config import settings
from sentiflow.data import label_files
from sentiflow.data.output_spec import OutputSpec
from sentiflow.data.output_status import Status
from sentiflow.data.outputs import Output
from sentiflow.shares import next_draw, sample_log
from sentiflow.storage import parquet

CLASSES = np.array(["negative", "positive", "neutral"])
FIRST_MONDAY = np.datetime64("2024-01-01T12:00:00", "us")
NUM_VERSIONS = 4
STATE = ("scored", "trends", "labels")
"""Folders that are laid for each run."""
MODEL = {
    "model": {"cell": "gru", "hidden_size": 6, "bidirectional": True, "pooling": "last"},
    "tokenizer": "tweet",
    "max_length": 20,
    "vocabulary_size": 1234,
    "classes": CLASSES.tolist(),
}


@dataclass
class Corpus:
    """A corpus that grows by a week."""

    folder: Path
    options: Namespace
    num_weeks: int
    """Weeks of the year."""

    def __post_init__(self) -> None:
        """Begin without a week."""
        self.rng = np.random.default_rng(0)
        self.truth: list[np.ndarray] = []
        self.files: list[Any] = []
        self.scorings: list[dict[str, Any]] = []
        (self.folder / "labels").mkdir()
        self.config.write_text(yaml.safe_dump(self.settings))

    @property
    def config(self) -> Path:
        """The config of ``trends``."""
        return self.folder / "weekly.yaml"

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of ``trends``."""
        trends: dict[str, Any] = {"by": ["group", "created:week"]}
        if any((self.folder / "labels").iterdir()):
            trends["labels"] = str(self.folder / "labels/*.csv")
        return {
            "name": "weeks",
            "output_uri": str(self.folder),
            "tracking": {"uri": f"sqlite:///{self.folder}/mlflow.db"},
            "trends": trends,
        }

    def add_week(self) -> None:
        """Write the predictions of the next week, and the manifest of all of them."""
        week = len(self.scorings)
        version = str(1 + week * NUM_VERSIONS // self.num_weeks)
        scoring = {"first_part": len(self.files), "first_file": 0, "num_files": 0}
        self.scorings.append({**scoring, "model_version": version, "rows": self.options.rows})
        first = week * self.options.rows
        for row_id in np.array_split(first + np.arange(self.options.rows), self.options.parts):
            self._write_part(row_id, week, version)
        self._publish()

    def _write_part(self, row_id: np.ndarray, week: int, version: str) -> None:
        """Write a file of predictions."""
        num_rows = len(row_id)
        truth = self.rng.choice(3, num_rows, p=[0.5, 0.3, 0.2])
        self.truth.append(truth)
        logits = self.rng.normal(size=(num_rows, 3)) + 1.5 * np.eye(3)[truth]
        odds = np.exp(logits)
        probabilities = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
        group = self.rng.integers(0, self.options.groups, num_rows).astype(str)
        created = FIRST_MONDAY + week * np.timedelta64(7, "D")
        columns: dict[str, Any] = {
            "row_id": row_id,
            "label": pa.nulls(num_rows, pa.int8()),
            "split": pa.nulls(num_rows, pa.string()),
            "prediction": probabilities.argmax(axis=1).astype(np.int8),
            "group": np.char.add("group ", group),
            "created": np.full(num_rows, created),
            "text": np.char.add("text ", row_id.astype(str)),
            "model_version": pa.array([version] * num_rows),
        }
        for code, name in enumerate(CLASSES):
            columns[f"probability_{name}"] = probabilities[:, code]
        path = f"predictions/part-{len(self.files):05d}.parquet"
        (entry,) = parquet.write_part(str(self.folder / "scored"), path, pa.table(columns))
        row_id_range = [int(row_id[0]), int(row_id[-1])]
        self.files.append({**entry, "row_id_range": row_id_range})

    def _publish(self) -> None:
        """Write the manifest of the predictions, as ``score`` does."""
        model = {"uri": "/gone", "fingerprint": "0", "training": None, "settings": MODEL}
        corpus = {"uri": "/corpus.csv", "bytes": 1, "modified_ns": 1, "tree_sha256": "0"}
        week = len(self.scorings)
        kept = ["group", "created", "text"]
        spec = OutputSpec(
            "score",
            str(self.folder / "scored"),
            {"text_column": "text", "keep_columns": kept, "format": {}},
            {"model": model, "corpus": {"fingerprint": str(week), "files": [corpus]}},
        )
        versions = dict.fromkeys(scoring["model_version"] for scoring in self.scorings)
        models = {}
        for version in versions:
            name = {"uri": f"models:/weeks/{version}", "fingerprint": version}
            models[version] = model | name
        Output(spec, Status("new"), overwrite=True).publish(
            counts={"accepted": week * self.options.rows},
            files=self.files,
            seconds=0,
            classes=CLASSES.tolist(),
            kept_types={"group": "string", "created": "timestamp[us]", "text": "string"},
            models=models,
            scorings=self.scorings,
        )

    def draw_labels(self) -> None:
        """Draw rows, and label them."""
        config = settings.load(self.settings, command="trends")
        drawn, _ = next_draw.draw_rows(config, self.options.labels)
        truth = np.concatenate(self.truth)
        label = CLASSES.astype(object)[truth[drawn["row_id"]]]
        path = self.folder / f"labels/week-{len(self.scorings):03d}.csv"
        path.write_bytes(label_files.to_csv(drawn.assign(label=label)))
        sample_log.record(config, drawn, path=str(path))
        self.config.write_text(yaml.safe_dump(self.settings))

    def save_state(self, week: int) -> None:
        """Copy what there is before ``trends`` runs in a week."""
        for name in STATE:
            if (self.folder / name).exists():
                shutil.copytree(self.folder / name, self.folder / f"week-{week}" / name)

    def measure(self, week: int) -> measuring.Figures:
        """Run ``trends`` as in a week, and again with nothing to do."""
        for name in STATE:
            shutil.rmtree(self.folder / name, ignore_errors=True)
            state = self.folder / f"week-{week}" / name
            if state.exists():
                shutil.copytree(state, self.folder / name)
        used = watching.run("trends", self.config, "--overwrite")
        idle = watching.run("trends", self.config)
        kept = [path.stat().st_size for path in (self.folder / "trends/sums").iterdir()]
        return {
            "CPU s": used.cpu_s,
            "idle CPU s": idle.cpu_s,
            "beyond": used.cpu_s - idle.cpu_s,
            "MB": used.driver_mb,
            "kept MB": sum(kept) / 1e6,
        }


def list_tables(folder: Path, options: Namespace) -> Iterator[Table]:
    """Let the corpus grow, and measure some weeks."""
    last = max(options.weeks)
    corpus = Corpus(folder, options, num_weeks=last)
    for week in range(1, last + 1):
        corpus.add_week()
        if week % options.every == 0 or week == 1:
            corpus.draw_labels()
        if week in options.weeks:
            corpus.save_state(week)
        is_used = {week + 1, week + 2} & {*options.weeks}
        if is_used or week % 8 == 0:
            sentiflow.trends(corpus.settings, overwrite=True)
    title = f"{options.rows:,} rows a week in {options.parts} parts, {options.groups:,} groups"
    yield title, {f"week {week}": partial(corpus.measure, week) for week in options.weeks}


if __name__ == "__main__":
    measuring.main(
        __doc__,
        list_tables,
        weeks=[2, 26, 52],
        rows=2000,
        parts=3,
        groups=100,
        labels=100,
        every=1,
    )
