"""Work on numbered parts -> each part done once, also if the driver is killed and started again."""

from __future__ import annotations

import concurrent.futures
import functools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypedDict

from sentiflow.cluster import part_tasks
from sentiflow.cluster.part_tasks import Result
from sentiflow.progress import Progress, say
from sentiflow.storage import filesystem
from sentiflow.storage.uris import join

MARKERS = "_work/receipts"
"""Folder of the completion markers, below the stage's directory. The stage owns ``_work``."""

_READ_AT_ONCE = 16
"""An object store answers slowly, but to many requests at once."""


class Marker(TypedDict):
    """What is kept of a finished part, so that a killed stage resumes."""

    key: str
    """Settings and input of the part. A marker with another key does not count."""
    result: Any
    """What the work returned: JSON can hold it."""


class Passes:
    """The map stages of one job: work over numbered parts, with a completion marker for each."""

    def __init__(
        self,
        stage: str,
        root: str,
        *,
        resumes: bool,
        num_workers: int | str,
        max_wait_minutes: float,
    ) -> None:
        """Describe the job.

        Args:
            stage: Its name, for progress.
            root: Its output directory.
            resumes: Whether the markers of an earlier run count, which was killed.
            num_workers: Tasks at the same time; ``auto``: as many as there are cores.
            max_wait_minutes: How long the cluster may be without a node that could do the work.
        """
        self.stage, self.root, self.resumes = stage, root, resumes
        self.concurrency = None if num_workers == "auto" else int(num_workers)
        self.max_wait_seconds = 60 * max_wait_minutes
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
        num_gpus: float = 0,
    ) -> list[Result]:
        """Do the work on each part that has no completion marker of this map stage yet.

        Args:
            name: Of the map stage.
            work: Takes the number of a part, from 0, and returns what JSON can hold.
            sizes: By part: units of progress, and bytes.
            unit: Of progress.
            keys: By part: what it stands for. A marker with another key does not count.
            num_gpus: Share of a GPU for each part.

        Returns:
            The results by part.
        """
        keys = keys or [""] * len(sizes)
        results: dict[int, Result] = {}
        for part, marker in read_markers(self.root, name).items() if self.resumes else ():
            if part < len(keys) and marker["key"] == keys[part]:
                results[part] = marker["result"]
        todo = [part for part in range(len(sizes)) if part not in results]
        self.fresh, left = todo, sum(sizes[part][0] for part in todo)
        if results and todo:
            say(
                self.stage,
                f"resumes {name}: {len(results)} of {len(sizes)} parts were done before, "
                f"{left:,} of {sum(size for size, _ in sizes):,} {unit} are left",
            )
        task = functools.partial(_run, work=work, name=name, root=self.root, parts=todo, keys=keys)
        done = part_tasks.map_parts(
            task,
            num_parts=len(todo),
            max_wait_seconds=self.max_wait_seconds,
            concurrency=self.concurrency,
            num_gpus=num_gpus,
        )
        num_bytes = sum(sizes[part][1] for part in todo)
        with Progress(self.stage, total=left, unit=unit, total_bytes=num_bytes) as progress:
            for index, result in done:
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


def read_markers(root: str, name: str) -> dict[int, Marker]:
    """Read the completion markers of a map stage by part, in the order of the parts."""
    pattern = re.compile(rf"{re.escape(name)}-([0-9]{{6,}})\.json")
    found = filter(None, map(pattern.fullmatch, filesystem.listing(join(root, MARKERS))))
    paths = {int(match[1]): join(root, MARKERS, match[0]) for match in found}
    with concurrent.futures.ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        contents = pool.map(filesystem.read_bytes, paths.values())
        return {part: json.loads(c) for part, c in sorted(zip(paths, contents, strict=True))}


def write_marker(root: str, name: str, part: int, marker: Marker) -> None:
    """Mark a part as done, after all files of the part are stored."""
    path = join(root, MARKERS, f"{name}-{part:06d}.json")
    filesystem.write_bytes(path, json.dumps(marker).encode())


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
    write_marker(root, name, part, {"key": keys[part], "result": result})
    return index, result
