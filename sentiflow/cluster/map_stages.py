"""Work on numbered parts -> each done once by a task of Ray, also if the driver is killed.

A finished part leaves a completion marker with its result, so that the next run does not repeat it.
"""

import functools
import itertools
import json
import logging
import re
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypedDict, TypeVar, cast

from sentiflow.cluster import ray_internals
from sentiflow.cluster.connection import POLL_SECONDS, Capacity  # before Ray: it sets variables
from sentiflow.data.output_status import MARKERS
from sentiflow.data.outputs import Output, guard
from sentiflow.errors import JobError, StorageError, UserError
from sentiflow.progress import Progress, say
from sentiflow.storage import errors, filesystem
from sentiflow.storage.uris import join

# isort: split
import ray
import ray.exceptions
from ray.util.annotations import RayDeprecationWarning

log = logging.getLogger(__name__)

Result = TypeVar("Result")
"""What the work on a part returns: JSON can hold it, most often a dictionary."""

_MAX_RETRIES = 10
"""How often a task is repeated whose worker or node has died."""
_MAX_QUEUED = 1000
"""Tasks that Ray knows at a time."""
_COLOR = re.compile(r"\x1b\[\d+m")

_KNOWN = {kind.__name__: kind for kind in (UserError, StorageError, JobError)}
"""Errors of a part that the driver raises again as they are, by name."""


class Marker(TypedDict):
    """What is kept of a finished part, so that a killed stage resumes."""

    key: str
    """Settings and input of the part. A marker with another key does not count."""
    files: dict[str, int]
    """Files that the work has written: their bytes by path below the root."""
    result: Any
    """What the work returned: JSON can hold it."""


class MapStages:
    """The map stages of one job: work over numbered parts, with a completion marker for each."""

    def __init__(
        self,
        output: Output,
        *,
        num_workers: int | str,
        max_wait_minutes: float,
        uses_ray_data: bool = False,
    ) -> None:
        """Describe the job.

        Args:
            output: Its output, which may have an unfinished run to resume.
            num_workers: Tasks at the same time; ``auto``: as many as there are cores.
            max_wait_minutes: How long the cluster may be without a node that could do the work.
            uses_ray_data: Work with Ray Data (:func:`map_dataset`), not with plain tasks.
        """
        self.uses_ray_data = uses_ray_data
        self.stage, self.root, self.resumes = output.spec.stage, output.uri, output.resumes
        self.claim = output.claim
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
            name: Name of the map stage.
            work: Takes the number of a part, from 0, and returns what JSON can hold.
            sizes: For each part: its size in units of progress, and its bytes.
            unit: Unit of progress.
            keys: For each part: hash of its settings and input. A marker with another key does not
                count.
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
        marked = functools.partial(
            _run, work=work, name=name, root=self.root, keys=keys, check=guard(self.claim)
        )
        engine: Callable[..., Iterator[tuple[int, Result]]] = map_dataset
        if not self.uses_ray_data:
            engine = functools.partial(map_parts, num_gpus=num_gpus)
        done = engine(
            marked, todo, max_wait_seconds=self.max_wait_seconds, concurrency=self.concurrency
        )
        num_bytes = sum(sizes[part][1] for part in todo)
        with Progress(self.stage, total=left, unit=unit, total_bytes=num_bytes) as progress:
            for part, result in done:
                results[part] = result
                progress.advance(sizes[part][0], num_bytes=sizes[part][1])
        return [results[part] for part in range(len(sizes))]

    def make_map(
        self, name: str, *, key: str = ""
    ) -> Callable[[Callable[[int], Result], Sequence[int]], Iterator[Result]]:
        """Make a function that runs a map stage, given the work and the size of each part in bytes.

        Args:
            name: Name of the map stage.
            key: Settings and input that all of its parts have in common.
        """

        def run(work: Callable[[int], Result], sizes: Sequence[int]) -> Iterator[Result]:
            megabytes = [(round(size / 1e6), 0) for size in sizes]
            return iter(self.run(name, work, megabytes, unit="MB", keys=[key] * len(sizes)))

        return run


def read_markers(root: str, name: str) -> dict[int, Marker]:
    """Read the sound completion markers of a map stage by part, in the order of the parts.

    A marker that cannot be read, or names a file that is missing or has another size, is unsound.
    """
    pattern = re.compile(rf"{re.escape(MARKERS)}/{re.escape(name)}-([0-9]{{6,}})\.json")
    sizes = filesystem.sizes(root)
    paths = {int(match[1]): match[0] for match in filter(None, map(pattern.fullmatch, sizes))}
    contents = filesystem.map_files(filesystem.read_bytes, [join(root, p) for p in paths.values()])
    markers = dict(zip(paths, map(_parse, contents), strict=True))
    return {
        part: marker
        for part, marker in sorted(markers.items())
        if marker and all(sizes.get(path) == size for path, size in marker["files"].items())
    }


def write_marker(root: str, name: str, part: int, marker: Marker) -> None:
    """Mark a part as done, after all files of the part are stored."""
    path = join(root, MARKERS, f"{name}-{part:06d}.json")
    filesystem.write_bytes(path, json.dumps(marker).encode())


def _parse(content: bytes) -> Marker | None:
    try:
        marker = json.loads(content)
    except ValueError:
        return None
    is_marker = isinstance(marker, dict) and marker.keys() >= Marker.__required_keys__
    return cast(Marker, marker) if is_marker else None


def map_parts(
    work: Callable[[int], Result],
    parts: Iterable[int],
    *,
    max_wait_seconds: float = 600,
    concurrency: int | None = None,
    num_gpus: float = 0,
) -> Iterator[tuple[int, Result]]:
    """Do a stage's work on each of its parts, and yield part and result as they come.

    Each part is one task of one core; there are no actors that would keep a core. A task that is
    lost with its worker or node is repeated. The tables stay in the process that reads and writes
    them; only the small result travels.

    Args:
        work: Takes a part's number and returns its result.
        parts: Their numbers.
        max_wait_seconds: How long the cluster may be without a core, and its share of a GPU.
        concurrency: Tasks at the same time; None: as many as there are cores.
        num_gpus: Share of a GPU for each task.

    Raises:
        UserError: The work on a part raised it.
        JobError: It failed otherwise, and its traceback is logged; a part ended its worker again
            and again; or no node is left that could do the work.
    """
    capacity = Capacity({"CPU": 1, "GPU": num_gpus}, max_wait_seconds=max_wait_seconds)
    function = ray.remote(num_cpus=1, num_gpus=num_gpus, max_retries=_MAX_RETRIES)(_run_shared)
    shared, numbers = ray.put(work), iter(parts)
    queued: dict[Any, int] = {}
    try:
        while True:
            for part in itertools.islice(numbers, (concurrency or _MAX_QUEUED) - len(queued)):
                queued[function.remote([shared], part)] = part
            if not queued:
                return
            done, _ = ray.wait(list(queued), num_returns=1, timeout=POLL_SECONDS)
            for task in done:
                part = queued.pop(task)
                yield part, _get(task, part)
            if not done:
                capacity.check()
    finally:
        for task in queued:
            ray.cancel(task)


def map_dataset(
    work: Callable[[int], Result],
    parts: Sequence[int],
    *,
    max_wait_seconds: float = 600,
    concurrency: int | None = None,
) -> Iterator[tuple[int, Result]]:
    """Do the same as :func:`map_parts` with Ray Data: a dataset of part numbers, a task for each.

    Ray Data waits 40 ms between two tasks of a core, plain tasks 4 ms.

    Args:
        work: As for :func:`map_parts`.
        parts: As there.
        max_wait_seconds: As there, for a core.
        concurrency: As there.

    Raises:
        UserError: The work on a part raised it.
        JobError: It failed otherwise, and its traceback is logged; or the cluster has no core left.
    """
    if not parts:
        return
    import ray.data

    _set_up_data(Capacity({"CPU": 1}, max_wait_seconds=max_wait_seconds))
    shared = ray.put(work)
    dataset = ray.data.range(len(parts), override_num_blocks=len(parts))
    with warnings.catch_warnings():  # no other way to limit the retries, which have no limit
        warnings.simplefilter("ignore", RayDeprecationWarning)
        done = dataset.map(
            lambda row: _attempt([shared], parts[row["id"]]),
            concurrency=concurrency,
            max_retries=_MAX_RETRIES,
        )
    try:
        for row in done.iter_rows():
            if not row["kind"]:
                yield row["part"], json.loads(row["result"])
                continue
            if row["kind"] not in _KNOWN:
                log.error("%s", row["traceback"])
            raise _KNOWN.get(row["kind"], JobError)(row["error"])
    except ray.exceptions.RayError as error:
        raise JobError(f"a part was lost: {_first_line(error)}") from error


def _attempt(shared: Sequence[Any], part: int) -> dict[str, Any]:
    """Return the result of a part, or its error as text: Ray Data would log a page of it."""
    outcome = {"part": part, "result": "", "kind": "", "error": "", "traceback": ""}
    try:
        return outcome | {"result": _run_shared(shared, part)}
    except Exception as error:
        known = errors.explain(error) or error
        line = traceback.format_exception_only(known)[-1].strip()
        text = str(known) if isinstance(known, UserError | JobError) else line
        kind = type(known).__name__
        return outcome | {"kind": kind, "error": text, "traceback": traceback.format_exc()}


def _set_up_data(capacity: Capacity) -> None:
    """Make Ray Data start at once, end where it would wait for ever, and say nothing.

    The stages report progress themselves.
    """
    import ray.data

    ray_internals.speed_up_data()
    verbose = log.isEnabledFor(logging.DEBUG)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = verbose
    context.custom_execution_callback_classes = ray_internals.callbacks_of_data(capacity.check)
    if not verbose:
        logging.getLogger("ray.data").setLevel(logging.ERROR)


def _get(task: Any, part: int) -> Any:
    """Return the result of a task, or raise its error without Ray's wrapping."""
    try:
        return json.loads(ray.get(task))
    except ray.exceptions.RayTaskError as error:
        known = errors.explain(error.cause) or error.cause
        if isinstance(known, UserError | JobError):
            raise known from None
        log.error("%s", _COLOR.sub("", str(error)))  # the traceback on the worker
        raise JobError(traceback.format_exception_only(known)[-1].strip()) from error
    except ray.exceptions.RayError as error:
        raise JobError(f"part {part} was lost: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _run(
    part: int,
    *,
    work: Callable[[int], Result],
    name: str,
    root: str,
    keys: Sequence[str],
    check: Callable[[], None],
) -> Result:
    """Do the work on one part and write its completion marker; runs in a task of a worker.

    Before each file ``check`` makes sure that the job of this task may still write: the job may
    have been killed, and another one have started since.
    """
    with filesystem.recording(check) as sizes:
        result = work(part)
        files = {uri.removeprefix(f"{root}/"): size for uri, size in sizes.items()}
        marker: Marker = {"key": keys[part], "files": files, "result": result}
        write_marker(root, name, part, marker)
    return result


def _run_shared(shared: Sequence[Any], part: int) -> str:
    """Do the work on one part; ``shared`` is a list of one reference, which Ray does not resolve.

    The work holds a list of all parts of the corpus. Unpacking it for each part would take time
    that grows with the square of the number of parts.
    """
    return json.dumps(_fetch_work(*shared)(part))


@functools.lru_cache(maxsize=1)
def _fetch_work(shared: Any) -> Callable[[int], Any]:
    """Fetch the work once for each worker process."""
    work: Callable[[int], Any] = ray.get(shared)
    return work
