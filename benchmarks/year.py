"""A year of a weekly job: a file arrives, ``score`` and ``trends`` run, some rows are labelled.

    python benchmarks/year.py [CSV] [--rows 300000] [--weeks 52] [--labels 100] [--folder DIR]
    python benchmarks/year.py --small

Each week a file of ``--rows`` rows arrives. ``score`` scores it, ``trends --sample`` draws rows,
which get their true labels, and ``trends`` computes the shares of each group and week. Three times,
after each quarter, another version of the model becomes the champion. In one week the process of
``score`` is killed by SIGKILL after its first part, and ``score`` is run again: the figures of this
week are the sums of both.

Each command is run once more when it has nothing to do. "Beyond" is what it used beyond that. The
first week is not compared, as it writes the first files.

CSV: a corpus with a header, such as reviews; --text, --rating, --time and --group name its columns.
Its rows, sorted by time, are repeated until the year is full; a text is positive from the rating
--positive on. By default the corpus is ``sentiflow sample``, whose users are grouped into a hundred
groups. With --folder the files stay, and the same command goes on with the next week.

--small: eight weeks of 2,000 rows.
"""

import argparse
import contextlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import measuring
import numpy as np
import pandas as pd
import watching
import yaml
from mlflow import MlflowClient
from watching import Usage

from sentiflow.tracking import model_registry

CLASSES = np.array(["negative", "positive"])
FIRST_MONDAY = np.datetime64("2024-01-01")
MODEL = {"cell": "gru", "hidden_size": 16, "bidirectional": False, "pooling": "last"}
NAME = "year"
"""The registered model."""
NUM_VERSIONS = 4
"""Versions of the model: the first champion and three promotions."""
TRAIN_ROWS = 4000
SMALL = {"rows": 2000, "weeks": 8}
SAMPLE_COLUMNS = ["target", "id", "date", "flag", "user", "text"]
COLUMNS = {"id": "id", "text": "text", "label": "label", "time": "time"}
STEPS = ("score", "sample", "trends")
"""Commands of a week, in their order."""
IDLE = ("score", "trends")
"""Commands that are run again when they have nothing to do."""
Week = dict[str, Usage]
"""What the commands of a week have used, and ``score, idle`` and ``trends, idle``."""


class Job(NamedTuple):
    """The weekly job."""

    folder: Path
    rows: pd.DataFrame
    """The corpus that is repeated: ``text``, ``label`` and ``group``."""
    num_rows: int
    """Rows of a week."""
    num_weeks: int
    num_labels: int
    """Rows that are labelled each week."""

    @property
    def config(self) -> Path:
        """The config of ``score`` and ``trends``."""
        return self.folder / "weekly.yaml"

    @property
    def tracking_uri(self) -> str:
        """MLflow's store."""
        return f"sqlite:///{self.folder}/mlflow.db"

    def rows_of(self, row_ids: np.ndarray) -> pd.DataFrame:
        """Take the rows of the year with these numbers."""
        return self.rows.iloc[row_ids % len(self.rows)]


def read_corpus(path: Path, options: argparse.Namespace) -> pd.DataFrame:
    """Read a corpus, sorted by time."""
    table = pd.read_csv(path, keep_default_na=False).sort_values(options.time, kind="stable")
    is_positive = table[options.rating].astype(float) >= options.positive
    return pd.DataFrame(
        {
            "text": table[options.text].to_numpy(),
            "label": CLASSES[is_positive.to_numpy().astype(int)],
            "group": table[options.group].astype(str).to_numpy(),
        }
    )


def make_corpus(folder: Path, num_rows: int) -> pd.DataFrame:
    """Make a synthetic corpus, shuffled."""
    path = folder / "sample.csv"
    if not path.exists():
        measuring.make_csv(path, num_rows)
    table = pd.read_csv(
        path, names=SAMPLE_COLUMNS, keep_default_na=False, encoding_errors="replace"
    )
    table = table.sample(frac=1, random_state=0)
    groups = pd.util.hash_array(table["user"].to_numpy(dtype=object)) % 100
    return pd.DataFrame(
        {
            "text": table["text"].to_numpy(),
            "label": CLASSES[(table["target"] == 4).to_numpy().astype(int)],
            "group": [f"group {number:02d}" for number in groups],
        }
    )


def write_week(job: Job, week: int) -> None:
    """Write the file of a week, counted from 1."""
    row_ids = np.arange((week - 1) * job.num_rows, week * job.num_rows)
    days = FIRST_MONDAY + 7 * (week - 1) + (np.arange(job.num_rows) * 7 // job.num_rows)
    table = job.rows_of(row_ids)[["text", "group"]].assign(id=row_ids, time=days.astype(str))
    path = job.folder / f"inbox/week-{week:03d}.csv"
    table.to_csv(path, index=False)


def set_up(job: Job) -> None:
    """Train the versions of the model, and write the config of the weekly job."""
    for name in ("inbox", "labels"):
        (job.folder / name).mkdir(parents=True)
    train = job.rows_of(np.arange(len(job.rows))).sample(
        min(TRAIN_ROWS, len(job.rows)), random_state=1
    )
    train.assign(id=np.arange(len(train)), time="2023-12-01").to_csv(
        job.folder / "train.csv", index=False
    )
    form = {"kind": "csv", "columns": COLUMNS, "labels": "auto"}
    for number in range(1, NUM_VERSIONS + 1):
        settings = {
            "format": form,
            "prepare.csv": job.folder / "train.csv",
            "prepare.output_uri": job.folder / "prepared",
            "tracking.uri": job.tracking_uri,
            "train.model": MODEL,
            "train.num_epochs": 1,
            "train.linear": False,
            "train.seed": number,
        }
        if number == 1:
            measuring.sentiflow(
                "prepare",
                measuring.PLAIN,
                *measuring.write_settings(
                    {"output_uri": job.folder / "v1", **settings, "tracking.register_model": False}
                ),
            )
        record = measuring.run_job("train", job.folder / f"v{number}", settings)
        model_registry.register(
            str(job.folder / f"v{number}/trained/model"),
            name=NAME,
            tracking_uri=job.tracking_uri,
            run_id=record["run"]["mlflow_run_id"],
        )
    config = {
        "name": NAME,
        "output_uri": str(job.folder / "run"),
        "format": form,
        "tracking": {"uri": job.tracking_uri},
        "score": {
            "model_uri": f"models:/{NAME}@champion",
            "corpus": str(job.folder / "inbox/*.csv"),
            "keep_columns": ["time", "group", "text"],
            "rows_per_file": min(100_000, -(-job.num_rows // 3)),
        },
        "trends": {"by": ["group", "time:week"]},
    }
    job.config.write_text(yaml.safe_dump(config))
    promote(job, 1)


def promote(job: Job, number: int) -> None:
    """Make a version the champion."""
    MlflowClient(job.tracking_uri).set_registered_model_alias(NAME, "champion", str(number))


def score(job: Job, *, is_killed: bool) -> Usage:
    """Score the file that has arrived; kill the first run after its first part, and run again."""
    if not is_killed:
        return watching.run("score", job.config)
    scored = job.folder / "run/scored"

    def has_part() -> bool:
        return any(scored.glob("_work/*/receipts/*"))

    first = watching.run_until(has_part, "score", job.config)
    print("  killed" if first.was_running else "  it ended before it was killed", flush=True)
    return add(first.usage, watching.run("score", job.config))


def add(first: Usage, second: Usage) -> Usage:
    """Add up two runs; memory is the larger one."""
    return Usage(
        seconds=first.seconds + second.seconds,
        cpu_s=first.cpu_s + second.cpu_s,
        driver_cpu_s=first.driver_cpu_s + second.driver_cpu_s,
        driver_mb=max(first.driver_mb, second.driver_mb),
        worker_mb=max(first.worker_mb, second.worker_mb),
    )


def draw_labels(job: Job, week: int) -> Usage:
    """Draw rows, and label them."""
    path = job.folder / f"labels/week-{week:03d}.csv"
    labels = list_labels(job)
    draw = ["--sample", job.num_labels, "--output", path]
    used = watching.run("trends", job.config, *labels, *draw)
    drawn = pd.read_csv(path, keep_default_na=False, dtype=str)
    row_ids = drawn["row_id"].astype(int).to_numpy()
    drawn["label"] = job.rows_of(row_ids)["label"].to_numpy()
    drawn.to_csv(path, index=False)
    return used


def list_labels(job: Job) -> list[str]:
    """List the setting that names the files of labels, if there are any."""
    pattern = job.folder / "labels/*.csv"
    if not any((job.folder / "labels").iterdir()):
        return []
    return measuring.write_settings({"trends.labels": str(pattern)})


def run_week(job: Job, week: int) -> Week:
    """Run the commands of a week."""
    quarter = max(1, job.num_weeks // 4)
    if week > 1 and (week - 1) % quarter == 0:
        promote(job, min(NUM_VERSIONS, 1 + (week - 1) // quarter))
    write_week(job, week)
    used: Week = {}
    used["score"] = score(job, is_killed=week == kill_week(job))
    used["score, idle"] = watching.run("score", job.config)
    used["sample"] = draw_labels(job, week)
    labels = list_labels(job)
    used["trends"] = watching.run("trends", job.config, "--overwrite", *labels)
    used["trends, idle"] = watching.run("trends", job.config, *labels)
    return used


def kill_week(job: Job) -> int:
    """Choose the week in which a scoring is killed: one without a promotion."""
    return job.num_weeks // 2 + job.num_weeks // 8 + 1


def beyond(week: Week, step: str) -> float:
    """Compute the CPU seconds of a command beyond a run that has nothing to do."""
    return week[step].cpu_s - week[f"{step}, idle"].cpu_s


def show_week(number: int, week: Week, num_bytes: int) -> None:
    """Print the line of a week."""
    cells = [str(number)]
    for step in STEPS:
        used = week[step]
        cells += [f"{used.seconds:.1f}", f"{used.cpu_s:.1f}"]
        if step in IDLE:
            cells.append(f"{beyond(week, step):.1f}")
    cells += [f"{week[step].driver_mb:.0f}" for step in IDLE]
    cells.append(f"{num_bytes / 1000:.0f}")
    print(f"| {' | '.join(cells)} |", flush=True)


def show_growth(weeks: Sequence[Week], skipped: int) -> None:
    """Print how the last week compares with the second, and the line through all of them.

    Args:
        weeks: The weeks, from the first.
        skipped: The number of the week with a kill, which is left out of the line.
    """
    for step in IDLE:
        values = np.array([beyond(week, step) for week in weeks])
        numbers = np.arange(1, len(values) + 1)
        is_used = (numbers > 1) & (numbers != skipped)
        slope, start = np.polyfit(numbers[is_used], values[is_used], 1)
        fitted = start + slope * np.array([2, len(values)])
        print(
            f"{step}, CPU seconds beyond a run that has nothing to do: week 2 {values[1]:.2f}, "
            f"week {len(values)} {values[-1]:.2f}, ratio {values[-1] / values[1]:.2f}; by the line "
            f"through all weeks {fitted[0]:.2f} and {fitted[1]:.2f}, ratio "
            f"{fitted[1] / fitted[0]:.2f} ({1000 * slope:.1f} ms more each week)"
        )


def count_manifest_bytes(job: Job) -> int:
    """Count the bytes of the manifests of the predictions and the shares."""
    return sum(path.stat().st_size for path in job.folder.glob("run/*/manifest.json"))


def run_year(job: Job) -> list[Week]:
    """Run the weeks that were not run yet; returns the figures of all."""
    figures = job.folder / "figures.jsonl"
    if not job.config.exists():
        set_up(job)
        figures.touch()
    weeks = []
    for line in figures.read_text().splitlines():
        weeks.append({name: Usage(*values) for name, values in json.loads(line).items()})
    print(
        "| week | score s | CPU s | beyond | sample s | CPU s | trends s | CPU s | beyond |", end=""
    )
    print(" score MB | trends MB | manifests kB |")
    print(f"|{'---|' * 12}")
    for number in range(len(weeks) + 1, job.num_weeks + 1):
        week = run_week(job, number)
        weeks.append(week)
        with figures.open("a") as stream:
            stream.write(f"{json.dumps(week)}\n")
        show_week(number, week, count_manifest_bytes(job))
    return weeks


@contextlib.contextmanager
def open_folder(path: Path | None) -> Iterator[Path]:
    """Open a folder, by default a new one that is deleted afterwards."""
    if path:
        path.mkdir(parents=True, exist_ok=True)
        yield path.resolve()
        return
    with tempfile.TemporaryDirectory() as name:
        yield Path(name).resolve()


def main() -> None:
    """Run a year, and print its figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("csv", nargs="?", type=Path)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--weeks", type=int, default=52)
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--text", default="review")
    parser.add_argument("--rating", default="rating")
    parser.add_argument("--positive", type=float, default=8)
    parser.add_argument("--time", default="date")
    parser.add_argument("--group", default="movie_id")
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    if options.small:
        options.rows = SMALL["rows"]
        options.weeks = SMALL["weeks"]
    with open_folder(options.folder) as folder:
        if options.csv:
            rows = read_corpus(options.csv, options)
        else:
            rows = make_corpus(folder, options.rows)
        job = Job(folder, rows, options.rows, options.weeks, options.labels)
        weeks = run_year(job)
        if len(weeks) > 2:
            show_growth(weeks, kill_week(job))


if __name__ == "__main__":
    main()
