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
CONFIGS = Path(__file__).parents[1] / "configs"
PLAIN = Path(__file__).with_name("plain.yaml")
RESULTS = {"prepare": "prepared", "train": "trained", "score": "scored"}


def main(
    doc: str | None,
    list_tables: Callable[[Path, argparse.Namespace], Iterable[tuple[str, Mapping[str, Way]]]],
    **options: Any,
) -> None:
    """Run a benchmark.

    Args:
        doc: The benchmark's docstring.
        list_tables: Takes a folder that is deleted afterwards and the options; gives the title and
            the contestants of each table.
        options: The default of each option, or its type; a list takes several values.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("inputs", nargs="*", type=Path)
    parser.add_argument("--repeats", type=int, default=3, help="rounds (3)")
    for name, default in options.items():
        one = default[0] if isinstance(default, list) else default
        nargs = "+" if isinstance(default, list) else None
        kind, value = (one, None) if isinstance(one, type) else (type(one), default)
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, nargs=nargs, default=value)
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
    """Run the contestants in turn, so that other load on the machine meets all of them.

    Prints a table; returns the median of each figure.
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
    """Print and return medians; with the range of the rounds, and the ratio to the first row."""
    medians = {
        name: {unit: middle([each[unit] for each in found]) for unit in found[0]}
        for name, found in rounds.items()
    }
    units = list(dict.fromkeys(unit for row in medians.values() for unit in row))
    print(f"\n| {title} | {' | '.join(f'{unit} | ratio' for unit in units)} |")
    print(f"|---|{'---|---|' * len(units)}")
    first = next(iter(medians.values()))
    for name, row in medians.items():
        cells = [name]
        for unit in units:
            found = [each[unit] for each in rounds[name] if unit in each]
            spread = f" ({write(min(found))} to {write(max(found))})" if len(found) > 1 else ""
            cells.append(write(row[unit]) + spread if found else "")
            cells.append(f"{row[unit] / first[unit]:.2f}" if found and first.get(unit) else "")
        print(f"| {' | '.join(cells)} |", flush=True)
    return medians


def write(number: float) -> str:
    """Write a number with the digits that count."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.4f}" if number < 1 else f"{number:.1f}"


def seconds_of(work: Callable[[], object]) -> float:
    """Measure the seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_processes(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Make each call in a new process of its own, all at the same time; returns their results."""
    new = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(calls), mp_context=new, max_tasks_per_child=1) as pool:
        futures = [pool.submit(call) for call in calls]
        return [future.result() for future in futures]


def peak_mb() -> float:
    """Return the most memory that this process has had, on Linux."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024 / 1e6


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
    own = {"output_uri": output, "tracking.uri": f"sqlite:///{output.parent}/mlflow.db"}
    changes = write_settings(own | {"tracking.register_model": False} | settings)
    sentiflow(verb, config, *changes, **environment)
    return json.loads((output / RESULTS[verb] / "manifest.json").read_text())


def write_settings(settings: Mapping[str, object]) -> list[str]:
    """Write settings as on a command line."""
    return [f"{key}={json.dumps(value, default=str)}" for key, value in settings.items()]


def prepare_sample(folder: Path, num_rows: int) -> Path:
    """Prepare a synthetic corpus; returns the directory of the prepared tables."""
    csv = make_csv(folder / "sample.csv", num_rows)
    run_job("prepare", folder / "run", {"prepare.csv": csv})
    return folder / "run/prepared"
