"""Requests to an object store for each part that is prepared and scored, by kind of file.

    python benchmarks/s3_requests.py [--parts 4,8] [--rows-per-part 20000]

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
READS, WRITES = ("GET", "HEAD", "LIST"), ("PUT", "PUT part", "POST", "DELETE")
_NUMBER = re.compile(r"[0-9a-f]{32}|\d{5,}")

Counts = Counter[tuple[str, str]]
"""Number of requests by operation and kind of key."""


class CountingApp:
    """The store, with a count of the requests that it gets."""

    def __init__(self) -> None:
        """Start with an empty store."""
        self.app = DomainDispatcherApplication(create_backend_app)
        self.counts: Counts = Counter()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Count a request, and answer it."""
        key = environ["PATH_INFO"].removeprefix(f"/{BUCKET}").strip("/")
        kind = _NUMBER.sub("*", key.partition("/")[2]) or "the bucket"
        self.counts[_name_operation(environ), kind] += 1
        return self.app(environ, start)


class QuietHandler(MotoRequestHandler):
    """Does not log requests."""

    def log_request(self, *_: object) -> None:
        """Log nothing."""


def _name_operation(environ: dict[str, Any]) -> str:
    """Name a request as S3 does."""
    method, query = environ["REQUEST_METHOD"], environ.get("QUERY_STRING", "")
    if method == "PUT":
        return "PUT part" if "partNumber" in query else "PUT"
    if method == "GET":
        return "LIST" if "list-type" in query else "GET"
    return method


def main() -> None:
    """Count, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default="4,8")
    parser.add_argument("--rows-per-part", type=int, default=20_000)
    options = parser.parse_args()
    app = CountingApp()
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=QuietHandler)
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
        parts = tuple(map(int, options.parts.split(",")))
        for verb, counts in measure(Path(name), app, parts, options.rows_per_part).items():
            show(verb, counts)
    server.shutdown()


def measure(
    folder: Path, app: CountingApp, parts: tuple[int, ...], rows_per_part: int
) -> dict[str, dict[int, Counts]]:
    """Prepare and score the corpora; return the requests of each command by number of parts."""
    store, _ = FileSystem.from_uri(f"s3://{BUCKET}/?allow_bucket_creation=true")
    store.create_dir(BUCKET)
    train(folder)
    found: dict[str, dict[int, Counts]] = {"prepare": {}, "score": {}}
    for num_parts in parts:
        csv = make_csv(folder / f"{num_parts}.csv", num_parts * rows_per_part, seed=num_parts)
        with store.open_output_stream(f"{BUCKET}/{num_parts}/in.csv") as stream:
            stream.write(csv.read_bytes())
        config = configure(folder, num_parts, rows_per_part)
        for verb, counts in found.items():
            app.counts.clear()
            sentiflow(verb, config)
            counts[num_parts] = Counter(app.counts)
    return found


def train(folder: Path) -> None:
    """Train a model on this disk."""
    csv = make_csv(folder / "train.csv", 5_000)
    config = write_config(
        folder / "model.yaml",
        output=folder / "model",
        prepare={"csv": str(csv)},
        train={"model": MODEL, "num_epochs": 1},
    )
    sentiflow("prepare", config)
    sentiflow("train", config)


def configure(folder: Path, num_parts: int, rows_per_part: int) -> Path:
    """Write the settings of a corpus in the store."""
    root = f"s3://{BUCKET}/{num_parts}"
    model = str(folder / "model/trained/model")
    return write_config(
        folder / f"{num_parts}.yaml",
        output=folder / str(num_parts),
        prepare={"csv": f"{root}/in.csv", "output_uri": f"{root}/prepared"}
        | {"rows_per_file": rows_per_part},
        score={"corpus": f"{root}/in.csv", "output_uri": f"{root}/scored", "model_uri": model}
        | {"rows_per_file": rows_per_part},
    )


def show(verb: str, counts: dict[int, Counts]) -> None:
    """Print the requests for a part and those of both commands by kind, then the sums."""
    (few, fewer), (many, more) = sorted(counts.items())
    print(f"\n{verb}: requests a part, and those of the commands with {few} and {many} parts")
    for kind in sorted(more | fewer, key=lambda kind: kind[::-1]):
        show_line(" ".join(kind), fewer[kind], more[kind], many - few)
    for name, operations in {"writes": WRITES, "reads": READS}.items():
        sums = (sum(c[k] for k in c if k[0] in operations) for c in (fewer, more))
        show_line(f"all {name}: {', '.join(operations)}", *sums, many - few)


def show_line(name: str, fewer: int, more: int, num_parts: int) -> None:
    """Print the requests of one kind."""
    print(f"  {(more - fewer) / num_parts:>6.2f} {fewer:>5} {more:>5}  {name}")


if __name__ == "__main__":
    main()
