"""Numbered pieces of work -> each done once over the cluster, also if the driver is killed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sentiflow.cluster import completion_markers, part_tasks
from sentiflow.progress import Progress, say

Work = Callable[[int], dict[str, Any]]
Engine = Callable[..., Iterator[dict[str, Any]]]


class Passes:
    """The passes of one stage over its parts, each part of each pass done once."""

    def __init__(
        self, stage: str, root: str, *, goes_on: bool, engine: Engine = part_tasks.map_parts
    ) -> None:
        """Begin.

        Args:
            stage: Its name, for progress.
            root: Its directory.
            goes_on: Whether an earlier run was killed whose receipts count.
            engine: Does the work: ``part_tasks.map_parts`` or ``part_tasks.map_tasks``.
        """
        self.stage, self.root, self.goes_on, self.engine = stage, root, goes_on, engine
        self.fresh: list[int] = []
        """Numbers that the last pass has worked on, as nobody had before."""

    def run(
        self,
        name: str,
        work: Work,
        sizes: Sequence[tuple[int, int]],
        *,
        unit: str,
        keys: Sequence[str] | None = None,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """Do the work on numbers from 0 that have no receipt of this pass yet.

        Args:
            name: Of the pass.
            work: Takes a number; returns what JSON can hold.
            sizes: Of each number: units of progress, and bytes.
            unit: Of progress.
            keys: Of each number: what it stands for. A receipt of another key does not count.
            options: Of the engine.

        Returns:
            The results in order.
        """
        keys = keys or [""] * len(sizes)
        results = self._read_receipts(name, keys) if self.goes_on else {}
        todo = [number for number in range(len(sizes)) if number not in results]
        self.fresh, left = todo, sum(sizes[number][0] for number in todo)
        if results and todo:
            say(
                self.stage,
                f"goes on: {name}, {len(results)} of {len(sizes)} parts done before, "
                f"{left:,} of {sum(size for size, _ in sizes):,} {unit} are left",
            )
        task = functools.partial(_do, work=work, name=name, root=self.root, numbers=todo, keys=keys)
        with Progress(
            self.stage,
            total=left,
            unit=unit,
            total_bytes=sum(sizes[number][1] for number in todo),
        ) as progress:
            for done in self.engine(task, num_parts=len(todo), **options):
                results[done["number"]] = done["result"]
                progress.advance(sizes[done["number"]][0], num_bytes=sizes[done["number"]][1])
        return [results[number] for number in range(len(sizes))]

    def map_parts(
        self, name: str, *, key: str = ""
    ) -> Callable[[Work, Sequence[int]], Iterator[dict[str, Any]]]:
        """Make a function that does a pass over numbers of which the sizes in bytes are known.

        Args:
            name: Of the pass.
            key: What all of the numbers stand for.
        """

        def run(work: Work, sizes: Sequence[int]) -> Iterator[dict[str, Any]]:
            millions = [(round(size / 1e6), 0) for size in sizes]
            return iter(self.run(name, work, millions, unit="MB", keys=[key] * len(sizes)))

        return run

    def _read_receipts(self, name: str, keys: Sequence[str]) -> dict[int, dict[str, Any]]:
        found = completion_markers.read(self.root, name)
        return {
            number: receipt["result"]
            for number, receipt in found.items()
            if number < len(keys) and receipt.get("key") == keys[number]
        }


def _do(
    index: int,
    *,
    work: Work,
    name: str,
    root: str,
    numbers: Sequence[int],
    keys: Sequence[str],
) -> dict[str, Any]:
    """Do the work on one of the numbers, and keep a receipt: what a task of a worker does."""
    number = numbers[index]
    result = work(number)
    completion_markers.keep(root, name, number, {"key": keys[number], "result": result})
    return {"number": number, "result": result}
