"""What each stage takes for a row, a part, a file and a step: the numbers of ``docs/scaling.md``.

    python benchmarks/scaling.py [--calibrate | --only NAME ...] [--rows 400000] [--save]
    python benchmarks/scaling.py --nodes 1,2,4 [--cores-per-node 0.5] [--repeats 3] [--save]

Prints what was measured as JSON; ``--save`` puts it into ``benchmarks/scaling.json``, from which
``python benchmarks/scaling_model.py`` makes the tables and the plot. ``--calibrate`` measures what
differs from one processor to another, in two minutes, without Ray. These are measured:

- rates: the stages' own work in this process, in seconds of CPU, with few and with many parts, so
  that what a row takes and what a part takes can be told apart.
- engines: what the driver and a core take for each part of a pass that does nothing.
- messages: two training workers; the bytes that they sum in each step.
- requests: what is asked of an S3 endpoint for each part; moto answers.
- metadata: manifest, receipts and the description of the work for 160,000 made-up parts.

``--nodes`` runs ``sentiflow prepare``, ``train`` and ``score`` on so many simulated nodes
(:mod:`scaling_nodes`). Linux only; for the nodes as root.
"""

import argparse
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import patch

os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}

import numpy as np

RESULTS = Path(__file__).with_suffix(".json")
MODEL = {"cell": "gru", "hidden_size": 64, "bidirectional": True, "pooling": "mean_max"}
QUICK = {"kind": "bag_of_embeddings", "hidden_sizes": []}
"""Where it is not the network that is measured."""
BATCH_SIZE, LARGE_BATCH = 256, 2_048
MANY_PARTS = 160_000
"""Of 16 billion tweets, 100,000 in each."""


def settings_of(folder: str, csv: str, rows_per_file: int, **train: object) -> dict:
    """Write down the settings of all stages."""
    return {
        "name": "scaling",
        "output_uri": f"{folder}/run",
        "prepare": {"csv": csv, "rows_per_file": rows_per_file},
        "train": {"model": MODEL, "num_epochs": 1, "batching": {"global_batch_size": BATCH_SIZE}}
        | train,
        "score": {"rows_per_file": rows_per_file},
        "tracking": {"required": False, "register_model": False},
    }


def resolve(folder: Path, *arguments: object, place: str = "", **train: object):
    """Make a settings file, and what ``sentiflow`` makes of it; all goes to ``place``."""
    from sentiflow.config import settings

    folder.mkdir(exist_ok=True)
    path = folder / "config.yaml"
    path.write_text(json.dumps(settings_of(place or str(folder), *arguments, **train)))
    return settings.load(path, ())


def make_sample(path: Path, num_rows: int) -> Path:
    """Write a synthetic corpus."""
    from sentiflow.data import sample

    path.write_bytes(b"".join(sample.generate(num_rows=num_rows, seed=1)))
    return path


class Here:
    """An engine that does a pass in this process, and notes the CPU seconds of it."""

    def __init__(self) -> None:
        """Begin with nothing done."""
        self.seconds: dict[str, float] = defaultdict(float)
        self.numbers: dict[str, int] = Counter()

    def __call__(self, work: partial, *, num_parts: int, **options: object) -> Iterator[dict]:
        """Stand for ``part_tasks.map_parts`` and ``map_tasks``."""
        for number in range(num_parts):
            began = time.process_time()
            result = work(number)
            self.seconds[work.keywords["name"]] += time.process_time() - began
            self.numbers[work.keywords["name"]] += 1
            yield json.loads(json.dumps(result))


def run_stages(
    folder: Path,
    csv: Path | str,
    rows_per_file: int,
    after: Callable[[str], object] = lambda stage: None,
    **options: object,
) -> dict:
    """Do all stages in this process; returns CPU seconds by pass, and what the manifests say."""
    from sentiflow.cluster import part_tasks
    from sentiflow.cluster.resources import Resources
    from sentiflow.evaluation import evaluate
    from sentiflow.preparation import prepare
    from sentiflow.scoring import score
    from sentiflow.tracking.recording import Recorder
    from sentiflow.training import train as training

    config = resolve(folder, str(csv), rows_per_file, **options)
    here, recorder = Here(), Recorder()
    alone = {"recorder": recorder, "overwrite": False}
    with_one_core = alone | {"resources": Resources(1, 0, 1, 1)}
    total, records = {}, {}
    with (
        patch.object(part_tasks, "map_parts", here),
        patch.object(part_tasks, "map_tasks", here),
    ):
        for stage, arguments in (
            (prepare, alone),
            (training, with_one_core),
            (score, with_one_core),
            (evaluate, alone),
        ):
            began = time.process_time()
            records[stage.STAGE] = stage.run(config, **arguments)
            total[stage.STAGE] = time.process_time() - began
            after(stage.STAGE)
    return {"passes": dict(here.seconds), "numbers": here.numbers, "total": total} | records


def measure_rates(folder: Path, num_rows: int) -> dict:
    """Measure what a row, a part and a stage take, by few and by many parts."""
    run_stages(folder / "warm", make_sample(folder / "warm.csv", 20_000), 5_000)
    csv = make_sample(folder / "tweets.csv", num_rows)
    few = run_stages(folder / "few", csv, num_rows // 4)
    many = run_stages(folder / "many", csv, num_rows // 40, num_epochs=2)
    large = {"batching": {"global_batch_size": LARGE_BATCH}, "num_epochs": 2}
    third = run_stages(folder / "large", csv, num_rows // 40, **large)
    rates = {"cut": measure_cut(csv, num_rows)}
    for name in ("ingest", "encode", "score"):
        parts = [run["numbers"][name] for run in (few, many)]
        seconds = [run["passes"][name] for run in (few, many)]
        per_part = max(0.0, (seconds[1] - seconds[0]) / (parts[1] - parts[0]))
        per_row = (seconds[0] - per_part * parts[0]) / num_rows
        rates[name] = {"rows_per_second": 1 / per_row, "seconds_per_part": per_part}
    for name in ("find_duplicates", "count_words"):
        rates[name] = {"rows_per_second": num_rows / few["passes"][name]}
    rates["train"] = part_training(few, many, third)
    driver = few["total"]["prepare"] - sum(
        few["passes"][name] for name in ("ingest", "find_duplicates", "count_words", "encode")
    )
    rates["prepare"] = {"driver_seconds": driver}
    evaluated = few["evaluate"]["counts"]["rows"]
    rates["evaluate"] = {"rows": evaluated, "seconds": few["total"]["evaluate"]}
    return {"rows": num_rows, "rates": rates, "bytes_per_row": count_bytes(few, csv, num_rows)}


def measure_cut(csv: Path, num_rows: int) -> dict[str, float]:
    """Measure how fast a file is cut into ranges and hashed."""
    from sentiflow.config.sections import FormatSettings
    from sentiflow.data.corpus import cut_csv, plan_csv

    options = {"rows_per_part": num_rows // 4, "unpack_to": ""}
    plan = plan_csv([str(csv)], form=FormatSettings(), **options)
    began = time.process_time()
    cut_csv(plan)
    return {"rows_per_second": num_rows / (time.process_time() - began)}


def part_training(few: dict, many: dict, third: dict) -> dict[str, float]:
    """Part the time of training into start, rows and steps: of one, two and two large epochs."""
    one, two, large = (run["total"]["train"] for run in (few, many, third))
    rows, start = few["train"]["counts"]["rows"], 2 * one - two
    steps = [run["train"]["history"][-1]["step"] for run in (many, third)]
    per_step = max(0.0, (two - large) / (steps[0] - steps[1]))
    per_row = (two - start - per_step * steps[0]) / (2 * rows)
    return {
        "rows_per_second": 1 / per_row,
        "seconds_per_step": per_step,
        "seconds_of_start": start,
        "rows_per_second_at_256": 2 * rows / (two - start),
    }


def measure_imports() -> dict[str, float]:
    """Measure what a process of Ray and of each stage spends on its imports, in CPU seconds."""
    stages = {
        "prepare": "import ray, ray.data, sentiflow.passes, sentiflow.prepared_parts",
        "train": "import ray, ray.train.torch, sentiflow.train_task",
        "score": "import ray, sentiflow.passes, sentiflow.scored_parts",
    }
    found = {}
    for stage, imports in stages.items():
        code = f"{imports}; import time; print(time.process_time())"
        run = partial(subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True)
        found[stage] = min(float(run(check=True).stdout.split()[-1]) for _ in range(3))
    return found


def count_bytes(run: dict, csv: Path, num_rows: int) -> dict[str, float]:
    """Say how many bytes a row takes in each table, and what lies between the passes."""
    sizes: dict[str, int] = Counter({"csv": csv.stat().st_size})
    for stage in ("prepare", "score"):
        for item in run[stage]["files"]:
            sizes[item["path"].split("/")[0]] += item["bytes"]
    return {name: size / num_rows for name, size in sizes.items() if "/" not in name}


def peak_memory() -> int:
    """Say how many bytes this process has had at most; what its parent had does not count."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024


def measure_growth(folder: Path) -> dict:
    """Measure an evaluation on more and more rows: CPU seconds and memory."""
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import scaling;"
        "from pathlib import Path; folder = Path(sys.argv[2]);"
        "options = {'rows_per_file': 100_000, 'model': scaling.QUICK};"
        "run = scaling.run_stages(folder / 'run', folder / 'tweets.csv', **options);"
        "print(json.dumps([run['evaluate']['counts']['rows'], run['total']['evaluate'],"
        "scaling.peak_memory()]))"
    )
    found = []
    for num_rows in (50_000, 200_000, 500_000):
        own = folder / f"growth-{num_rows}"
        own.mkdir()
        make_sample(own / "tweets.csv", num_rows)
        command = [sys.executable, "-c", code, str(Path(__file__).parent), str(own)]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append(json.loads(result.stdout.splitlines()[-1]))
    rows, seconds, memory = np.array(found).T
    return {
        "rows": rows.tolist(),
        "seconds": seconds.tolist(),
        "memory": memory.tolist(),
        "rows_per_second": float((rows[-1] - rows[-2]) / (seconds[-1] - seconds[-2])),
        "seconds_of_start": float(seconds[0]),
    }


def do_nothing(part: int) -> dict:
    """Do the work of a part that has none."""
    return {"part": part}


def measure_engines() -> dict:
    """Measure what a part costs a pass: the driver's CPU seconds, and seconds between two parts."""
    from sentiflow.cluster import connection, part_tasks

    found = {}
    with connection.started(verbose=False) as resources:
        for engine, sizes in (
            (part_tasks.map_tasks, (1_000, 10_000)),
            (part_tasks.map_parts, (200, 1_500)),
        ):
            list(engine(do_nothing, num_parts=50))
            times = []
            for num_parts in sizes:
                began = time.perf_counter(), time.process_time()
                assert len(list(engine(do_nothing, num_parts=num_parts))) == num_parts
                times.append((time.perf_counter() - began[0], time.process_time() - began[1]))
            (wall, cpu), (more_wall, more_cpu) = times
            more = sizes[1] - sizes[0]
            found[engine.__name__] = {
                "parts": list(sizes),
                "seconds": [wall, more_wall],
                "driver_seconds_per_part": (more_cpu - cpu) / more,
                "seconds_per_part": (more_wall - wall) / more,
                "cores": resources.num_cpus,
            }
    return found


def train_and_count(rank: int, folder: str, job: object) -> None:
    """Train as one of two workers, and note what they send each other."""
    import torch.distributed

    from sentiflow.training import task

    group = {"init_method": f"file://{folder}/group", "rank": rank, "world_size": 2}
    torch.distributed.init_process_group("gloo", **group)
    sent: list[tuple[int, float]] = []
    reduce = torch.distributed.all_reduce

    def count(tensor: torch.Tensor, *arguments: object) -> None:
        began = time.perf_counter()
        reduce(tensor, *arguments)
        sent.append((tensor.numel() * tensor.element_size(), time.perf_counter() - began))

    torch.distributed.all_reduce = count
    result = task.run(job, lambda item: None)
    if result is not None:
        steps = result.history[-1].step
        record = {"steps": steps, "bytes": [size for size, _ in sent]}
        record["seconds"] = [seconds for _, seconds in sent]
        (Path(folder) / "sent.json").write_text(json.dumps(record))


def measure_messages(folder: Path, csv: Path | None) -> dict:
    """Count the bytes that two workers sum up in each step, of several sizes of batches.

    The words of a batch decide; synthetic tweets have few different ones.
    """
    import torch.multiprocessing

    from sentiflow.data import manifest
    from sentiflow.training.task import TrainJob

    csv = csv or make_sample(folder / "tweets.csv", 40_000)
    run_stages(folder / "run", csv, 10_000)
    found = {}
    for batch_size in (BATCH_SIZE, LARGE_BATCH):
        own = folder / f"batch-{batch_size}"
        own.mkdir()
        batching = {"global_batch_size": batch_size}
        train = {"prepared_uri": f"{folder}/run/run/prepared", "batching": batching}
        config = resolve(own, str(csv), 10_000, **train)
        prepared = manifest.read(train["prepared_uri"])
        job = TrainJob(config.train, prepared, {}, num_threads=1)
        torch.multiprocessing.spawn(train_and_count, (str(own), job), nprocs=2)
        sent = json.loads((own / "sent.json").read_text())
        own_steps = 2 * sent["steps"]
        found[str(batch_size)] = {
            "messages_per_step": 2,
            "bytes_per_step": float(np.sum(sent["bytes"][1 : 1 + own_steps]) / sent["steps"]),
            "seconds_per_message_here": float(np.median(sent["seconds"][1 : 1 + own_steps])),
        }
    network = job.settings.model
    return {"model": network.summary, "vocabulary": prepared["counts"]["vocabulary_size"]} | found


@contextmanager
def counting_bucket() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Start an S3 endpoint that notes each request: its kind, and what it is for."""
    import logging
    import threading

    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    application, seen = DomainDispatcherApplication(create_backend_app), []

    def note(environ: dict, start_response: Callable) -> object:
        method, query = environ["REQUEST_METHOD"], environ.get("QUERY_STRING", "")
        kind = "LIST" if method == "GET" and ("list-type" in query) else method
        seen.append((kind, f"{environ['PATH_INFO']}?{query}"))
        return application(environ, start_response)

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, note, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    own = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with patch.dict(os.environ, own):
        import boto3

        boto3.client("s3").create_bucket(Bucket="scaling")
        yield "s3://scaling", seen
    server.shutdown()


def measure_requests(folder: Path) -> dict:
    """Count what stages ask of S3, with few and with many parts; returns what one part adds."""
    from pyarrow import fs

    from sentiflow.preparation import partitions

    csv = make_sample(folder / "tweets.csv", 48_000)
    counts: dict[int, dict[str, Counter]] = {}
    with counting_bucket() as (bucket, seen):
        system, path = fs.FileSystem.from_uri(f"{bucket}/tweets.csv")
        with system.open_output_stream(path) as stream:
            stream.write(csv.read_bytes())
        for rows_per_file in (12_000, 3_000):
            by_stage: dict[str, Counter] = {}

            def note(stage: str, by_stage: dict = by_stage) -> None:
                found = by_stage[stage] = Counter(kind for kind, _ in seen)
                shuffled = [kind for kind, key in seen if re.search(r"_work/(keys|words)-", key)]
                found["shuffle PUT"] = shuffled.count("PUT")
                found["shuffle"] = len(shuffled) - found["shuffle PUT"]
                seen.clear()

            seen.clear()
            own, place = folder / str(rows_per_file), f"{bucket}/{rows_per_file}"
            made = run_stages(own, f"{bucket}/tweets.csv", rows_per_file, note, place=place)
            counts[made["numbers"]["ingest"]] = by_stage
    few, many = sorted(counts)
    number = [counts[parts]["prepare"]["shuffle"] / parts for parts in (few, many)]
    pieces = [2 * partitions.count(parts) for parts in (few, many)]
    per_piece = (number[1] - number[0]) / (pieces[1] - pieces[0])
    return {
        "parts": [few, many],
        "gets_per_piece": per_piece,
        "gets_of_words": number[0] - pieces[0] * per_piece,
        "per_part": {
            stage: {
                kind: (counts[many][stage][kind] - found[kind]) / (many - few)
                for kind in sorted(found | counts[many][stage])
            }
            for stage, found in counts[few].items()
        },
        "of_stage": {stage: dict(found) for stage, found in counts[few].items()},
    }


def run_command(stage: str, config: Path, **environment: str) -> float:
    """Run a stage as a user does; returns the seconds of the command."""
    began = time.perf_counter()
    result = subprocess.run(
        [sys.executable, "-m", "sentiflow", stage, str(config)],
        cwd=config.parent,
        env={name: os.environ[name] for name in os.environ if name != "RAY_ADDRESS"} | environment,
        capture_output=True,
        text=True,
    )
    if result.returncode:
        raise RuntimeError(f"{stage}: exit code {result.returncode}\n{result.stderr[-4000:]}")
    return time.perf_counter() - began


def measure_metadata(folder: Path, num_parts: int = MANY_PARTS) -> dict:
    """Measure what the driver does with the record of many made-up parts, in CPU seconds."""
    from ray import cloudpickle

    from sentiflow.cluster import completion_markers
    from sentiflow.config.sections import FormatSettings
    from sentiflow.data import manifest
    from sentiflow.data.corpus import CsvPart
    from sentiflow.data.csv_format import resolve as resolve_format
    from sentiflow.data.csv_ranges import CsvRange
    from sentiflow.preparation.prepared_parts import Job

    found: dict[str, float] = {"parts": num_parts}

    def measure(name: str, action: Callable[[], object]) -> object:
        began = time.process_time()
        result = action()
        found[f"{name}_seconds"] = time.process_time() - began
        return result

    head = make_sample(folder / "head.csv", 100).read_bytes()
    config = resolve(folder, str(folder / "head.csv"), 100_000)
    form, _ = resolve_format(FormatSettings(), head, source="head.csv")
    ranges = [CsvRange("s3://b/tweets.csv", i, i + 1, i, 1, False) for i in range(num_parts)]
    job = Job(config.prepare, tuple(CsvPart(item, form) for item in ranges))
    packed = measure("pack_work", partial(cloudpickle.dumps, job))
    found["work_bytes"] = len(packed)
    measure("unpack_work", partial(cloudpickle.loads, packed))
    result = {"part": 0, "rows": 100_000, "labels": {s: {"negative": 1} for s in ("train", "test")}}
    result["files"] = [
        {"path": f"tweets/split=train/part-{0:05d}.parquet", "rows": 1, "bytes": 1}
    ] * 3
    measure(
        "write_receipts",
        lambda: [
            completion_markers.write(str(folder), "ingest", i, result) for i in range(num_parts)
        ],
    )
    measure("read_receipts", lambda: completion_markers.read(str(folder), "ingest"))
    splits = ("train", "validation", "test")
    files = [
        {"path": f"{table}/split={split}/part-{i:05d}.parquet", "rows": 33_333, "bytes": 3_000_000}
        for table in ("tweets", "encoded")
        for split in splits
        for i in range(num_parts)
    ]
    spec = manifest.OutputSpec("prepare", str(folder / "made"), {}, {"csv": {"fingerprint": ""}})
    measure("write_manifest", lambda: manifest.publish(spec, counts={}, files=files, seconds=0))
    found["manifest_bytes"] = (folder / "made/manifest.json").stat().st_size
    measure("read_manifest", lambda: manifest.read(spec.uri))
    return found


def measure_shuffle(folder: Path) -> dict:
    """Measure what it takes to read one partition from one part, by the number of partitions."""
    import pyarrow as pa

    from sentiflow.preparation import partitions

    found = {}
    table = pa.table({"word": [f"w{i}" for i in range(20_000)], "count": np.arange(20_000)})
    for number in (16, 64, 625, 2_500):
        uri, group = str(folder / str(number)), np.arange(20_000) % number
        began = time.process_time()
        partitions.write(uri, table, group, num_partitions=number)
        wrote = time.process_time()
        partitions.read([uri] * 20, 0)
        found[str(number)] = {
            "write_seconds": wrote - began,
            "read_seconds": (time.process_time() - wrote) / 20,
        }
    return found


def measure_partition() -> dict:
    """Measure what a task takes that compares the texts of one partition: 64 parts of 100,000."""
    code = """
import json, sys, time; sys.path.insert(0, sys.argv[1])
import numpy as np, pyarrow as pa, scaling
from sentiflow import duplicates
n, random = 6_400_000, np.random.default_rng(0)
hashes = pa.array(random.integers(0, 2**64, n, np.uint64))
values = {f.name: hashes if f.type == pa.uint64() else pa.array(np.arange(n) % 2, f.type)
          for f in duplicates.KEYS}
values["row_id"] = pa.array(np.arange(n))
keys = pa.table(values, schema=duplicates.KEYS)
began = time.process_time()
duplicates.find(keys, mode="keep")
seconds = time.process_time() - began
print(json.dumps({"rows": n, "seconds": seconds, "memory": scaling.peak_memory()}))
"""
    command = [sys.executable, "-c", code, str(Path(__file__).parent)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(result.stdout)


def measure_dealing() -> dict:
    """Measure how fast a worker finds out which shards give to which batch."""
    from sentiflow.training.virtual_shards import NUM_VIRTUAL_SHARDS, TrainInput, VirtualShards

    num_rows = 8_000_000
    shards = VirtualShards(("",), (num_rows,))
    mean = num_rows / NUM_VIRTUAL_SHARDS / shards.num_chunks / 32
    counts = np.random.default_rng(0).poisson(mean, (NUM_VIRTUAL_SHARDS, shards.num_chunks, 33))
    dealt = TrainInput(shards, own=range(NUM_VIRTUAL_SHARDS), counts=counts, batch_size=BATCH_SIZE)
    began = time.process_time()
    dealt.num_steps(0)
    return {"rows_per_second": dealt.num_rows / (time.process_time() - began)}


MEASURES: dict[str, Callable[[Path, argparse.Namespace], dict]] = {
    "rates": lambda folder, given: measure_rates(folder, given.rows),
    "imports": lambda folder, given: measure_imports(),
    "growth": lambda folder, given: measure_growth(folder),
    "engines": lambda folder, given: measure_engines(),
    "messages": lambda folder, given: measure_messages(folder, given.csv),
    "requests": lambda folder, given: measure_requests(folder),
    "metadata": lambda folder, given: measure_metadata(folder),
    "shuffle": lambda folder, given: measure_shuffle(folder),
    "partition": lambda folder, given: measure_partition(),
    "dealing": lambda folder, given: measure_dealing(),
}


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--calibrate", action="store_true", help="only what a processor changes")
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--csv", type=Path, help="for messages: real tweets, with all their words")
    parser.add_argument("--nodes", help="numbers of simulated nodes, as 1,2,4")
    parser.add_argument("--cores-per-node", type=float, default=0.5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--save", action="store_true", help=f"into {RESULTS.name}")
    arguments = parser.parse_args()
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="scaling-") as folder:
        if arguments.nodes:
            import scaling_nodes

            measured = scaling_nodes.measure(
                Path(folder),
                [int(number) for number in arguments.nodes.split(",")],
                cores_per_node=arguments.cores_per_node,
                num_rows=arguments.rows,
                repeats=arguments.repeats,
            )
            known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            found["nodes"] = known.get("nodes", {}) | {str(arguments.cores_per_node): measured}
        else:
            for name in ["rates"] if arguments.calibrate else arguments.only:
                own = Path(folder) / name
                own.mkdir()
                found[name] = MEASURES[name](own, arguments)
                print(f"{name}: {json.dumps(found[name])}", file=sys.stderr)
    if arguments.save:
        known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        RESULTS.write_text(json.dumps(known | found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
