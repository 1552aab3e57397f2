"""Parts of a corpus -> their results: a map stage does each part once.

A finished part leaves a completion marker with its result, so that the next run keeps its files
and does not repeat the work.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from sentiflow.cluster.markers import Marker, read_markers, write_marker
from sentiflow.cluster.parts_on_ray import PartId, process
from sentiflow.data.outputs import Output
from sentiflow.progress import Progress, say
from sentiflow.storage import filesystem, lease
from sentiflow.storage.uris import join

_NOTES = "losses"
"""Folder of the unfinished output with notes about lost workers."""


class Pass(NamedTuple):
    """A pass over the rows of a corpus."""

    number: int = 1
    """Counted from 1."""
    total: int = 1
    """Passes of the whole job."""

    def __str__(self) -> str:
        """Number the pass for the user; empty if it is the only one."""
        return f"pass {self.number} of {self.total}" if self.total > 1 else ""


class MapStages:
    """The map stages of one job: work over numbered parts, with a completion marker for each."""

    def __init__(
        self,
        output: Output,
        *,
        num_workers: int | str,
        max_wait_minutes: float,
        watch: Callable[[Pass, int], None] = lambda nth, num_rows: None,
    ) -> None:
        """Take the settings of the job.

        Args:
            output: The output of the job, which may have an unfinished run to resume.
            num_workers: Number of tasks at the same time; ``auto``: as many as there are cores.
            max_wait_minutes: How long the cluster may be without a node that could do the work.
            watch: Called with a pass when it begins, and after each part; and with its rows that
                are done so far.
        """
        self.output = output
        self.concurrency = None if num_workers == "auto" else int(num_workers)
        self.max_wait_seconds = 60 * max_wait_minutes
        self.watch = watch
        self.fresh: list[int] = []
        """Parts that the last map stage worked on, by number; the others were done before it."""

    def run(
        self,
        name: str,
        parts: Sequence[Any],
        read: Callable[[Any], pa.Table],
        *steps: Callable[[pa.Table], pa.Table],
        write: Callable[[pa.Table, PartId], Any],
        sizes: Sequence[int],
        unit: str = "rows",
        keys: Sequence[str],
        num_gpus: float = 0,
        nth: Pass | None = None,
    ) -> list[Any]:
        """Read, process and write each part that has no completion marker of this map stage yet.

        Args:
            name: Name of the map stage.
            parts: The arguments of ``read``.
            read: Reads the table of a part.
            steps: Functions of a table, in order.
            write: Takes the table of the last step and the id of the part; returns a value of JSON.
            sizes: Size of each part in units of progress.
            unit: Unit of progress.
            keys: Hash of settings and input of each part. A marker with another key does not count.
            num_gpus: Share of a GPU for each part.
            nth: The pass over the rows, if the units are rows of the corpus.

        Returns:
            The results by part.
        """
        results = self._read_results(name, keys)
        todo = [number for number in range(len(parts)) if number not in results]
        self.fresh = todo
        size_left = sum(sizes[number] for number in todo)
        stage = self.output.spec.stage
        if results and todo:
            say(
                stage,
                f"resumes {name}: {len(results)} of {len(sizes)} parts were done before, "
                f"{size_left:,} of {sum(sizes):,} {unit} are left",
            )
        done = process(
            {PartId(number, keys[number]): parts[number] for number in todo},
            self._make_work(name, read, steps, write),
            notes_uri=join(self.output.uri, _NOTES),
            name=name,
            max_wait_seconds=self.max_wait_seconds,
            concurrency=self.concurrency,
            num_gpus=num_gpus,
        )
        with Progress(stage, what=str(nth or ""), total=size_left, unit=unit) as progress:
            if nth:
                self.watch(nth, 0)
            for number, result in done:
                results[number] = result
                progress.advance(sizes[number])
                if nth:
                    self.watch(nth, progress.done)
        return [results[number] for number in range(len(parts))]

    def list_unfinished(self, name: str, keys: Sequence[str]) -> list[int]:
        """List the numbers of the parts that :meth:`run` would work on, given the same keys."""
        results = self._read_results(name, keys)
        return [number for number in range(len(keys)) if number not in results]

    def _read_results(self, name: str, keys: Sequence[str]) -> dict[int, Any]:
        """Read the results of the parts that an unfinished run has done with the same keys."""
        results: dict[int, Any] = {}
        if self.output.resumes:
            for number, marker in read_markers(self.output.spec.uri, self.output.uri, name).items():
                if number < len(keys) and marker["key"] == keys[number]:
                    results[number] = marker["result"]
        return results

    def _make_work(
        self,
        name: str,
        read: Callable[[Any], pa.Table],
        steps: Sequence[Callable[[pa.Table], pa.Table]],
        write: Callable[[pa.Table, PartId], Any],
    ) -> Callable[[Any, PartId], Any]:
        """Make the work of a task from the functions of :meth:`run`."""
        # Local names: with ``self``, each task would get a copy of the whole output.
        root = self.output.spec.uri
        folder = self.output.uri
        claim = self.output.claim

        def work(part: Any, part_id: PartId) -> Any:
            """Do the work on a part, if this job still owns the output; mark the part as done."""
            with filesystem.recording(lambda: lease.check(claim)) as written:
                table = read(part)
                for step in steps:
                    table = step(table)
                result = write(table, part_id)
                files = {uri.removeprefix(f"{root}/"): size for uri, size in written.items()}
                lease.check(claim)  # another job may have taken over the output
                marker: Marker = {"key": part_id.key, "files": files, "result": result}
                write_marker(folder, name, part_id.number, marker)
            return result

        return work

    def map(
        self,
        name: str,
        work: Callable[[Any], Any],
        parts: Sequence[Any],
        *,
        key: str,
        unit: str = "files",
    ) -> list[Any]:
        """Do the work on each part that has no completion marker yet; return the results by part.

        Unlike :meth:`run`, it has one function that reads, works and writes.

        Args:
            name: Name of the map stage.
            work: Takes a part, and returns a value of JSON.
            parts: The arguments of ``work``.
            key: Hash of the settings and the input of all parts.
            unit: Unit of progress: the user's word for a part.
        """
        return self.run(
            name,
            parts,
            work,
            write=lambda done, _: done,
            sizes=[1] * len(parts),
            unit=unit,
            keys=[key] * len(parts),
        )
