"""Parts -> the map stages of a job: each part done once, by one task of Ray Data.

A finished part leaves a completion marker with its result, so that the next run adopts its files
and does not repeat it. Only the result of a part travels to the driver. With GPUs the parts are
done in actors, which keep what they have loaded.
"""

import json
import logging
import re
import secrets
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from sentiflow.cluster import memory, ray_internals
from sentiflow.cluster.connection import Capacity  # before Ray: it sets variables
from sentiflow.data.outputs import MARKERS, Output
from sentiflow.errors import JobError, UserError
from sentiflow.progress import Progress, say
from sentiflow.storage import errors, filesystem, lease
from sentiflow.storage.uris import join

# isort: split
from ray import cloudpickle

log = logging.getLogger(__name__)

_MAX_RETRIES = 4
"""How often a task is repeated whose worker or node has died; Ray Data's default is for ever."""


class Label(NamedTuple):
    """What a task knows of its part."""

    number: int
    key: str = ""
    """Hash of the part's settings and input."""

    def name_file(self, *, first: int = 0) -> str:
        """Name a file of the part; no two writes share a name.

        Args:
            first: Number of the first part, where earlier ones are files already.
        """
        return f"part-{first + self.number:05d}-{self.key}-{secrets.token_hex(4)}.parquet"


class Marker(TypedDict):
    """What is kept of a finished part, so that a killed stage resumes."""

    key: str
    """Settings and input of the part. A marker with another key does not count."""
    files: dict[str, int]
    """Files that the work has written: their bytes by path below the output."""
    result: Any
    """What the work returned: JSON can hold it."""


_MARKER = TypeAdapter(Marker)


class PartError(Exception):
    """The error of a part if it is of a kind that we know, its line, and its traceback.

    Ray Data adds lines to the text of an error.
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
            output: Its output, which may have an unfinished run to resume.
            num_workers: Tasks at the same time; ``auto``: as many as there are cores.
            max_wait_minutes: How long the cluster may be without a node that could do the work.
        """
        self.output = output
        self.concurrency = None if num_workers == "auto" else int(num_workers)
        self.max_wait_seconds = 60 * max_wait_minutes
        self.fresh: list[int] = []
        """Parts that the last map stage has worked on; the others had a marker."""

    def run(
        self,
        name: str,
        parts: Sequence[Any],
        read: Callable[[Any], pa.Table],
        *steps: Callable[[pa.Table], pa.Table],
        write: Callable[[pa.Table, Label], Any],
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
        # the task does not get the output
        root, folder, claim = self.output.spec.uri, self.output.uri, self.output.claim

        def work(part: Any, label: Label) -> Any:
            """Do the work on a part while this job may write, and mark the part as done."""
            with filesystem.recording(lambda: lease.check(claim)) as written:
                table = read(part)
                for step in steps:
                    table = step(table)
                result = write(table, label)
                files = {uri.removeprefix(f"{root}/"): size for uri, size in written.items()}
                lease.check(claim)  # the job may have been killed, and another one have started
                marker: Marker = {"key": label.key, "files": files, "result": result}
                write_marker(folder, name, label.number, marker)
            return result

        markers = read_markers(root, folder, name) if self.output.resumes else {}
        results = {
            number: marker["result"]
            for number, marker in markers.items()
            if number < len(keys) and marker["key"] == keys[number]
        }
        todo = [number for number in range(len(parts)) if number not in results]
        self.fresh, left = todo, sum(sizes[number] for number in todo)
        if results and todo:
            say(
                self.output.spec.stage,
                f"resumes {name}: {len(results)} of {len(sizes)} parts were done before, "
                f"{left:,} of {sum(sizes):,} {unit} are left",
            )
        done = process(
            {Label(number, keys[number]): parts[number] for number in todo},
            work,
            name=name,
            max_wait_seconds=self.max_wait_seconds,
            concurrency=self.concurrency,
            num_gpus=num_gpus,
        )
        with Progress(self.output.spec.stage, total=left, unit=unit) as progress:
            for number, result in done:
                results[number] = result
                progress.advance(sizes[number])
        return [results[number] for number in range(len(parts))]

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
            work: Takes a part, and returns what JSON can hold.
            parts: What ``work`` takes.
            key: Hash of settings and input that all parts have in common.
            unit: What a part is to the user.
        """
        sizes, keys = [1] * len(parts), [key] * len(parts)
        return self.run(
            name, parts, work, write=lambda done, _: done, sizes=sizes, unit=unit, keys=keys
        )


def process(
    parts: Mapping[Label, Any],
    work: Callable[[Any, Label], Any],
    *,
    name: str = "work",
    max_wait_seconds: float = 600,
    concurrency: int | None = None,
    num_gpus: float = 0,
) -> Iterator[tuple[int, Any]]:
    """Do the work on each part; yield the number and the result of each as they come.

    A task that is lost with its worker or node is repeated. Nothing is printed: the stages report
    progress themselves.

    Args:
        parts: What ``work`` takes, by label.
        work: Takes a part and its label, and returns what JSON can hold.
        name: Its name in Ray's dashboard.
        max_wait_seconds: How long the cluster may be without a core, and its share of a GPU.
        concurrency: Parts at the same time; None: as many as there are cores.
        num_gpus: Share of a GPU for each part, which is then done in an actor.

    Raises:
        UserError: The work on a part raised it.
        JobError: It failed otherwise, and its traceback is logged; a part ended its worker again
            and again; or no node is left that could do the work.
    """
    if not parts:
        return
    import ray.data
    from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy

    ray_internals.speed_up_data()
    verbose, log_of_data = log.isEnabledFor(logging.DEBUG), logging.getLogger("ray.data")
    level = log_of_data.level
    if not verbose:
        log_of_data.setLevel(logging.CRITICAL)
    capacity = Capacity({"CPU": 1, "GPU": num_gpus}, max_wait_seconds=max_wait_seconds)
    context = DataContext.get_current().copy()
    context.enable_progress_bars = verbose
    context.raise_original_map_exception = True
    context.custom_execution_callback_classes = ray_internals.callbacks_of_data(capacity.check)

    def do(block: pa.Table) -> pa.Table:
        label, part = cloudpickle.loads(block["part"][0].as_py())
        try:
            if ray_internals.count_retries() > _MAX_RETRIES:
                raise JobError(f"a part was lost: its worker has died {1 + _MAX_RETRIES} times")
            result = json.dumps(work(part, label))
        except Exception as error:
            line = f"{type(error).__name__}: {error}"
            # that of another library may be none that can be unpickled
            known = error if isinstance(error, UserError | JobError | OSError) else None
            raise PartError(known, line, traceback.format_exc()) from None
        return pa.table({"number": [label.number], "result": [result]})

    do.__name__ = name
    compute, step = TaskPoolStrategy(size=concurrency), do
    if num_gpus:
        most = max(1, int(ray.cluster_resources().get("GPU", 0) / num_gpus))
        compute = ActorPoolStrategy(min_size=1, max_size=most)
        step = type(name, (), {"__call__": lambda self, block: do(block)})
    rows = [{"part": cloudpickle.dumps(item)} for item in parts.items()]
    with DataContext.current(context):
        dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            step,
            batch_size=1,
            batch_format="pyarrow",
            compute=compute,
            num_cpus=1,
            num_gpus=num_gpus,
        )
    try:
        for row in dataset.iter_rows():
            yield row["number"], json.loads(row["result"])
    except ray.exceptions.RayTaskError as error:
        raise _find_cause(error) from None
    except ray.exceptions.RayError as error:
        line = memory.explain_end(str(error)) or str(error).strip().partition("\n")[0]
        raise JobError(f"a part was lost: {line}") from error
    finally:
        log_of_data.setLevel(level)


def _find_cause(error: Any) -> Exception:
    """Find the error of a part in that of its task; one of no kind that we know is logged."""
    cause, line, text = error.cause, f"{type(error.cause).__name__}: {error.cause}", str(error)
    if isinstance(cause, PartError):
        cause, line, text = cause.args[:3]
    cause = errors.explain(cause) or cause if cause else None
    if isinstance(cause, UserError | JobError):
        return cause
    log.error("%s", text)
    return JobError(line)


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
