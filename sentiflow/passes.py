"""Numbered pieces of work -> each done once over the cluster, also if the driver is killed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sentiflow import cluster, receipts
from sentiflow.progress import Progress, say

Work = Callable[[int], dict[str, Any]]


class Passes:
    """The passes of one stage over its parts, each part of each pass done once."""

    def __init__(self, stage: str, root: str, *, goes_on: bool) -> None:
        """Begin.

        Args:
            stage: Its name, for progress.
            root: Its directory.
            goes_on: Whether an earlier run was killed whose receipts count.
        """
        self.stage, self.root, self.goes_on = stage, root, goes_on

    def run(
        self, name: str, work: Work, sizes: Sequence[tuple[int, int]], *, unit: str
    ) -> list[dict[str, Any]]:
        """Do the work on numbers from 0 that have no receipt of this pass yet.

        Args:
            name: Of the pass.
            work: Takes a number; returns what JSON can hold.
            sizes: Of each number: units of progress, and bytes.
            unit: Of progress.

        Returns:
            The results in order.
        """
        results = receipts.read(self.root, name) if self.goes_on else {}
        todo = [number for number in range(len(sizes)) if number not in results]
        if results and todo:
            say(self.stage, f"goes on: {name}, {len(results)} of {len(sizes)} parts done before")
        task = functools.partial(_do, work=work, name=name, root=self.root, numbers=todo)
        with Progress(
            self.stage,
            total=sum(sizes[number][0] for number in todo),
            unit=unit,
            total_bytes=sum(sizes[number][1] for number in todo),
        ) as progress:
            for done in cluster.map_parts(task, num_parts=len(todo)):
                results[done["number"]] = done["result"]
                progress.advance(sizes[done["number"]][0], num_bytes=sizes[done["number"]][1])
        return [results[number] for number in range(len(sizes))]

    def map_parts(self, name: str) -> Callable[[Work, Sequence[int]], Iterator[dict[str, Any]]]:
        """Make a function that does a pass over numbers of which the sizes in bytes are known."""

        def run(work: Work, sizes: Sequence[int]) -> Iterator[dict[str, Any]]:
            millions = [(round(size / 1e6), 0) for size in sizes]
            return iter(self.run(name, work, millions, unit="MB"))

        return run


def _do(index: int, *, work: Work, name: str, root: str, numbers: Sequence[int]) -> dict[str, Any]:
    """Do the work on one of the numbers, and keep a receipt: what a task of a worker does."""
    number = numbers[index]
    result = work(number)
    receipts.keep(root, name, number, result)
    return {"number": number, "result": result}
