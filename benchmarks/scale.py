"""How ``prepare``, ``score`` and ``trends`` grow with rows, files, parts, groups and weeks.

    python benchmarks/scale.py [--only rows files parts groups weeks] [--cores 16]
    python benchmarks/scale.py --small

Each quantity is doubled four times and the others are kept. Rows are in 8 files and 8 parts. Files,
parts and groups are of the same rows; groups are the values of a column of ``trends.by``. A week is
a new file of a corpus, and the figures are those of its commands alone, without earlier weeks.
Measured are seconds, CPU seconds of all processes, the peak memory of the process of the command
(driver) and of the largest other process (worker), and the bytes of the manifest.

A line (start + slope x n) is fitted by least squares, or a power (a x n^b) where it fits better and
b is above 1. "x 2" is the factor of the last doubling. The growth of all quantities is added up for
10^9 rows in 10,000 files and parts, with 10,000 groups, after 52 weeks, on 64 nodes: the best
estimate, and two standard errors above. Parts stay as large, so the memory of workers does not grow
with rows. Last is what reaches its limit first if rows, files and parts grow further.

With --points the figures stay in a file, and the same command measures only what is missing there.

--small: smaller and doubled twice, a few minutes on two idle cores. The start of Ray hides any
slope there, so it only shows that the benchmark runs. Linux only.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import measuring
import numpy as np
import pandas as pd
import watching
import year

FORMAT = {
    "kind": "csv",
    "columns": {"id": "id", "text": "text", "label": "label", "time": "time"},
    "labels": "auto",
}
UNITS = ("seconds", "CPU s", "driver CPU s", "driver MB", "worker MB", "manifest kB")
TARGET = {"rows": 1e9, "files": 1e4, "parts": 1e4, "groups": 1e4, "weeks": 52}
"""What is extrapolated to."""
NUM_NODES = 64
LIMITS = {"driver MB": 64_000, "driver CPU s": 86_400, "manifest kB": 1_000_000}
"""What one driver has: memory, a day, and a gigabyte of JSON."""
GROWING = ("rows", "files", "parts")
"""What grows beyond the target when limits are looked for."""
NUM_PARTS = 8
"""Parts and files, where they are not doubled."""


class Sizes(NamedTuple):
    """The first size of each quantity, and what the others are meanwhile."""

    doublings: int
    rows: int
    files: int
    parts: int
    groups: int
    rows_of_files: int
    """Rows while files, parts or groups are doubled."""
    rows_of_week: int


FULL = Sizes(
    doublings=4,
    rows=500_000,
    files=64,
    parts=16,
    groups=100,
    rows_of_files=100_000,
    rows_of_week=10_000,
)
SMALL = Sizes(
    doublings=2, rows=4000, files=8, parts=4, groups=10, rows_of_files=4000, rows_of_week=1000
)


class Point(NamedTuple):
    """One run of a stage."""

    quantity: str
    """What was doubled."""
    size: int
    stage: str
    figures: Mapping[str, float]
    """What was measured, by unit."""


@dataclass(frozen=True)
class Fit:
    """A line or a power through the points of one quantity."""

    is_power: bool
    start: float
    """The line at 0, or the logarithm of the factor of the power."""
    slope: float
    """Of the line, or the exponent of the power."""
    error: float
    """Standard error of ``slope``."""
    first: int
    """The smallest size."""

    @classmethod
    def through(cls, sizes: Sequence[int], values: Sequence[float]) -> "Fit":
        """Fit both; take the power if it fits the logarithms better and its exponent is above 1.

        A smaller exponent is what a line with a start looks like at small sizes. Extrapolated, it
        would promise too much.
        """
        x = np.array(sizes, dtype=float)
        y = np.array(values).clip(min=1e-3)
        line = cls.of(x, y, is_power=False)
        power = cls.of(np.log(x), np.log(y), is_power=True, first=sizes[0])
        by_line = np.log(np.maximum(line.start + line.slope * x, 1e-3)) - np.log(y)
        by_power = power.start + power.slope * np.log(x) - np.log(y)
        is_better = (by_power**2).sum() < (by_line**2).sum()
        return power if is_better and power.slope > 1 else line

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray, *, is_power: bool, first: int = 0) -> "Fit":
        """Fit a line by least squares."""
        slope, start = np.polyfit(x, y, 1)
        residuals = y - start - slope * x
        variance = (residuals**2).sum() / max(1, len(x) - 2)
        error = float(np.sqrt(variance / ((x - x.mean()) ** 2).sum()))
        return cls(is_power, float(start), float(slope), error, first or int(x[0]))

    def grow(self, size: float, *, num_errors: float = 0) -> float:
        """Compute by how much the value at a size is above the value at the smallest size."""
        slope = self.slope + num_errors * self.error
        if self.is_power:
            first = np.exp(self.start + self.slope * np.log(self.first))
            return max(0.0, float(first * ((size / self.first) ** slope - 1)))
        return max(0.0, slope * (size - self.first))

    def __str__(self) -> str:
        """Write the formula of the growth."""
        if self.is_power:
            return f"n^{self.slope:.2f} (± {self.error:.2f})"
        return f"{self.slope:.3g} n (± {self.error:.1g})"


class Model(NamedTuple):
    """The fits of one stage and unit."""

    start: float
    """The value at the smallest sizes."""
    fits: Mapping[str, Fit]
    """By quantity."""

    def at(self, target: Mapping[str, float], *, num_errors: float = 0) -> float:
        """Add up the growth of all quantities."""
        growth = [fit.grow(target[name], num_errors=num_errors) for name, fit in self.fits.items()]
        return self.start + sum(growth)


class Bench:
    """A folder with a model and a corpus."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        """Make the corpus, and train the model."""
        self.folder = folder
        self.sizes = sizes
        self.num_runs = 0
        largest = max(sizes.rows << sizes.doublings, sizes.rows_of_files)
        self.corpus = year.make_corpus(folder, largest)
        train = self.write("train", self.corpus[:4000], 1)
        settings = {
            "format": FORMAT,
            "prepare.csv": train,
            "train.model": year.MODEL,
            "train.num_epochs": 1,
            "train.linear": False,
        }
        for verb in ("prepare", "train"):
            measuring.run_job(verb, folder / "model", settings)

    def write(self, name: str, table: pd.DataFrame, num_files: int, num_groups: int = 100) -> str:
        """Write rows as files; returns their glob."""
        place = self.folder / name
        place.mkdir(parents=True)
        numbers = np.arange(len(table))
        table = table.assign(
            id=numbers,
            time=np.datetime64("2024-01-01") + numbers % 28,
            group=numbers % num_groups,
        )
        for number, rows in enumerate(np.array_split(numbers, num_files)):
            table.iloc[rows].to_csv(place / f"{number:06d}.csv", index=False)
        return f"{place}/*.csv"

    def next_output(self) -> Path:
        """Name a new output."""
        self.num_runs += 1
        return self.folder / f"run-{self.num_runs}"

    def run(self, stage: str, output: Path, corpus: str, rows_per_file: int) -> dict[str, float]:
        """Run a stage; returns what it used."""
        unlabelled = {**FORMAT, "columns": {"id": "id", "text": "text", "time": "time"}}
        del unlabelled["labels"]
        settings = {
            "output_uri": output,
            "tracking.uri": f"sqlite:///{self.folder}/mlflow.db",
            "tracking.register_model": False,
            "format": FORMAT,
            "prepare.csv": corpus,
            "prepare.rows_per_file": rows_per_file,
            "score.corpus": corpus,
            "score.format": unlabelled,
            "score.model_uri": self.folder / "model",
            "score.keep_columns": ["time", "group"],
            "score.rows_per_file": rows_per_file,
            "trends.by": ["group", "time:week"],
        }
        flags = ["--overwrite"] if stage == "trends" else []
        used = watching.run(stage, measuring.PLAIN, *measuring.write_settings(settings), *flags)
        folder = {"prepare": "prepared", "score": "scored", "trends": "trends"}[stage]
        manifest = output / folder / "manifest.json"
        values = (*used, manifest.stat().st_size / 1000)
        figures = dict(zip(UNITS, values, strict=True))
        print(f"  {stage}: {used.seconds:.1f} s", flush=True)
        return figures

    def list_points(self, quantity: str) -> Iterator[Point]:
        """Double a quantity, and run the stages."""
        if quantity == "weeks":
            yield from self.list_weeks()
            return
        stages = ("score", "trends") if quantity == "groups" else ("prepare", "score", "trends")
        first = getattr(self.sizes, quantity)
        for doubling in range(self.sizes.doublings + 1):
            size = first << doubling
            num_rows = size if quantity == "rows" else self.sizes.rows_of_files
            num_files = size if quantity == "files" else NUM_PARTS
            num_parts = size if quantity == "parts" else NUM_PARTS
            num_groups = size if quantity == "groups" else self.sizes.groups
            table = self.corpus[:num_rows]
            corpus = self.write(f"{quantity}-{size}", table, num_files, num_groups)
            output = self.next_output()
            for stage in stages:
                figures = self.run(stage, output, corpus, -(-num_rows // num_parts))
                yield Point(quantity, size, stage, figures)

    def list_weeks(self) -> Iterator[Point]:
        """Add a file each week; yields the weeks that are powers of two."""
        output = self.next_output()
        num_weeks = 1 << self.sizes.doublings
        for week in range(1, 2 * num_weeks + 1):
            rows = self.corpus.sample(self.sizes.rows_of_week, random_state=week)
            self.write(f"weeks/{week:04d}", rows, 1)
            is_shown = week > 1 and week & (week - 1) == 0  # the first week writes the first files
            for stage in ("score", "trends"):
                corpus = f"{self.folder}/weeks/**/*.csv"
                figures = self.run(stage, output, corpus, self.sizes.rows_of_week)
                if is_shown:
                    yield Point("weeks", week, stage, figures)


def show_points(points: Sequence[Point]) -> dict[tuple[str, str, str], Fit]:
    """Print the points of a quantity and their fits; returns the fits by stage, unit, quantity."""
    fits = {}
    for stage in dict.fromkeys(point.stage for point in points):
        chosen = [point for point in points if point.stage == stage]
        quantity = chosen[0].quantity
        sizes = [point.size for point in chosen]
        print(f"\n| {stage}, {quantity} | {' | '.join(UNITS)} |\n|{'---|' * (len(UNITS) + 1)}")
        for point in chosen:
            cells = [measuring.write(point.figures[unit]) for unit in UNITS]
            print(f"| {point.size:,} | {' | '.join(cells)} |")
        last = []
        written = []
        for unit in UNITS:
            values = [point.figures[unit] for point in chosen]
            fit = Fit.through(sizes, values)
            fits[stage, unit, quantity] = fit
            last.append(f"{values[-1] / max(values[-2], 1e-3):.2f}")
            written.append(str(fit))
        print(f"| x 2 | {' | '.join(last)} |")
        print(f"| growth | {' | '.join(written)} |", flush=True)
    return fits


def make_models(
    points: Sequence[Point], fits: Mapping[tuple[str, str, str], Fit]
) -> dict[tuple[str, str], Model]:
    """Put the fits together by stage and unit."""
    models = {}
    for stage in dict.fromkeys(point.stage for point in points):
        firsts = [point for point in points if point.stage == stage]
        for unit in UNITS:
            chosen = {}
            for (of_stage, of_unit, quantity), fit in fits.items():
                is_same = (of_stage, of_unit) == (stage, unit)
                grows = quantity != "rows" or unit != "worker MB"
                if is_same and grows:
                    chosen[quantity] = fit
            models[stage, unit] = Model(firsts[0].figures[unit], chosen)
    return models


def extrapolate(models: Mapping[tuple[str, str], Model], num_cores: int) -> None:
    """Print the extrapolation, and what ends first."""
    print(f"\n| 10^9 rows on {NUM_NODES} nodes of {num_cores} cores | ", end="")
    print(f"{' | '.join(UNITS[1:])} | hours |\n|{'---|' * 7}")
    for stage in dict.fromkeys(stage for stage, _ in models):
        for name, num_errors in (("", 0), (", upper", 2)):
            values = {}
            for unit in UNITS[1:]:
                values[unit] = models[stage, unit].at(TARGET, num_errors=num_errors)
            workers = max(0.0, values["CPU s"] - values["driver CPU s"]) / (NUM_NODES * num_cores)
            hours = max(workers, values["driver CPU s"]) / 3600
            cells = [f"{values[unit]:,.0f}" for unit in UNITS[1:]]
            print(f"| {stage}{name} | {' | '.join(cells)} | {hours:.1f} |")
    for stage in dict.fromkeys(stage for stage, _ in models):
        ends = []
        for unit, limit in LIMITS.items():
            ends.append((find_end(models[stage, unit], limit, 0), unit))
        factor, unit = min(ends)
        upper = min(find_end(models[stage, unit], limit, 2) for unit, limit in LIMITS.items())
        if np.isinf(factor):
            print(f"{stage}: nothing ends below 10^15 rows by the best estimate", end="")
        else:
            print(f"{stage}: {unit} ends first, at {factor * TARGET['rows']:.2g} rows", end="")
        print(f"; two standard errors above, at {upper * TARGET['rows']:.2g} rows", flush=True)


def find_end(model: Model, limit: float, num_errors: float) -> float:
    """Find the multiple of the target at which a limit is reached; infinite above a million."""

    def is_over(factor: float) -> bool:
        target = {}
        for name, size in TARGET.items():
            target[name] = size * factor if name in GROWING else size
        return model.at(target, num_errors=num_errors) > limit

    factors = np.geomspace(1e-6, 1e6, 1201)
    over = [factor for factor in factors if is_over(factor)]
    return float(over[0]) if over else np.inf


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=[*TARGET], default=[*TARGET])
    parser.add_argument("--cores", type=int, default=16, help="cores of a node")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--points", type=Path, help="keep the points here, and use those there")
    options = parser.parse_args()
    points: list[Point] = []
    if options.points and options.points.exists():
        points = [Point(*json.loads(line)) for line in options.points.read_text().splitlines()]
    known = {point.quantity for point in points}
    missing = [quantity for quantity in options.only if quantity not in known]
    if missing:
        with measuring.open_folder() as folder:
            bench = Bench(folder, SMALL if options.small else FULL)
            for quantity in missing:
                found = [*bench.list_points(quantity)]
                points += found
                if options.points:
                    with options.points.open("a") as stream:
                        stream.writelines(f"{json.dumps(point)}\n" for point in found)
    fits = {}
    for quantity in dict.fromkeys(point.quantity for point in points):
        fits |= show_points([point for point in points if point.quantity == quantity])
    if options.small:
        print(
            "\nsizes of --small: the start of Ray hides the slopes, so do not rely on what follows"
        )
    extrapolate(make_models(points, fits), options.cores)


if __name__ == "__main__":
    main()
