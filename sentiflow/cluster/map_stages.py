"""Work on numbered parts -> each part done once, also if the driver is killed and started again."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sentiflow.cluster import completion_markers, part_tasks
from sentiflow.cluster.part_tasks import Result
from sentiflow.progress import Progress, say

Engine = Callable[..., Iterator[Any]]
"""``part_tasks.map_parts`` or ``part_tasks.map_tasks``, with some of their options."""


class Passes:
    """The map stages of one job: work over numbered parts, with a completion marker for each."""

    def __init__(
        self, stage: str, root: str, *, resumes: bool, engine: Engine = part_tasks.map_parts
    ) -> None:
        """Describe the job.

        Args:
            stage: Its name, for progress.
            root: Its output directory.
            resumes: Whether the markers of an earlier run count, which was killed.
            engine: Runs the work.
        """
        self.stage, self.root, self.resumes, self.engine = stage, root, resumes, engine
        self.fresh: list[int] = []
        """Parts that the last map stage has worked on; the others had a marker."""

    def run(
        self,
        name: str,
        work: Callable[[int], Result],
        sizes: Sequence[tuple[int, int]],
        *,
        unit: str,
        keys: Sequence[str] | None = None,
        **options: Any,
    ) -> list[Result]:
        """Do the work on each part that has no completion marker of this map stage yet.

        Args:
            name: Of the map stage.
            work: Takes the number of a part, from 0, and returns what JSON can hold.
            sizes: By part: units of progress, and bytes.
            unit: Of progress.
            keys: By part: what it stands for. A marker with another key does not count.
            options: Of the engine.

        Returns:
            The results by part.
        """
        keys = keys or [""] * len(sizes)
        results: dict[int, Result] = self._read_markers(name, keys) if self.resumes else {}
        todo = [part for part in range(len(sizes)) if part not in results]
        self.fresh, left = todo, sum(sizes[part][0] for part in todo)
        if results and todo:
            say(
                self.stage,
                f"resumes {name}: {len(results)} of {len(sizes)} parts were done before, "
                f"{left:,} of {sum(size for size, _ in sizes):,} {unit} are left",
            )
        task = functools.partial(_run, work=work, name=name, root=self.root, parts=todo, keys=keys)
        with Progress(
            self.stage,
            total=left,
            unit=unit,
            total_bytes=sum(sizes[part][1] for part in todo),
        ) as progress:
            for index, result in self.engine(task, num_parts=len(todo), **options):
                part = todo[index]
                results[part] = result
                progress.advance(sizes[part][0], num_bytes=sizes[part][1])
        return [results[part] for part in range(len(sizes))]

    def map_parts(
        self, name: str, *, key: str = ""
    ) -> Callable[[Callable[[int], Result], Sequence[int]], Iterator[Result]]:
        """Make a function that runs a map stage over parts whose sizes in bytes are known.

        Args:
            name: Of the map stage.
            key: What all of its parts stand for.
        """

        def run(work: Callable[[int], Result], sizes: Sequence[int]) -> Iterator[Result]:
            megabytes = [(round(size / 1e6), 0) for size in sizes]
            return iter(self.run(name, work, megabytes, unit="MB", keys=[key] * len(sizes)))

        return run

    def _read_markers(self, name: str, keys: Sequence[str]) -> dict[int, Any]:
        found = completion_markers.read(self.root, name)
        return {
            part: marker["result"]
            for part, marker in found.items()
            if part < len(keys) and marker.get("key") == keys[part]
        }


def _run(
    index: int,
    *,
    work: Callable[[int], Result],
    name: str,
    root: str,
    parts: Sequence[int],
    keys: Sequence[str],
) -> tuple[int, Result]:
    """Do the work on one part and write its completion marker; runs in a task of a worker."""
    part = parts[index]
    result = work(part)
    completion_markers.write(root, name, part, {"key": keys[part], "result": result})
    return index, result
