"""CPU seconds that manifests take in a scoring of prepared data: manifests.py 10000 40000.

The directory is synthetic: only its manifest exists, with seven files for each part, as `prepare`
lists them. Measured is what the driver and all tasks of `score` do with it: the plan, the check
of each part, the commit; and the manifest of the predictions. "Before" is a part that reads the
whole manifest, measured a few times and multiplied.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sentiflow.data import input_files, manifest, manifest_content
from sentiflow.data.manifest_types import FileEntry, Manifest

_PATHS = (
    *(f"{kind}/split={split}" for kind in ("tweets", "encoded") for split in ("train", "test")),
    *(f"{kind}/split=validation" for kind in ("tweets", "encoded")),
    "rejected",
)
_NUM_BEFORE = 5
"""Parts that read the whole manifest."""


def make_record(num_parts: int) -> Manifest:
    """Make the manifest of prepared data of so many parts."""
    files: list[FileEntry] = []
    for number in range(num_parts):
        name = f"part-{number:05d}-0123456789abcdef-{number:08x}.parquet"
        for path in _PATHS:
            files.append({"path": f"{path}/{name}", "rows": 1000, "bytes": 123_456})
    return manifest.make("prepare", {}, {}, counts={}, files=files)


def measure(work: Callable[[], object]) -> float:
    """Measure the CPU seconds of this process."""
    began = time.process_time()
    work()
    return time.process_time() - began


def main() -> None:
    """Print a line for each number of parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", type=int, nargs="+")
    for num_parts in parser.parse_args().parts:
        with tempfile.TemporaryDirectory() as folder:
            compare(folder, num_parts)


def compare(folder: str, num_parts: int) -> None:
    """Measure a scoring of so many parts, before and now."""
    path = Path(folder) / manifest.MANIFEST
    path.write_bytes(manifest.to_json(make_record(num_parts)))
    sizes = {item["path"]: item["bytes"] for item in make_record(num_parts)["files"]}
    found: list[Manifest] = []

    def plan() -> None:
        record = manifest.read(folder)
        assert record
        manifest.find_damaged(folder, record, sizes)
        found.append(record)

    start = measure(plan)
    described = manifest.reference(folder, found[0])
    watched = input_files.watch(described)

    def check(parts: int, directory: dict) -> None:
        for _ in range(parts):
            input_files.check_part(directory, ())

    checks = measure(lambda: check(num_parts, watched))
    before = measure(lambda: check(_NUM_BEFORE, described)) / _NUM_BEFORE * num_parts
    commit = measure(lambda: manifest.read_input({"corpus": described}, "corpus"))
    predictions = found[0]["files"][: 2 * num_parts]

    def publish() -> None:
        record = manifest.make("score", {}, {}, counts={}, files=predictions)
        manifest_content.parse(manifest.to_json(record), "scored", directories=())

    own = measure(publish)
    total = start + checks + commit + own
    print(
        f"{num_parts:,} parts, {path.stat().st_size / 1e6:.0f} MB: {total:.1f} s "
        f"(plan {start:.2f}, parts {checks:.2f}, commit {commit:.2f}, predictions {own:.2f}); "
        f"with a reading by each part: {before:,.0f} s"
    )


if __name__ == "__main__":
    main()
