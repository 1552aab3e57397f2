"""What the benchmarks share: commands as a user runs them, rounds in turn, one table."""

import argparse
import json
import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Figures = Mapping[str, float]
"""What one run measures, by its unit: ``{"rows/s": 1200.0, "MB": 310.0}``."""
Way = Callable[[], Figures]
"""A contestant: one call is one run."""
Table = tuple[str, Mapping[str, Way]]
"""The title of a table, and its contestants by name."""
CONFIGS = Path(__file__).parents[1] / "configs"
PLAIN = Path(__file__).with_name("plain.yaml")
"""Settings that a benchmark changes."""
RESULTS = {"prepare": "prepared", "train": "trained", "score": "scored"}
"""Folder of the results of each command."""


def main(
    doc: str | None,
    list_tables: Callable[[Path, argparse.Namespace], Iterable[Table]],
    **options: Any,
) -> None:
    """Run a benchmark.

    Args:
        doc: The benchmark's docstring.
        list_tables: Takes a folder that is deleted afterwards and the options; returns the tables
            to measure.
        options: The default of each option, or its type if it has no default. An option whose
            default is a list takes several values.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("inputs", nargs="*", type=Path)
    parser.add_argument("--repeats", type=int, default=3, help="rounds (3)")
    for name, default in options.items():
        is_list = isinstance(default, list)
        one = default[0] if is_list else default
        has_default = not isinstance(one, type)
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(one) if has_default else one,
            nargs="+" if is_list else None,
            default=default if has_default else None,
        )
    given = parser.parse_args()
    with open_folder() as folder:
        for title, contestants in list_tables(folder, given):
            compare(title, contestants, given.repeats)


@contextmanager
def open_folder() -> Iterator[Path]:
    """Make a folder that is deleted afterwards."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name).resolve()


def compare(
    title: str, contestants: Mapping[str, Way], repeats: int
) -> dict[str, dict[str, float]]:
    """Run the contestants in turn, print a table, and return the median of each figure.

    They take turns so that other load on the machine slows all of them.
    """
    rounds: dict[str, list[Figures]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, run in contestants.items():
            began = time.perf_counter()
            rounds[name].append(run())
            print(f"  {name}: {time.perf_counter() - began:.1f} s", file=sys.stderr)
    return show(title, rounds)


def show(
    title: str,
    rounds: Mapping[str, list[Figures]],
    middle: Callable[[Iterable[float]], float] = statistics.median,
) -> dict[str, dict[str, float]]:
    """Print a table, and return its medians.

    A cell has the median, and the range of the rounds. Beside it is the ratio to the first row.

    Args:
        title: The title of the table.
        rounds: The figures of each round, by contestant.
        middle: Computes the middle of the rounds instead of the median.
    """
    medians = {}
    for name, found in rounds.items():
        medians[name] = {unit: middle([each[unit] for each in found]) for unit in found[0]}
    units: list[str] = []
    for row in medians.values():
        units += [unit for unit in row if unit not in units]
    print(f"\n| {title} | {' | '.join(f'{unit} | ratio' for unit in units)} |")
    print(f"|---|{'---|---|' * len(units)}")
    first = next(iter(medians.values()))
    for name, row in medians.items():
        cells = [name]
        for unit in units:
            figure = ""
            ratio = ""
            if unit in row:
                figure = write_range(row[unit], [each[unit] for each in rounds[name]])
                if first.get(unit):
                    ratio = f"{row[unit] / first[unit]:.2f}"
            cells += [figure, ratio]
        print(f"| {' | '.join(cells)} |", flush=True)
    return medians


def write_range(middle: float, found: Sequence[float]) -> str:
    """Write the middle of several rounds and, if there are several, their range."""
    text = write(middle)
    if len(found) > 1:
        text += f" ({write(min(found))} to {write(max(found))})"
    return text


def write(number: float) -> str:
    """Write a number with the digits that count."""
    if number >= 100:
        return f"{number:,.0f}"
    if number < 1:
        return f"{number:.4f}"
    return f"{number:.1f}"


def seconds_of(work: Callable[[], object]) -> float:
    """Measure the seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_processes(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Make each call in a new process, all at the same time; returns their results."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(calls), mp_context=spawn, max_tasks_per_child=1) as pool:
        futures = [pool.submit(call) for call in calls]
        return [future.result() for future in futures]


def peak_mb() -> float:
    """Return the peak memory of this process, on Linux."""
    status = Path("/proc/self/status").read_text()
    kilobytes = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(kilobytes[0]) * 1024 / 1e6


def sentiflow(verb: str, *arguments: object, **environment: str) -> str:
    """Run a command of sentiflow; returns what it printed."""
    return python("-m", "sentiflow", verb, *arguments, **environment)


def python(*arguments: object, **environment: str) -> str:
    """Run Python; returns what it printed.

    Raises:
        RuntimeError: It failed.
    """
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    if done.returncode:
        line = " ".join(command[1:])
        raise RuntimeError(f"{line}: exit code {done.returncode}\n{done.stderr[-4000:]}")
    return done.stdout


def make_csv(path: Path, num_rows: int, *, seed: int = 1) -> Path:
    """Write a synthetic corpus."""
    sentiflow("sample", path, "--rows", num_rows, "--seed", seed)
    return path


def run_job(
    verb: str,
    output: Path,
    settings: Mapping[str, object],
    *,
    config: Path = PLAIN,
    **environment: str,
) -> dict[str, Any]:
    """Run a job on a config with changed settings; returns the manifest of its result.

    The results are in ``output``, MLflow's store is beside it. A job that is complete is skipped.
    """
    changes = {
        "output_uri": output,
        "tracking.uri": f"sqlite:///{output.parent}/mlflow.db",
        "tracking.register_model": False,
        **settings,
    }
    sentiflow(verb, config, *write_settings(changes), **environment)
    manifest = output / RESULTS[verb] / "manifest.json"
    return json.loads(manifest.read_text())


def write_settings(settings: Mapping[str, object]) -> list[str]:
    """Write settings as on a command line."""
    return [f"{key}={json.dumps(value, default=str)}" for key, value in settings.items()]


def prepare_sample(folder: Path, num_rows: int) -> Path:
    """Prepare a synthetic corpus; returns the directory of the prepared tables."""
    csv = make_csv(folder / "sample.csv", num_rows)
    run_job("prepare", folder / "run", {"prepare.csv": csv})
    return folder / "run/prepared"
