"""What the benchmarks share: synthetic corpora, commands as a user runs them, and turns."""

import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")


def sentiflow(verb: str, *arguments: object, **environment: str) -> str:
    """Run a command of sentiflow; returns what it printed.

    Raises:
        RuntimeError: The command failed.
    """
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


def write_config(path: Path, *, output: Path, **sections: object) -> Path:
    """Write a settings file; results and the MLflow store go below ``output``."""
    config = {
        "name": "benchmark",
        "output_uri": str(output),
        "tracking": {"uri": f"sqlite:///{output.parent}/mlflow.db", "register_model": False},
    }
    path.write_text(json.dumps(config | sections))
    return path


def import_fasttext() -> ModuleType:
    """Import fastText, a rival.

    Raises:
        SystemExit: It is not installed.
    """
    try:
        return importlib.import_module("fasttext")
    except ImportError:
        raise SystemExit("fastText is not installed: pip install 'sentiflow[bench]'") from None


def take_turns(contestants: Mapping[str, Callable[[], T]], repeats: int) -> dict[str, list[T]]:
    """Run the contestants in turn, so that other load on the machine meets all of them."""
    results: dict[str, list[T]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, run in contestants.items():
            began = time.perf_counter()
            results[name].append(run())
            print(f"  {name}: {time.perf_counter() - began:.1f} s", file=sys.stderr)
    return results


def seconds_of(work: Callable[[], object]) -> float:
    """Measure the seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def show_rates(title: str, rates: Mapping[str, list[float]], *, unit: str) -> None:
    """Print medians and ranges, and the ratio of each median to the first."""
    medians = {name: statistics.median(found) for name, found in rates.items()}
    first = next(iter(medians.values()))
    digits = 0 if first >= 100 else 2
    print(f"\n{title}")
    for name, found in rates.items():
        spread = f"{min(found):,.{digits}f} to {max(found):,.{digits}f}"
        rate, ratio = f"{medians[name]:>11,.{digits}f} {unit}", medians[name] / first
        print(f"  {name:<34} {rate} ({spread}) {ratio:>6.2f}", flush=True)
