"""Requests to an object store for each part that is prepared and scored, by kind of file.

    python benchmarks/s3_requests.py [--parts 4 8] [--rows-per-part 20000]

The store is moto's S3 server in this process, which counts; corpus and outputs are in it, the model
on the disk. A small and a larger corpus are prepared and scored by the commands. The difference
divided by that of their parts is what a part costs. Each request counts, as a store bills it.
"""

import argparse
import os
import re
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from measuring import make_csv, sentiflow, write_config
from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from pyarrow.fs import FileSystem
from werkzeug.serving import make_server

BUCKET = "store"
MODEL = {"cell": "rnn", "hidden_size": 8, "bidirectional": False, "pooling": "last"}
WRITES = ("PUT", "POST", "DELETE")
VERBS = ("prepare", "score")


class CountingStore:
    """The store, with a count of the requests that it gets, by method and kind of key."""

    def __init__(self) -> None:
        """Start with an empty store."""
        self.app = DomainDispatcherApplication(create_backend_app)
        self.counts: Counter[tuple[str, str]] = Counter()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Count a request, and answer it."""
        key = environ["PATH_INFO"].removeprefix(f"/{BUCKET}").strip("/").partition("/")[2]
        kind = re.sub(r"[0-9a-f]{32}|\d{5,}", "*", key) or "the bucket"
        self.counts[environ["REQUEST_METHOD"], kind] += 1
        return self.app(environ, start)


class QuietHandler(MotoRequestHandler):
    """Does not log requests."""

    def log_request(self, *_: object) -> None:
        """Log nothing."""


def configure(folder: Path, num_parts: int, rows_per_part: int) -> Path:
    """Write a corpus into the store, and the settings that prepare and score it."""
    csv = make_csv(folder / f"{num_parts}.csv", num_parts * rows_per_part, seed=num_parts)
    root = f"s3://{BUCKET}/{num_parts}"
    file_system, path = FileSystem.from_uri(f"{root}/in.csv")
    with file_system.open_output_stream(path) as stream:
        stream.write(csv.read_bytes())
    both = {"rows_per_file": rows_per_part}
    return write_config(
        folder / f"{num_parts}.json",
        output=folder / str(num_parts),
        prepare=both | {"csv": f"{root}/in.csv", "output_uri": f"{root}/prepared"},
        score=both | {"corpus": f"{root}/in.csv", "output_uri": f"{root}/scored"}
        | {"model_uri": f"{folder}/model/trained/model"},
    )  # fmt: skip


def measure(folder: Path, store: CountingStore, options: Any) -> None:
    """Prepare and score both corpora, and print the requests of each command."""
    file_system, _ = FileSystem.from_uri(f"s3://{BUCKET}/?allow_bucket_creation=true")
    file_system.create_dir(BUCKET)
    sections = {"prepare": {"csv": str(make_csv(folder / "train.csv", 5_000))}}
    sections["train"] = {"model": MODEL, "num_epochs": 1}
    model = write_config(folder / "model.json", output=folder / "model", **sections)
    for verb in ("prepare", "train"):
        sentiflow(verb, model)
    found: dict[str, list[Counter[tuple[str, str]]]] = {verb: [] for verb in VERBS}
    for num_parts in options.parts:
        config = configure(folder, num_parts, options.rows_per_part)
        for verb in VERBS:
            store.counts.clear()
            sentiflow(verb, config)
            found[verb].append(Counter(store.counts))
    few, many = options.parts
    for verb, (fewer, more) in found.items():
        print(f"\n| {verb} | for each part | {few} parts | {many} parts |\n|---|---|---|---|")
        kinds = {f"{a} {b}": (fewer[a, b], more[a, b]) for a, b in sorted(fewer | more)}
        for name, are_writes in (("**writes**", True), ("**reads**", False)):
            kinds[name] = tuple(
                sum(c[kind] for kind in c if (kind[0] in WRITES) == are_writes)
                for c in (fewer, more)
            )
        for name, (a, b) in kinds.items():
            print(f"| {name} | {(b - a) / (many - few):.2f} | {a} | {b} |")


def main() -> None:
    """Count, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", type=int, nargs=2, default=[4, 8])
    parser.add_argument("--rows-per-part", type=int, default=20_000)
    options = parser.parse_args()
    store = CountingStore()
    server = make_server("127.0.0.1", 0, store, threaded=True, request_handler=QuietHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with tempfile.TemporaryDirectory() as name:
        os.environ["XDG_CACHE_HOME"] = f"{name}/cache"
        measure(Path(name), store, options)
    server.shutdown()


if __name__ == "__main__":
    main()
