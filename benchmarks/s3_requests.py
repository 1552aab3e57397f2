"""Requests to an object store for each part that is prepared and scored.

    python benchmarks/s3_requests.py [--parts 4 8]

The store is moto's S3 server in this process, which counts the requests. Corpus and outputs are in
the store, the model is on the disk. The commands prepare and score a small and a larger corpus. The
difference in requests divided by the difference in parts is the cost of a part. The rest does not
depend on the number of parts. Each request counts, as a store bills it.
"""

import logging
import os
import threading
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from measuring import PLAIN, Table, main, make_csv, run_job, sentiflow, write_settings
from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from pyarrow.fs import FileSystem
from werkzeug.serving import make_server

BUCKET = "store"
MODEL = {"cell": "rnn", "hidden_size": 8, "bidirectional": False, "pooling": "last"}
KINDS = {
    "GET": "reads",
    "HEAD": "reads",
    "PUT": "writes",
    "POST": "writes",
    "DELETE": "writes",
}
ROWS_PER_PART = 20_000

COUNTS: Counter[str] = Counter()
"""Reads and writes since it was last cleared."""
STORE = DomainDispatcherApplication(create_backend_app)


def count(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    """Count a request, and let the store answer it."""
    kind = KINDS[environ["REQUEST_METHOD"]]
    COUNTS[kind] += 1
    return STORE(environ, start)


def list_settings(folder: Path, num_parts: int) -> dict[str, object]:
    """Write a corpus into the store; returns the settings that prepare and score it."""
    csv = make_csv(folder / f"{num_parts}.csv", num_parts * ROWS_PER_PART, seed=num_parts)
    root = f"s3://{BUCKET}/{num_parts}"
    file_system, path = FileSystem.from_uri(f"{root}/in.csv")
    with file_system.open_output_stream(path) as stream:
        stream.write(csv.read_bytes())
    return {
        "output_uri": root,
        "tracking.uri": f"sqlite:///{folder}/mlflow.db",
        "prepare.csv": f"{root}/in.csv",
        "prepare.rows_per_file": ROWS_PER_PART,
        "score.corpus": f"{root}/in.csv",
        "score.rows_per_file": ROWS_PER_PART,
        "score.model_uri": folder / "model",
    }


def start_store(folder: Path) -> None:
    """Start the store, name it to this process and its children, and make the bucket."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, count, True, request_handler=MotoRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "XDG_CACHE_HOME": f"{folder}/cache",
    }
    file_system, _ = FileSystem.from_uri(f"s3://{BUCKET}/?allow_bucket_creation=true")
    file_system.create_dir(BUCKET)


def measure(folder: Path, options: Namespace) -> Iterable[Table]:
    """Prepare and score both corpora, and print the requests of each command."""
    few, many = options.parts
    start_store(folder)
    settings = {
        "prepare.csv": make_csv(folder / "train.csv", 5_000),
        "train.model": MODEL,
        "train.num_epochs": 1,
    }
    for verb in ("prepare", "train"):
        run_job(verb, folder / "model", settings)
    found: dict[tuple[str, int], Counter[str]] = {}
    for num_parts in (few, many):
        changes = write_settings(list_settings(folder, num_parts))
        for verb in ("prepare", "score"):
            COUNTS.clear()
            sentiflow(verb, PLAIN, *changes)
            found[verb, num_parts] = Counter(COUNTS)
    print("\n| | each part | the rest |\n|---|---|---|")
    for verb in ("prepare", "score"):
        for kind in ("writes", "reads"):
            of_few = found[verb, few][kind]
            of_many = found[verb, many][kind]
            of_part = (of_many - of_few) / (many - few)
            rest = of_few - few * of_part
            print(f"| {verb}, {kind} | {of_part:.1f} | {rest:.1f} |")
    return ()


if __name__ == "__main__":
    main(__doc__, measure, parts=[4, 8])
