"""Publishes a scored directory again and again, as jobs do: its rows stay, its files are new.

``python republisher.py FOLDER SECONDS`` prints the number of times.
"""

import secrets
import sys
import time

from sentiflow.data import manifest
from sentiflow.data.output_spec import OutputSpec
from sentiflow.data.outputs import open_output
from sentiflow.scoring.score_plan import OWNS
from sentiflow.storage import filesystem

MADE = (
    "stage", "format_version", "fingerprint", "created", "seconds", "settings", "inputs", "counts",
    "files", "versions",
)  # fmt: skip
"""Keys of the manifest that each job makes anew."""


def republish(uri: str, number: int) -> None:
    """Replace a result by the same rows in files of other names."""
    record = manifest.read(uri)
    assert record
    settings = record["settings"] | {"round": number}
    spec = OutputSpec("score", uri, settings, record["inputs"], owns=OWNS)
    with open_output(spec, overwrite=True) as output:
        output.begin()
        files = []
        for place, item in enumerate(record["files"]):
            folder = item["path"].rpartition("/")[0]
            path = f"{folder}/part-{place:05d}-{number:04x}-{secrets.token_hex(4)}.parquet"
            content = filesystem.read_bytes(f"{uri}/{item['path']}")
            filesystem.write_bytes(f"{output.parts_uri}/{path}", content)
            files.append({**item, "path": path})
        details = {key: value for key, value in record.items() if key not in MADE}
        output.publish(counts=record["counts"], files=files, seconds=0, **details)


if __name__ == "__main__":
    print("ready", flush=True)
    end = time.monotonic() + float(sys.argv[2])
    number = 0
    while time.monotonic() < end:
        number += 1
        republish(sys.argv[1], number)
    print(number, flush=True)
