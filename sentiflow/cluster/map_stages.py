"""Parts -> the map stages of a job: each part done once, also if the driver is killed.

A finished part leaves a completion marker with its result, so that the next run adopts its files
and does not repeat it.
"""

import functools
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from sentiflow.cluster import dataset
from sentiflow.cluster.dataset import Work
from sentiflow.cluster.label import Label
from sentiflow.data.outputs import MARKERS, Output
from sentiflow.progress import Progress, say
from sentiflow.storage import filesystem, lease
from sentiflow.storage.uris import join

Read = Callable[[Any], pa.Table]
Step = Callable[[pa.Table], pa.Table]
Write = Callable[[pa.Table, Label], Any]
"""Takes the last table of a part and its label, and returns what JSON can hold."""


class Marker(TypedDict):
    """What is kept of a finished part, so that a killed stage resumes."""

    key: str
    """Settings and input of the part. A marker with another key does not count."""
    files: dict[str, int]
    """Files that the work has written: their bytes by path below the output."""
    result: Any
    """What the work returned: JSON can hold it."""


_MARKER = TypeAdapter(Marker)


class MapStages:
    """The map stages of one job: work over numbered parts, with a completion marker for each."""

    def __init__(
        self,
        output: Output,
        *,
        num_workers: int | str,
        max_wait_minutes: float,
    ) -> None:
        """Describe the job.

        Args:
            output: Its output, which may have an unfinished run to resume.
            num_workers: Tasks at the same time; ``auto``: as many as there are cores.
            max_wait_minutes: How long the cluster may be without a node that could do the work.
        """
        self.stage, self.root, self.work = output.spec.stage, output.spec.uri, output.uri
        self.resumes, self.claim = output.resumes, output.claim
        self.concurrency = None if num_workers == "auto" else int(num_workers)
        self.max_wait_seconds = 60 * max_wait_minutes
        self.fresh: list[int] = []
        """Parts that the last map stage has worked on; the others had a marker."""

    def run(
        self,
        name: str,
        parts: Sequence[Any],
        read: Read,
        *steps: Step,
        write: Write,
        sizes: Sequence[int],
        unit: str = "rows",
        keys: Sequence[str],
        num_gpus: float = 0,
    ) -> list[Any]:
        """Read, process and write each part that has no completion marker of this map stage yet.

        Args:
            name: Name of the map stage.
            parts: What ``read`` takes.
            read: Reads the table of a part.
            steps: Functions of a table, in order.
            write: Takes the last table and the label of a part, and returns what JSON can hold.
            sizes: For each part: its size in units of progress.
            unit: Unit of progress.
            keys: For each part: hash of its settings and input. A marker with another key does not
                count.
            num_gpus: Share of a GPU for each part.

        Returns:
            The results by part.
        """

        def compute(part: Any) -> pa.Table:
            table = read(part)
            for step in steps:
                table = step(table)
            return table

        return self._do(
            name, parts, compute, write, sizes=sizes, unit=unit, keys=keys, num_gpus=num_gpus
        )

    def map(
        self, name: str, work: Callable[[Any], Any], parts: Sequence[Any], *, key: str
    ) -> list[Any]:
        """Do the work on each part that has no completion marker yet, and return the results.

        Args:
            name: Name of the map stage.
            work: Takes a part, and returns what JSON can hold.
            parts: Files, for the user.
            key: Hash of settings and input that all parts have in common.
        """

        def keep(result: Any, label: Label) -> Any:
            return result

        sizes, keys = [1] * len(parts), [key] * len(parts)
        return self._do(name, parts, work, keep, sizes=sizes, unit="files", keys=keys)

    def _do(
        self,
        name: str,
        parts: Sequence[Any],
        compute: Callable[[Any], Any],
        finish: Callable[[Any, Label], Any],
        *,
        sizes: Sequence[int],
        unit: str,
        keys: Sequence[str],
        num_gpus: float = 0,
    ) -> list[Any]:
        """Do the work of :meth:`run` or :meth:`map`: ``finish`` gets what ``compute`` returns."""
        results: dict[int, Any] = {}
        markers = read_markers(self.root, self.work, name) if self.resumes else {}
        for part, marker in markers.items():
            if part < len(keys) and marker["key"] == keys[part]:
                results[part] = marker["result"]
        todo = [part for part in range(len(parts)) if part not in results]
        self.fresh, left = todo, sum(sizes[part] for part in todo)
        if results and todo:
            say(
                self.stage,
                f"resumes {name}: {len(results)} of {len(sizes)} parts were done before, "
                f"{left:,} of {sum(sizes):,} {unit} are left",
            )
        done = dataset.process(
            {Label(part, keys[part]): parts[part] for part in todo},
            self._mark(compute, finish, name),
            name=name,
            max_wait_seconds=self.max_wait_seconds,
            concurrency=self.concurrency,
            num_gpus=num_gpus,
        )
        with Progress(self.stage, total=left, unit=unit) as progress:
            for part, result in done:
                results[part] = result
                progress.advance(sizes[part])
        return [results[part] for part in range(len(parts))]

    def _mark(
        self, compute: Callable[[Any], Any], finish: Callable[[Any, Label], Any], name: str
    ) -> Work:
        """Add the completion marker to the work on a part, and the check that it still may write.

        The job may have been killed, and another one have started since.
        """
        root, work, check = self.root, self.work, functools.partial(lease.check, self.claim)

        def apply(part: Any, label: Label) -> Any:
            computed = compute(part)
            with filesystem.recording(check) as sizes:
                result = finish(computed, label)
                files = {uri.removeprefix(f"{root}/"): size for uri, size in sizes.items()}
                marker: Marker = {"key": label.key, "files": files, "result": result}
                check()
                write_marker(work, name, label.number, marker)
            return result

        return apply


def read_markers(root: str, work: str, name: str) -> dict[int, Marker]:
    """Read the sound completion markers of a map stage by part, in the order of the parts.

    A marker that cannot be read, or names a file that is missing or has another size, is unsound.
    A file may have been put in place already, from the folder of the run.

    Args:
        root: The output.
        work: Folder of the run in it, which has the markers.
        name: Name of the map stage.
    """
    sizes, run = filesystem.sizes(root), f"{work.removeprefix(f'{root}/')}/"
    pattern = re.compile(rf"{re.escape(run)}{MARKERS}/{re.escape(name)}-([0-9]{{6,}})\.json")
    paths = {int(match[1]): match[0] for match in filter(None, map(pattern.fullmatch, sizes))}
    contents = filesystem.map_files(filesystem.read_bytes, [join(root, p) for p in paths.values()])
    markers = dict(zip(paths, map(_parse, contents), strict=True))
    return {
        part: marker
        for part, marker in sorted(markers.items())
        if marker
        and all(
            size in (sizes.get(path), sizes.get(path.removeprefix(run)))
            for path, size in marker["files"].items()
        )
    }


def write_marker(work: str, name: str, part: int, marker: Marker) -> None:
    """Mark a part as done, after all files of the part are stored."""
    path = join(work, MARKERS, f"{name}-{part:06d}.json")
    filesystem.write_bytes(path, json.dumps(marker).encode())


def _parse(content: bytes) -> Marker | None:
    try:
        return _MARKER.validate_python(json.loads(content), strict=True)
    except ValueError:
        return None
