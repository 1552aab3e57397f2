"""Config -> whether its jobs can run on this machine: versions, input, output, disk, tracking.

Nothing here starts or imports Ray. ``cluster_checks`` runs the same checks on every node.
"""

import multiprocessing
import os
import platform
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from itertools import filterfalse
from multiprocessing.connection import Connection
from pathlib import Path

from packaging.requirements import Requirement

import sentiflow
from sentiflow.cluster import session_folder
from sentiflow.cluster.doctor.check import Check, CheckResult
from sentiflow.config.sections import Config
from sentiflow.errors import UserError
from sentiflow.storage import filesystem
from sentiflow.storage.uris import is_local, join
from sentiflow.tracking import provenance

PACKAGES = ("ray", "torch", "pyarrow", "pandas", "numpy", "mlflow", "torchtext")
"""Packages that decide whether jobs run and what comes out."""

_LIMIT_SECONDS = 30.0
_MIN_RESULT_BYTES = 500_000_000
"""Space for checkpoints and the results of a small corpus."""
_MIN_FREE_FRACTION = 0.05
"""Ray's object store does not spill to a disk that has less."""

Examination = Callable[[Config | None], list[CheckResult]]


def examine(config: Config | None) -> list[CheckResult]:
    """Check this machine as the jobs of a config would use it.

    Args:
        config: The experiment; without one, its files are not checked.
    """
    examinations: dict[str, Examination] = {"versions": VERSIONS.attempt}
    if config:
        examinations |= {"input": examine_config, "disk": DISK.attempt}
    examinations["session"] = SESSION.attempt
    return run_in_time(examinations, config, seconds=_LIMIT_SECONDS)


def run_in_time(
    examinations: Mapping[str, Examination], config: Config | None, *, seconds: float
) -> list[CheckResult]:
    """Run some examinations and that of the tracking store, all at once in a process of their own.

    It is killed if it is not done in time. Threads of this process could not be ended: Arrow lets
    no process end before an object store has answered, and Ray tries for ever to join a cluster
    with a wrong token.

    Args:
        examinations: The examinations, each by the name of the check to report if it hangs.
        config: The experiment; without one, input and output are reported as unchecked.
        seconds: Time limit for all of them together.
    """
    is_required = config is None or config.tracking.required
    tracking = TRACKING if is_required else replace(TRACKING, level="warning")
    works = {**examinations, tracking.name: tracking.attempt}
    spawn = multiprocessing.get_context("spawn")
    receiver, sender = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_run_all, args=(works, config, sender), daemon=True)
    process.start()
    sender.close()
    deadline = time.monotonic() + seconds
    answers: dict[str, list[CheckResult]] = {}
    with suppress(EOFError):  # the process has ended
        while len(answers) < len(works) and receiver.poll(max(0, deadline - time.monotonic())):
            answers |= receiver.recv()
    process.kill()
    late = CheckResult(
        "",
        "error",
        f"no answer within {seconds:g} s",
        why="a job would hang or fail in the same way",
        do="see whether its file system (ls), its store or the cluster (ray status) answers",
    )
    unchecked = () if config else ("input", "output")
    return [
        *(found for name in works for found in answers.get(name, [replace(late, check=name)])),
        *(CheckResult(name, "unchecked", "no CONFIG was given") for name in unchecked),
    ]


def _run_all(works: Mapping[str, Examination], config: Config | None, sender: Connection) -> None:
    """Run examinations in threads, and send the results of each by its name."""
    pool = ThreadPoolExecutor(len(works))
    running = {pool.submit(work, config): name for name, work in works.items()}
    for done in as_completed(running):
        sender.send({running[done]: done.result()})


def examine_config(config: Config | None) -> list[CheckResult]:
    """Report what :func:`config_checks.find` finds, and which of its checks found nothing."""
    from sentiflow.cluster.doctor import config_checks

    assert config is not None, "it is checked with a config only"
    problems = config_checks.find(config, config_checks.choose_stages(config))
    bad = {problem.check for problem in problems}
    if "input" in bad:
        bad.add("columns")
    if "columns" in bad:
        bad |= {"labels", "rows", "encoding"}  # they are judged only if all columns are there
    results = [CheckResult(name, "ok", what) for name, what in _WELL.items() if name not in bad]
    for problem in problems:
        why = _WHY.get(problem.check, "a job would end with this message")
        do = f"{_DO}{_ACCESS if problem.check in ('input', 'model', 'output') else ''}"
        results.append(replace(problem, why=why, do=do))
    if "output" not in bad:
        results += OUTPUT.attempt(config)
    return sorted(results, key=lambda result: _ORDER.index(result.check))


def find_versions() -> dict[str, str]:
    """Return the versions of Python, sentiflow and ``PACKAGES``, and a hash of sentiflow's code."""
    found = {"python": platform.python_version(), "sentiflow": sentiflow.__version__}
    for name in PACKAGES:
        found[name] = "missing"
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found | {"code": provenance.hash_code()}


def check_versions(config: Config | None) -> str:
    """Make sure that Python and the packages are those that sentiflow requires."""
    found = find_versions()
    shown = ", ".join(f"{name} {version}" for name, version in found.items())
    try:
        about = metadata.metadata("sentiflow")
    except metadata.PackageNotFoundError:
        return f"{shown}; sentiflow is not installed, so what it requires is unknown"
    required = [f"python{about['Requires-Python']}", *about.get_all("Requires-Dist", [])]
    wrong = [
        f"{wanted.name} {found[wanted.name]}, but sentiflow requires {wanted.specifier}"
        for wanted in map(Requirement, required)
        if wanted.name in found
        and (
            found[wanted.name] == "missing"
            or not wanted.specifier.contains(found[wanted.name], prereleases=True)
        )
    ]
    if wrong:
        raise UserError("; ".join(wrong))
    return shown


def find_outputs(config: Config) -> list[str]:
    """List the directory of the whole run, and those of stages that lie elsewhere."""
    stages = (config.prepare, config.train, config.score, config.evaluate, config.sweep)
    below = f"{config.output_uri}/"
    elsewhere = [s.output_uri for s in stages if not f"{s.output_uri}/".startswith(below)]
    return list(dict.fromkeys([config.output_uri, *elsewhere]))


def try_outputs(config: Config | None) -> str:
    """Write and delete a small object in each object store that will have results.

    Local directories are checked by :func:`config_checks.find`.
    """
    outputs = find_outputs(config) if config else []
    for uri in filterfalse(is_local, outputs):
        trial = join(uri, f".sentiflow-{secrets.token_hex(6)}")
        filesystem.write_bytes(trial, b"")
        filesystem.delete(trial)
    return f"{', '.join(outputs)} can be written"


def check_disk(config: Config | None, ray_folder: str = "") -> str:
    """Make sure that the disks of Ray's own files and of local results are not full.

    Args:
        config: The experiment; without one, only Ray's own files count.
        ray_folder: Where Ray keeps its files; by default where it would if started here.
    """
    ray_folder = ray_folder or str(session_folder.choose())
    usage = shutil.disk_usage(filesystem.find_existing(ray_folder))
    if usage.free < _MIN_FREE_FRACTION * usage.total:
        raise UserError(
            f"{usage.free / 1e9:,.1f} of {usage.total / 1e9:,.1f} GB are free at {ray_folder}, "
            "where Ray keeps its own files: it needs 5 %"
        )
    need = f"{_MIN_RESULT_BYTES / 1e9:,.1f} GB"
    for uri in filter(is_local, find_outputs(config) if config else ()):
        free = shutil.disk_usage(filesystem.find_existing(uri)).free
        if free < _MIN_RESULT_BYTES:
            raise UserError(f"{free / 1e9:,.1f} GB are free at {uri}; results need {need} or more")
    return f"at least {need} are free for results, and 5 % for Ray's own files"


def check_session(config: Config | None, folder: Path | None = None) -> str:
    """Make sure that no other user of this machine can enter Ray's folder.

    Args:
        config: Not used.
        folder: The folder that must keep others out; by default that of a Ray started here.
    """
    folder = folder or session_folder.choose()
    if folder.exists() and (problem := session_folder.find_problem(folder)):
        raise UserError(f"Ray's folder {folder} {problem}")
    return "no other user can enter Ray's session folder"


def check_tracking(config: Config | None) -> str:
    """Make sure that this process can use the tracking store, as the driver of a job does."""
    from sentiflow.tracking import mlflow_store, store_address

    uri = store_address.default_uri(None if config is None else config.tracking.uri)
    if uri.startswith("sqlite:"):
        path = Path(uri.removeprefix("sqlite:///"))
        filesystem.check_writable(str(path.parent))
        if path.exists() and not os.access(path, os.W_OK):
            raise UserError(f"{path} cannot be written")
        return f"{uri} can be written"
    try:
        mlflow_store.connect(uri).search_experiments(max_results=1)
    except mlflow_store.failures() as error:
        raise UserError(mlflow_store.unreachable(uri, error)) from error
    return f"{uri} answers"


VERSIONS = Check(
    "versions",
    check_versions,
    why="sentiflow is not tested with it, and nodes with different versions do not work together",
    do="install the same everywhere: pip install -c constraints.txt, one image, or for the code "
    "--working-dir",
)
OUTPUT = Check(
    "output",
    try_outputs,
    why="each machine writes its part of the results, and reads those of the others",
    do="set output_uri to a location that every machine can write to and shares with the others "
    "(NFS, s3://bucket/…), and give it credentials for the store (AWS_ACCESS_KEY_ID, …)",
)
_WELL = {
    "input": "the input files are there",
    "columns": "the input has the columns of the settings",
    "labels": "format.labels names the labels",
    "rows": "the first rows can be read",
    "encoding": "the texts are in the encoding of the settings",
}
"""What is said if a check of a config finds nothing."""
_ORDER = (*_WELL, "model", "output")
_WHY = {
    "labels": "rows with other labels are rejected",
    "encoding": "a model learns the wrong characters",
}
_DO = "correct the setting that the message names"
_ACCESS = (
    ", or see that this machine can read and write there: its credentials for an object store "
    "(AWS_ACCESS_KEY_ID, …), its mounts"
)
"""Why the problem of a config matters, and what to do."""
DISK = Check(
    "disk",
    check_disk,
    why="the job would fail when the disk is full",
    do="free some space, set output_uri to a larger disk, or RAY_TMPDIR (ray start --temp-dir)",
)
SESSION = Check(
    "session",
    check_session,
    why="another user of the machine could replace the sockets and code of running jobs",
    do=session_folder.REMEDY,
)
TRACKING = Check(
    "tracking",
    check_tracking,
    why="a job cannot record its run; it stops unless tracking.required is false",
    do="check tracking.uri or MLFLOW_TRACKING_URI, MLFLOW_TRACKING_USERNAME and _PASSWORD, and "
    "that the server runs (mlflow server --host 0.0.0.0 --allowed-hosts …)",
)
