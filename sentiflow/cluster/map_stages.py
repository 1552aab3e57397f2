"""Parts of a corpus -> their results: in a map stage, a task of Ray Data does each part once.

A finished part leaves a completion marker with its result, so that the next run keeps its files
and does not repeat the work. Only the result of a part travels to the driver. With GPUs, actors do
the parts: they keep the models that they have loaded.
"""

import json
import logging
import re
import secrets
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import pyarrow as pa
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from sentiflow.cluster import memory, ray_internals
from sentiflow.cluster.capacity import Capacity  # before Ray: sets environment variables
from sentiflow.data.output_status import MARKERS
from sentiflow.data.outputs import Output
from sentiflow.errors import JobError, UserError
from sentiflow.progress import Progress, say
from sentiflow.storage import errors, filesystem, lease
from sentiflow.storage.uris import join

# isort: split
from ray import cloudpickle

log = logging.getLogger(__name__)

_MAX_RETRIES = 4
"""How often a task is repeated if its worker or node has died; Ray Data's default: no limit."""


class PartId(NamedTuple):
    """Number and key of a part, which a task gets with the part."""

    number: int
    """Position of the part in the list of parts."""
    key: str = ""
    """Hash of the part's settings and input."""

    def name_file(self, *, first: int = 0) -> str:
        """Name a file of the part; no two writes share a name.

        Args:
            first: Number in the name of the first part's file: files of earlier jobs have the
                numbers below it.
        """
        return f"part-{first + self.number:05d}-{self.key}-{secrets.token_hex(4)}.parquet"


class Marker(TypedDict):
    """Record of a finished part, so that a killed stage resumes."""

    key: str
    """Hash of the part's settings and input. A marker with another key does not count."""
    files: dict[str, int]
    """Files that the work has written: size in bytes by path below the output."""
    result: Any
    """The result of the work, a value of JSON."""


_MARKER = TypeAdapter(Marker)


class Done(NamedTuple):
    """A part that was done."""

    number: int
    """Position of the part."""
    result: Any
    """The result of the work on it."""


class Fault(NamedTuple):
    """The error of a part, as it travels from the task to the driver."""

    known: Exception | None
    """The error, if its type can be unpickled: ``UserError``, ``JobError`` or ``OSError``."""
    line: str
    """The error in one line."""
    traceback: str


class PartError(Exception):
    """The error that a task raises if its part fails.

    The first argument is the :class:`Fault`. Ray Data adds further arguments.
    """


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
            output: The output of the job, which may have an unfinished run to resume.
            num_workers: Tasks at the same time; ``auto``: as many as there are cores.
            max_wait_minutes: How long the cluster may be without a node that could do the work.
        """
        self.output = output
        self.concurrency = None if num_workers == "auto" else int(num_workers)
        self.max_wait_seconds = 60 * max_wait_minutes
        self.fresh: list[int] = []
        """Numbers of the parts that the last map stage has worked on; all other parts were done."""

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
    ) -> list[Any]:
        """Read, process and write each part that has no completion marker of this map stage yet.

        Args:
            name: Name of the map stage.
            parts: The arguments of ``read``.
            read: Reads the table of a part.
            steps: Functions of a table, in order.
            write: Takes the table of the last step and the id of the part; returns a value of JSON.
            sizes: For each part: its size in units of progress.
            unit: Unit of progress.
            keys: For each part: hash of its settings and input. A marker with another key does not
                count.
            num_gpus: Share of a GPU for each part.

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
            name=name,
            max_wait_seconds=self.max_wait_seconds,
            concurrency=self.concurrency,
            num_gpus=num_gpus,
        )
        with Progress(stage, total=size_left, unit=unit) as progress:
            for number, result in done:
                results[number] = result
                progress.advance(sizes[number])
        return [results[number] for number in range(len(parts))]

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
        # Local names: with ``self`` in it, the work would take the whole output to each task.
        root = self.output.spec.uri
        folder = self.output.uri
        claim = self.output.claim

        def work(part: Any, part_id: PartId) -> Any:
            """Do the work on a part while this job may write, and mark the part as done."""
            with filesystem.recording(lambda: lease.check(claim)) as written:
                table = read(part)
                for step in steps:
                    table = step(table)
                result = write(table, part_id)
                files = {uri.removeprefix(f"{root}/"): size for uri, size in written.items()}
                lease.check(claim)  # the job may have been killed, and another one have started
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
        """Do the work on each part that has no completion marker yet, and return the results.

        Args:
            name: Name of the map stage.
            work: Takes a part, and returns a value of JSON.
            parts: The arguments of ``work``.
            key: Hash of the settings and the input of all parts.
            unit: What the user calls a part.
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


def process(
    parts: Mapping[PartId, Any],
    work: Callable[[Any, PartId], Any],
    *,
    name: str = "work",
    max_wait_seconds: float = 600,
    concurrency: int | None = None,
    num_gpus: float = 0,
) -> Iterator[Done]:
    """Do the work on each part; yield the results as they come.

    A task that is lost with its worker or node is repeated. Nothing is printed: the stages report
    progress themselves.

    Args:
        parts: The arguments of ``work``, by id.
        work: Takes a part and its id, and returns a value of JSON.
        name: Name of the work in Ray's dashboard.
        max_wait_seconds: How long the cluster may have no node with a core and the share of a GPU.
        concurrency: Parts at the same time; None: as many as there are cores.
        num_gpus: Share of a GPU for each part; with a share, actors do the parts.

    Raises:
        UserError: The work on a part raised it.
        JobError: The work failed in another way, and its traceback is logged; a part ended its
            worker too often; or no node is left that could do the work.
    """
    if not parts:
        return
    import ray.data

    capacity = Capacity({"CPU": 1, "GPU": num_gpus}, max_wait_seconds=max_wait_seconds)
    mapper, strategy = _make_mapper(work, name, concurrency=concurrency, num_gpus=num_gpus)
    rows = [{"part": cloudpickle.dumps(item)} for item in parts.items()]
    with _silence_data():
        with ray.data.DataContext.current(_make_context(capacity)):
            dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
                mapper,
                batch_size=1,
                batch_format="pyarrow",
                compute=strategy,
                num_cpus=1,
                num_gpus=num_gpus,
            )
        try:
            for row in dataset.iter_rows():
                yield Done(row["number"], json.loads(row["result"]))
        except ray.exceptions.RayTaskError as error:
            raise _find_cause(error) from None
        except ray.exceptions.RayError as error:
            line = memory.explain_out_of_memory(str(error)) or str(error).strip().partition("\n")[0]
            raise JobError(f"a part was lost: {line}") from error


@contextmanager
def _silence_data() -> Iterator[None]:
    """Keep Ray Data from logging, unless the user wants all messages."""
    ray_log = logging.getLogger("ray.data")
    level = ray_log.level
    if not log.isEnabledFor(logging.DEBUG):
        ray_log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        ray_log.setLevel(level)


def _make_context(capacity: Capacity) -> Any:
    """Make the settings of Ray Data: start tasks at once, and check the capacity while they run."""
    from ray.data import DataContext

    ray_internals.speed_up_data()
    context = DataContext.get_current().copy()
    context.enable_progress_bars = log.isEnabledFor(logging.DEBUG)
    context.raise_original_map_exception = True
    context.custom_execution_callback_classes = ray_internals.make_data_callbacks(capacity.check)
    return context


def _make_mapper(
    work: Callable[[Any, PartId], Any], name: str, *, concurrency: int | None, num_gpus: float
) -> tuple[Any, Any]:
    """Make the function or class that Ray Data maps over parts, and its strategy: tasks or actors.

    Each block has one row with one pickled part. Ray's dashboard shows the given name.
    """
    import ray
    from ray.data import ActorPoolStrategy, TaskPoolStrategy

    def process_block(block: pa.Table) -> pa.Table:
        part_id, part = cloudpickle.loads(block["part"][0].as_py())
        try:
            if ray_internals.count_retries() > _MAX_RETRIES:
                raise JobError(f"a part was lost: its worker has died {1 + _MAX_RETRIES} times")
            result = json.dumps(work(part, part_id))
        except Exception as error:
            known = error if isinstance(error, UserError | JobError | OSError) else None
            line = f"{type(error).__name__}: {error}"
            raise PartError(Fault(known, line, traceback.format_exc())) from None
        return pa.table({"number": [part_id.number], "result": [result]})

    process_block.__name__ = name
    if not num_gpus:
        return process_block, TaskPoolStrategy(size=concurrency)
    num_actors = max(1, int(ray.cluster_resources().get("GPU", 0) / num_gpus))
    actor = type(name, (), {"__call__": lambda self, block: process_block(block)})
    return actor, ActorPoolStrategy(min_size=1, max_size=num_actors)


def _find_cause(error: Any) -> Exception:
    """Find the error of a part in the error of its task; log it unless its type is known."""
    cause = error.cause
    line = f"{type(cause).__name__}: {cause}"
    text = str(error)
    if isinstance(cause, PartError):
        fault: Fault = cause.args[0]
        cause = fault.known
        line = fault.line
        text = fault.traceback
    if cause:
        cause = errors.explain(cause) or cause
    if isinstance(cause, UserError | JobError):
        return cause
    log.error("%s", text)
    return JobError(line)


def read_markers(root: str, run_uri: str, name: str) -> dict[int, Marker]:
    """Read the sound completion markers of a map stage by part, in the order of the parts.

    A marker that cannot be read, or names a file that is missing or has another size, is unsound.

    Args:
        root: The output.
        run_uri: Folder of the run in it, which has the markers.
        name: Name of the map stage.
    """
    sizes = filesystem.sizes(root)  # by path below the root
    run_folder = f"{run_uri.removeprefix(f'{root}/')}/"
    pattern = re.compile(rf"{re.escape(run_folder)}{MARKERS}/{re.escape(name)}-([0-9]{{6,}})\.json")
    paths = {}
    for path in sizes:
        match = pattern.fullmatch(path)
        if match:
            paths[int(match[1])] = join(root, path)
    contents = filesystem.map_files(filesystem.read_bytes, paths.values())

    def is_stored(path: str, size: int) -> bool:
        published = path.removeprefix(run_folder)  # publishing may have moved the file
        return size in (sizes.get(path), sizes.get(published))

    markers = {}
    for part, content in sorted(zip(paths, contents, strict=True)):
        marker = _parse_marker(content)
        if marker and all(is_stored(path, size) for path, size in marker["files"].items()):
            markers[part] = marker
    return markers


def write_marker(run_uri: str, name: str, part: int, marker: Marker) -> None:
    """Mark a part as done, after all files of the part are stored."""
    path = join(run_uri, MARKERS, f"{name}-{part:06d}.json")
    filesystem.write_bytes(path, json.dumps(marker).encode())


def _parse_marker(content: bytes) -> Marker | None:
    """Parse a marker; None if it is not one."""
    try:
        return _MARKER.validate_python(json.loads(content), strict=True)
    except ValueError:
        return None
