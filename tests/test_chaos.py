"""Real commands killed at random moments, then given again: ``make soak``, a table at the end.

The law: the final tables equal those of an undisturbed run, or the command refuses with one line
and nothing that was finished is lost. ``CHAOS_TRIALS=4`` makes it short, ``CHAOS_SEED=1`` draws
other trials; each trial depends on its number and the seed alone.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from conftest import PROJECT, write_config

from sentiflow.data import sample

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]

NUM_TRIALS = int(os.environ.get("CHAOS_TRIALS", "100"))
SEED = os.environ.get("CHAOS_SEED", "0")
PATIENCE_SECONDS = 300
MAX_ATTEMPTS = 6

FOLDERS = {"prepare": "prepared", "train": "trained", "score": "scored"}
TABLES = {
    "prepare": ("tweets", "encoded", "rejected", "vocabulary.parquet"),
    "train": ("model/vocabulary.parquet",),
    "score": ("predictions", "rejected"),
}
SETTING = {
    "prepare": "prepare.max_length=7",
    "train": "train.learning_rate=0.02",
    "score": "score.keep_columns=[text]",
}
"""For each stage a setting that changes its result."""
CHANGES = ("edited", "rival", "appended", "setting", "twin", "touched")
"""What happens to one trial in four before the command is given again. The input has other content
of the same size; a second job with another setting starts in the same directory at the same time;
the input has more rows; another setting is given; the same command starts twice at the same time;
the input has a new time and nothing else."""


@dataclass(frozen=True)
class Trial:
    """What is done to a stage."""

    number: int
    stage: str
    victim: str
    moment: float
    """When it is killed: a fraction of the duration of an undisturbed run."""
    change: str
    pause_seconds: float
    """Between the kill and the next attempt, and between two jobs at the same time."""


def draw(number: int) -> Trial:
    chance = random.Random(f"{SEED} {number}")
    victim, moment = chance.choice(["driver", "worker"]), chance.random()
    change = CHANGES[number // 12 % len(CHANGES)] if number % 4 == 3 else ""
    return Trial(number, list(FOLDERS)[number % 3], victim, moment, change, chance.uniform(0, 2))


@dataclass
class Undisturbed:
    """Runs without a kill, each made when it is needed first."""

    folder: Path
    seconds: dict[tuple[str, str], float] = field(default_factory=dict)

    def corpus(self, variant: str) -> Path:
        """Make the corpus, with ten bad records; edited, its records are in other rows."""
        path = self.folder / f"{variant}.csv"
        if not path.exists():
            lines = b"".join(sample.generate(num_rows=3000, seed=5)).splitlines(keepends=True)
            more = b"".join(sample.generate(num_rows=300, seed=6)).splitlines(keepends=True)
            lines[150::300] = [b'"0","too short"\n'] * 10
            lines = {"edited": lines[::-1], "appended": lines + more}.get(variant, lines)
            path.write_bytes(b"".join(lines))
        return path

    def result(self, stage: str, variant: str) -> Path:
        """Run a stage on the variant of its input, or with the other setting; name its output."""
        place = Place(self.folder / f"{stage}-{variant or 'plain'}", stage, self)
        if (stage, variant) not in self.seconds:
            place.lay_input("" if variant == "setting" else variant)
            started = time.monotonic()
            ended = place.run(*([SETTING[stage]] if variant == "setting" else []))
            self.seconds[stage, variant] = time.monotonic() - started
            assert ended.code == 0, ended.log
        return place.output


class Ended(NamedTuple):
    """A command that has ended."""

    code: int | None
    """None: it had to be killed, as it did not end."""
    log: str

    @property
    def is_refusal(self) -> bool:
        """Say whether it ended with one line that says why."""
        lines = [line for line in self.log.splitlines() if line.startswith("sentiflow: ")]
        return self.code in (1, 2) and len(lines) == 1 and "Traceback" not in self.log

    @property
    def last_line(self) -> str:
        return self.log.strip().rpartition("\n")[2]


@dataclass
class Place:
    """A folder with the input, settings and output of one stage."""

    folder: Path
    stage: str
    undisturbed: Undisturbed

    @property
    def output(self) -> Path:
        return self.folder / "run" / FOLDERS[self.stage]

    def lay_input(self, variant: str) -> None:
        """Lay a variant of the stage's input where its settings name it."""
        self.folder.mkdir(exist_ok=True)
        corpus = self.folder / "corpus.csv"
        if self.stage == "train":
            prepared = self.folder / "prepared"
            shutil.rmtree(prepared, ignore_errors=True)
            shutil.copytree(self.undisturbed.result("prepare", variant), prepared)
        else:
            shutil.copy2(self.undisturbed.corpus(variant), corpus)  # with its time
        score = {"corpus": str(corpus), "rows_per_file": 500}
        if self.stage == "score":
            score["model_uri"] = str(self.undisturbed.result("train", "") / "model")
        write_config(
            self.folder,
            corpus,
            prepare={"csv": str(corpus), "rows_per_file": 500, "vocabulary": {"min_count": 2}},
            train={
                "prepared_uri": str(self.folder / "prepared"),
                "model": {"cell": "gru", "hidden_size": 16},
                "num_epochs": 4,
                "checkpoints": {"every_minutes": 0.001},
            },
            score=score,
        )

    def touch(self) -> None:
        """Give the input a new time, and nothing else."""
        for path in (self.folder / "corpus.csv", *(self.folder / "prepared").rglob("*")):
            if path.exists():
                os.utime(path)

    def start(self, *overrides: str) -> "Running":
        return Running(self, overrides)

    def run(self, *overrides: str) -> Ended:
        with self.start(*overrides) as running:
            return running.wait()

    def files(self) -> dict[str, int]:
        """List the files that hold results, with their times."""
        return {
            str(path.relative_to(self.output)): path.stat().st_mtime_ns
            for path in self.output.rglob("*")
            if path.suffix in (".parquet", ".safetensors") or path.name == "manifest.json"
        }


class Running:
    """A command in a process group of its own, of which nothing is left at the end."""

    def __init__(self, place: Place, overrides: tuple[str, ...]) -> None:
        config = str(place.folder / "config.yaml")
        command = [sys.executable, "-m", "sentiflow", place.stage, config, *overrides]
        number = len(list(place.folder.glob("*.log")))
        self.log = place.folder / f"{number}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=PROJECT, stdout=log, stderr=log, start_new_session=True
            )

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def wait(self) -> Ended:
        try:
            code = self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        return Ended(code, self.log.read_text(errors="replace"))

    def kill(self, victim: str, after_seconds: float) -> str:
        """Kill the driver, or a worker if there is one; say which, or that it was over before."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(after_seconds)
            return "nothing"
        workers = [child for child in self._children() if is_worker(child)]
        if victim == "worker" and workers:
            random.choice(workers).kill()
            return "worker"
        self.process.kill()
        self.process.wait()
        return "driver"

    def _children(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []


def is_worker(process: psutil.Process) -> bool:
    """Say whether a process works for Ray; without its agents also the node would end."""
    with contextlib.suppress(psutil.NoSuchProcess):
        name = process.name()
        return name.startswith("ray::") and "Agent" not in name
    return False


def read(path: Path) -> pa.Table | None:
    """Read a table as a stranger does: every Parquet file that is there."""
    if not path.exists():
        return None
    table = ds.dataset(path, format="parquet", partitioning="hive").to_table()
    table = table.drop([name for name in ("source",) if name in table.column_names])
    order = "row_id" if "row_id" in table.column_names else "id"
    return table.select(sorted(table.column_names)).sort_by(order)


def compare(stage: str, found: Path, expected: Path) -> list[str]:
    """List what differs between two outputs of a stage, the first of which may be broken."""
    if not (found / "manifest.json").exists():
        return ["it has no manifest"]
    differences = [
        f"{name} differs"
        for name in TABLES[stage]
        if not are_equal(read(found / name), read(expected / name))
    ]
    if stage == "train":
        weights = [(root / "model/weights.safetensors").read_bytes() for root in (found, expected)]
        if weights[0] != weights[1]:
            differences.append("weights differ")
    left = list_unlisted(found)
    if left:
        differences.append(f"left behind: {', '.join(sorted(left))}")
    return differences


def are_equal(one: pa.Table | None, other: pa.Table | None) -> bool:
    """Compare tables; probabilities may differ by rounding."""
    if one is None or other is None:
        return one is other
    rounded = [name for name in one.column_names if name.startswith("probability")]
    return (
        one.drop(rounded).equals(other.drop(rounded))
        and one.column_names == other.column_names
        and all(np.allclose(one[name], other[name], atol=1e-6) for name in rounded)
    )


def list_unlisted(output: Path) -> set[str]:
    """List the files that the manifest does not name."""
    listed = {item["path"] for item in json.loads((output / "manifest.json").read_text())["files"]}
    names = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    return names - listed - {"manifest.json"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return Undisturbed(tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture(scope="module")
def lines(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Collect a line of each trial, and print them at the end."""
    collected: list[str] = []
    yield collected
    plugin = request.config.pluginmanager.getplugin
    with plugin("capturemanager").global_and_fixture_disabled():
        plugin("terminalreporter").write_line("")
        for line in [f"{'':4}{'stage':8}{'killed':8}{'at':5}{'change':9} exit codes", *collected]:
            plugin("terminalreporter").write_line(line)


@pytest.mark.parametrize("number", range(NUM_TRIALS))
def test_a_disturbed_job_ends_like_an_undisturbed_one(
    number: int, tmp_path: Path, undisturbed: Undisturbed, lines: list[str]
) -> None:
    trial = draw(number)
    random.seed(f"{SEED} {number}")
    killed, codes, faults = attempt(trial, tmp_path, undisturbed)
    told = " ".join("hung" if code is None else str(code) for code in codes)
    what = f"{number:<4}{trial.stage:8}{killed:8}{trial.moment:<5.2f}{trial.change:9} {told}"
    lines.append(what + "".join(f"\n      WRONG: {fault}" for fault in faults))
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    assert not faults, faults


def attempt(
    trial: Trial, folder: Path, undisturbed: Undisturbed
) -> tuple[str, list[int | None], list[str]]:
    """Disturb a job; say what was killed, the exit codes that followed, and what was wrong."""
    place = Place(folder, trial.stage, undisturbed)
    place.lay_input("")
    undisturbed.result(trial.stage, "")
    seconds = undisturbed.seconds[trial.stage, ""]
    with place.start() as first:
        killed = first.kill(trial.victim, trial.moment * seconds)
        ended = [first.wait()]
    time.sleep(trial.pause_seconds)
    before = place.files()
    ended += change(trial, place)
    variant = trial.change if trial.change in ("edited", "appended", "setting") else ""
    last = insist(place, variant)
    ended += last
    faults = [
        f"exit code {end.code}: {end.last_line}"
        for end in ended
        if end.code not in (0, -signal.SIGKILL) and not end.is_refusal
    ]
    if last[-1].code != 0 and trial.change not in ("", "touched", "twin"):  # it was refused
        if trial.change != "rival":
            lost = [name for name, when in before.items() if place.files().get(name) != when]
            if lost:
                faults.append(f"lost: {', '.join(lost)}")
            place.lay_input("")
        variant = "setting" if trial.change == "rival" else ""
        last = insist(place, variant)
        ended += last
    if last[-1].code == 0:
        faults += compare(trial.stage, place.output, undisturbed.result(trial.stage, variant))
    else:
        faults.append(f"it does not end: {last[-1].last_line}")
    return killed, [end.code for end in ended], faults


def change(trial: Trial, place: Place) -> list[Ended]:
    """Change something before the next attempt, or make that attempt beside a second job."""
    if trial.change == "touched":
        place.touch()
    if trial.change in ("edited", "appended"):
        place.lay_input(trial.change)
    if trial.change not in ("twin", "rival"):
        return []
    overrides = [SETTING[trial.stage]] if trial.change == "rival" else []
    with place.start() as one:
        time.sleep(trial.pause_seconds / 2)
        with place.start(*overrides) as other:
            return [one.wait(), other.wait()]


def insist(place: Place, variant: str) -> list[Ended]:
    """Give the same command until it is done, or refused for a reason that no retry can help."""
    overrides = [SETTING[place.stage]] if variant == "setting" else []
    ended: list[Ended] = []
    while not ended or (ended[-1].code == 1 and len(ended) < MAX_ATTEMPTS):
        time.sleep(3 if ended else 0)
        ended.append(place.run(*overrides))
    return ended
