"""``sentiflow prepare`` against a bare pyarrow script and the tutorial's loop, as ratios.

    python benchmarks/prepare.py [--csv PATH] [--rows 1600000] [--repeats 3] [--large] [--cores]

PATH must have ROWS records; by default they come from ``sentiflow sample --seed 1``. These run in
turn, each in its own process, timed from start to end:

- pyarrow: reads the six columns, tokenizes by the tutorial's rule, looks up GloVe's 10,000 most
  frequent words, writes two Parquet tables. It does not check or split anything.
- tutorial loop: ``csv.reader``, a dictionary of those words, one tensor per tweet, all in memory.
- sentiflow prepare: the whole command with default settings, including the start of Ray.
- Ray alone: starts Ray without the dashboard, as sentiflow does, runs one task, and ends Ray.
- sentiflow prepare, 2,000 rows: what a command takes that has almost nothing to do.
- ``--large``: the same with ten times the rows. ``--cores``: also on one core and on two.

Memory is the peak resident size of a process, shared memory included. Linux only.
"""

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from measuring import make_csv, take_turns, write_config
from pyarrow.csv import ConvertOptions, ParseOptions, ReadOptions, read_csv

# The rivals run this file too, so slow imports that only some need are inside of functions.

KINDS = ("driver", "worker", "other")
COLUMNS = ["target", "id", "date", "flag", "user", "text"]
PREPARE, LARGE = "sentiflow prepare", "sentiflow prepare, 10 x rows"
RAY, SMALL = "Ray alone", "sentiflow prepare, 2,000 rows"
NUM_SMALL = 2000
ONE_CORE, TWO_CORES = "sentiflow prepare, one core", "sentiflow prepare, two cores"
COUNT_CORES = """
from sentiflow.cluster import connection
with connection.started(verbose=False) as resources: print(resources.num_cpus)
"""


def run_pyarrow(path: Path, words_file: Path) -> tuple[float, int]:
    """Prepare a corpus with the least work; returns seconds without imports, and rows."""

    def decode(chunk: pa.Array) -> pa.Array:  # faster than to read all of it as latin-1
        try:
            return chunk.cast("string")
        except pa.ArrowInvalid:
            return pa.array([text.decode(errors="replace") for text in chunk.to_pylist()])

    began = time.perf_counter()
    words, texts, encoded = pa.array(words_file.read_text().splitlines()), [], []
    read, parse = ReadOptions(column_names=COLUMNS), ParseOptions(newlines_in_values=True)
    convert = ConvertOptions(column_types=dict.fromkeys(COLUMNS, "binary"))
    table = read_csv(path, read, parse, convert)
    for chunk in table["text"].chunks:
        texts.append(decode(chunk))
        apart = pc.replace_substring_regex(pc.utf8_lower(texts[-1]), r"([.,;?])", r" \1 ")
        tokens = pc.utf8_split_whitespace(apart)
        ids = pc.fill_null(pc.index_in(tokens.values, value_set=words), len(words))
        encoded.append(pa.ListArray.from_arrays(tokens.offsets, ids))
    row_id, label = np.arange(len(table)), table["target"].cast("string").cast("int8")
    for name, column in (("text", texts), ("token_ids", encoded)):
        output = {"row_id": row_id, "label": label, name: pa.chunked_array(column)}
        pq.write_table(pa.table(output), f"{name}.parquet", compression="zstd")
    return time.perf_counter() - began, len(table)


def run_loop(path: Path, words_file: Path) -> tuple[float, int]:
    """Prepare every row as the tutorial does; returns seconds without imports, and rows."""
    import torch

    began = time.perf_counter()
    word_ids = {word: i for i, word in enumerate(words_file.read_text().splitlines())}
    tweets, num_rows = [], 0
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        for row in csv.reader(file):
            num_rows += 1
            text = row[-1].replace(".", " . ").replace(",", " , ")
            text = text.replace(";", " ; ").replace("?", " ? ")
            ids = [word_ids[word] for word in text.lower().split() if word in word_ids]
            if ids:
                tweets.append((torch.tensor(ids), int(row[0] == "4")))
    return time.perf_counter() - began, num_rows


RIVALS = {"pyarrow": run_pyarrow, "tutorial loop": run_loop}
RAY_ALONE = """
import ray
ray.init(include_dashboard=False)
ray.get(ray.remote(lambda: 1).remote())
ray.shutdown()
"""


@dataclass(frozen=True)
class Run:
    """The measurements of one run of a competitor."""

    seconds: float
    """From the start of the process to its end."""
    peaks: dict[str, float]
    """GB of the largest process of each kind: driver, Ray's workers, others."""
    cpu_seconds: float
    """CPU seconds of all its processes; other load on the machine affects them less."""
    output: str = ""
    """What it printed."""
    work_seconds: float = 0.0
    """Seconds of a rival without imports; of sentiflow, those of the stage."""


def watch(pid: int, peaks: dict[str, float], cpu: dict[psutil.Process, float]) -> None:
    """Record peak memory and CPU seconds of a process and its descendants until all have ended.

    The system keeps the peak of each process; growth in its last 0.1 s is missed.
    """
    root = psutil.Process(pid)
    family = {root}
    while family:
        time.sleep(0.1)
        with suppress(psutil.Error):
            family.update(root.children(recursive=True))
        for process in list(family):
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
                peak = int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024 / 1e9
                is_worker = re.match(r"ray::(?!\w+Agent)", " ".join(process.cmdline()))
                cpu[process] = sum(process.cpu_times()[:2])
            except (OSError, IndexError, psutil.Error):
                family.remove(process)  # it has ended
                continue
            kind = "driver" if process == root else "worker" if is_worker else "other"
            peaks[kind] = max(peak, peaks[kind])


def run_python(arguments: list[str], folder: Path, num_cores: int = 0) -> Run:
    """Run Python in ``folder`` until all processes that it started have ended."""
    command, environment = [sys.executable, *arguments], dict(os.environ)
    if num_cores:  # Ray counts all cores of the machine, not only those that we may use
        cores = sorted(os.sched_getaffinity(0))[:num_cores]
        command = ["taskset", "--cpu-list", ",".join(map(str, cores)), *command]
        environment["RAY_OVERRIDE_RESOURCES"] = json.dumps({"CPU": num_cores})
    peaks, cpu = dict.fromkeys(KINDS, 0.0), {}
    with (folder / "log").open("w") as log:
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        watcher = threading.Thread(target=watch, args=(process.pid, peaks, cpu), daemon=True)
        watcher.start()
        code = process.wait()
        seconds = time.perf_counter() - began
    watcher.join(timeout=60)
    output = (folder / "log").read_text()
    if code or watcher.is_alive():
        raise RuntimeError(f"{command}: exit code {code}, or processes left\n{output[-4000:]}")
    return Run(seconds, peaks, sum(cpu.values()), output)


def check(what: str, found: list[int], expected: int) -> None:
    """Fail if a competitor did not do all of the work."""
    if set(found) != {expected}:
        raise RuntimeError(f"{what}: {found} instead of {expected}")


def measure_rival(folder: Path, name: str, path: Path, num_rows: int, words_file: Path) -> Run:
    """Run a rival, and count the rows that it read and wrote."""
    run = run_python([__file__, "--rival", name, str(path), str(words_file)], folder)
    work_seconds, rows_read = json.loads(run.output.splitlines()[-1])
    tables = ("text", "token_ids") if name == "pyarrow" else ()
    written = [pq.read_metadata(folder / f"{table}.parquet").num_rows for table in tables]
    check(f"rows of {name}", [rows_read, *written], num_rows)
    return replace(run, work_seconds=work_seconds)


def measure_prepare(folder: Path, path: Path, num_rows: int, num_cores: int = 0) -> Run:
    """Run ``sentiflow prepare``, and count the rows that it read and wrote."""
    config = folder / "config.yaml"
    write_config(config, output=folder / "run", prepare={"csv": str(path)})
    run = run_python(["-m", "sentiflow", "prepare", "config.yaml"], folder, num_cores)
    record = json.loads((folder / "run/prepared/manifest.json").read_text())
    counts = record["counts"]
    check("rows", [counts["rows_read"], counts["accepted"] + counts["rejected"]], num_rows)
    for table, count in (("tweets", "accepted"), ("encoded", "encoded")):
        files = (folder / "run/prepared" / table).rglob("*.parquet")
        written = sum(pq.read_metadata(file).num_rows for file in files)
        check(f"rows of {table}", [written], counts[count])
    return replace(run, work_seconds=record["seconds"])


def choose(arguments: argparse.Namespace, folder: Path) -> dict[str, Callable[[Path], Run]]:
    """Make the inputs; returns the competitors in order."""
    from sentiflow.words import word_vectors

    words_file, rows = folder / "words.txt", arguments.rows
    words = word_vectors.load("package:glove.6B.50d", max_words=10_000).words
    words_file.write_text("\n".join(words.to_pylist()))
    path = arguments.csv or make_csv(folder / "sample.csv", rows)
    path.read_bytes()  # now the file is in the page cache for all
    rival = partial(measure_rival, path=path, num_rows=rows, words_file=words_file)
    chosen = {name: partial(rival, name=name) for name in RIVALS}
    chosen[PREPARE] = partial(measure_prepare, path=path, num_rows=rows)
    small = make_csv(folder / "small.csv", NUM_SMALL)
    chosen[RAY] = partial(run_python, ["-c", RAY_ALONE])
    chosen[SMALL] = partial(measure_prepare, path=small, num_rows=NUM_SMALL)
    if arguments.large:
        large = make_csv(folder / "large.csv", 10 * rows)
        chosen[LARGE] = partial(measure_prepare, path=large, num_rows=10 * rows)
    for num_cores, name in ((1, ONE_CORE), (2, TWO_CORES)) if arguments.cores else ():
        output = run_python(["-c", COUNT_CORES], folder, num_cores).output
        check("cores that Ray sees", [int(output.split()[-1])], num_cores)
        chosen[name] = partial(chosen[PREPARE], num_cores=num_cores)
    return chosen


def summarize(runs: list[Run]) -> Run:
    """Take the medians of the times and the maxima of the memory."""
    names = ("seconds", "cpu_seconds", "work_seconds")
    medians = {name: median(getattr(run, name) for run in runs) for name in names}
    return Run(peaks={kind: max(run.peaks[kind] for run in runs) for kind in KINDS}, **medians)


def compare(results: dict[str, Run]) -> Iterator[tuple[str, str, float]]:
    """List what is measured, its goal, and the result."""
    pyarrow, loop, prepare = (results[name] for name in (*RIVALS, PREPARE))
    ray, small = results[RAY].seconds, results[SMALL].seconds
    yield "stage to pyarrow", "at most 1.6", prepare.work_seconds / pyarrow.seconds
    allowed = 1.5 * pyarrow.seconds + 1.25 * ray + 1
    yield (
        "command to 1.5 x pyarrow + 1.25 x Ray alone + 1 s",
        "at most 1",
        prepare.seconds / allowed,
    )
    yield "2,000 rows to Ray alone", "at most 1.25", small / ray
    yield "tutorial loop to command", "at least 2.5", loop.seconds / prepare.seconds
    if large := results.get(LARGE):
        per_row = large.work_seconds / prepare.work_seconds / 10
        yield "ten times the rows: stage per row", "at most 1.15", per_row
        for kind in ("driver", "worker"):
            growth = large.peaks[kind] / prepare.peaks[kind]
            yield f"ten times the rows: memory of {kind}", "about 1", growth
    if one := results.get(ONE_CORE):
        two = results[TWO_CORES]
        yield "stage, one core to two", "at least 1.7", one.work_seconds / two.work_seconds
        yield "command, one core to two", "at least 1.7", one.seconds / two.seconds
    ours = [run for name, run in results.items() if name not in (*RIVALS, RAY)]
    largest = max(max(run.peaks.values()) for run in ours)
    yield "largest process of sentiflow, GB", "under 1.5", largest


def show(runs: dict[str, list[Run]]) -> None:
    """Print the times and memory, then each ratio beside its goal."""
    results = {name: summarize(runs[name]) for name in runs}
    print("| | seconds | from, to | work or stage | CPU | to pyarrow | GB: driver, worker, other |")
    print("|---|---|---|---|---|---|---|")
    for name, run in results.items():
        times = sorted(other.seconds for other in runs[name])
        row = [name, f"{run.seconds:.1f}", f"{times[0]:.1f}, {times[-1]:.1f}"]
        row += [f"{run.work_seconds:.1f}", f"{run.cpu_seconds:.1f}"]
        ratio = run.seconds / results["pyarrow"].seconds
        row.append("" if name in (LARGE, RAY, SMALL) else f"{ratio:.2f}")
        row.append(", ".join(f"{run.peaks[kind]:.2f}" for kind in KINDS))
        print(f"| {' | '.join(row)} |")
    print("\n| ratio | goal | result |\n|---|---|---|")
    for ratio, goal, reached in compare(results):
        print(f"| {ratio} | {goal} | {reached:.2f} |")


def in_own_folder(measure: Callable[[Path], Run]) -> Run:
    """Run a competitor in a new folder."""
    with tempfile.TemporaryDirectory() as folder:
        return measure(Path(folder))


def main() -> None:
    """Run the competitors in turn, and print the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--csv", type=lambda path: Path(path).resolve())
    parser.add_argument("--rows", type=int, default=1_600_000)
    parser.add_argument("--repeats", type=int, default=3)
    for option in ("--large", "--cores"):
        parser.add_argument(option, action="store_true")
    parser.add_argument("--rival", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rival:
        name, *paths = arguments.rival
        print(json.dumps(RIVALS[name](*map(Path, paths))))
        return
    with tempfile.TemporaryDirectory(prefix="prepare-") as folder:
        competitors = choose(arguments, Path(folder))
        runs = take_turns(
            {n: partial(in_own_folder, c) for n, c in competitors.items()}, arguments.repeats
        )
    show(runs)


if __name__ == "__main__":
    main()
