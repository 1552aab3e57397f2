"""Config -> whether its jobs can run on this machine: versions, input, output, disk, tracking.

Nothing here starts or imports Ray. ``cluster_checks`` runs the same checks on every node.
"""

import functools
import multiprocessing
import os
import platform
import secrets
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

import sentiflow
from sentiflow.cluster import session_folder
from sentiflow.cluster.doctor.check import Check, CheckResult, count, has_errors
from sentiflow.config.sections import Config, FormatSettings
from sentiflow.errors import UserError
from sentiflow.storage import filesystem
from sentiflow.storage.uris import absolute_uri, is_local, join, names_model
from sentiflow.tracking import provenance

if TYPE_CHECKING:
    from sentiflow.data.csv_format import CsvFormat

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
    checks = (VERSIONS, INPUT, OUTPUT, DISK, SESSION) if config else (VERSIONS, SESSION)
    examinations: dict[str, Examination] = {
        check.name: functools.partial(_attempt, check) for check in checks
    }
    if config:
        examinations[INPUT.name] = _examine_input
    return run_in_time(examinations, config, seconds=_LIMIT_SECONDS)


def run_in_time(
    examinations: Mapping[str, Examination], config: Config | None, *, seconds: float
) -> list[CheckResult]:
    """Run some examinations and that of the tracking store, each in a process of its own.

    A process that is not done in time is killed.

    A thread could not be ended: Arrow lets no process end before an object store has answered, and
    Ray tries for ever to join a cluster with a wrong token.

    Args:
        examinations: The examinations, each by the name of the check to report if it hangs.
        config: The experiment; without one, input and output are reported as unchecked.
        seconds: Time limit for all of them together.
    """
    is_required = config is None or config.tracking.required
    tracking = TRACKING if is_required else replace(TRACKING, level="warning")
    works: dict[str, Examination] = {
        **examinations,
        tracking.name: functools.partial(_attempt, tracking),
    }
    results: list[CheckResult] = []
    deadline = time.monotonic() + seconds
    with multiprocessing.get_context("spawn").Pool(len(works)) as pool:
        waiting = {name: pool.apply_async(work, [config]) for name, work in works.items()}
        for name, answer in waiting.items():
            try:
                results += answer.get(max(0, deadline - time.monotonic()))
            except multiprocessing.TimeoutError:
                results.append(
                    CheckResult(
                        name,
                        "error",
                        f"no answer within {seconds:g} s",
                        why="a job would hang or fail in the same way",
                        do="see whether its file system (ls), its store or the cluster "
                        "(ray status) answers",
                    )
                )
    unchecked = () if config else (INPUT.name, OUTPUT.name)
    return [
        *results,
        *(CheckResult(name, "unchecked", "no CONFIG was given") for name in unchecked),
    ]


def _attempt(check: Check, config: Config | None) -> list[CheckResult]:
    return [check.attempt(config)]


def _examine_input(config: Config | None) -> list[CheckResult]:
    """Check the input files, and their columns if they are there."""
    files = INPUT.attempt(config)
    return [files] if has_errors([files]) else [files, COLUMNS.attempt(config)]


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
        if wanted.name in found and not _fits(found[wanted.name], wanted)
    ]
    if wrong:
        raise UserError("; ".join(wrong))
    return shown


def _fits(version: str, wanted: Requirement) -> bool:
    return version != "missing" and wanted.specifier.contains(version, prereleases=True)


def check_input(config: Config | None) -> str:
    """Make sure that the input files and the prepared data are there."""
    from sentiflow.data import manifest

    assert config is not None, "it is checked with a config only"
    csv, corpus = _list_input(config)
    model = config.score.model_uri
    if corpus and model and not (csv or names_model(model)):
        manifest.require(model, stage="model", setting="score.model_uri")
    for section in ("train", "score"):
        prepared = getattr(config, section).prepared_uri
        is_read = section == "train" or not corpus
        if is_read and prepared != config.prepare.output_uri:
            manifest.require(prepared, stage="prepare", setting=f"{section}.prepared_uri")
    return f"{count(len({*csv, *corpus}), 'file')} found"


def check_columns(config: Config | None) -> str:
    """Make sure that the input has the columns that the settings name."""
    assert config is not None, "it is checked with a config only"
    csv, corpus = _list_input(config)
    if csv:
        _match_prepare_columns(config, csv[0])
    if csv or corpus:
        _match_score_columns(config, corpus)
    return "the input has the columns of the settings"


def _list_input(config: Config) -> tuple[list[str], list[str]]:
    """List the files of ``prepare.csv`` and of ``score.corpus``."""
    csv = _expand("prepare.csv", config.prepare.csv)
    return csv, _expand("score.corpus", config.score.corpus)


def _expand(setting: str, patterns: Sequence[str]) -> list[str]:
    """List the files of a setting; none for the prepared tweets."""
    try:
        return [] if patterns == ("prepared",) else filesystem.expand(list(patterns))
    except UserError as error:
        raise UserError(f"{setting}: {error}") from error


def _match_prepare_columns(config: Config, uri: str) -> None:
    """Make sure that a file has the columns that ``prepare`` reads."""
    from sentiflow.data import input_files, table_plans

    prepare = config.prepare
    needed = {"label", *prepare.keep_columns, *({prepare.split.kind} & {"user", "time"})}
    if uri.lower().endswith(".parquet"):
        files = input_files.as_found([uri])["files"]
        plan = table_plans.plan_preparation(
            files, settings=config.format, keep_columns=prepare.keep_columns
        )
        missing = sorted(name for name in needed if not plan.has_column(name))
    else:
        found = _read_format(config.format, uri)
        missing = sorted(name for name in needed if found.position(name) is None)
    if missing:
        raise UserError(
            f"format.columns has no {', '.join(missing)}, which prepare needs",
            hint="name the column there, or take it out of prepare.keep_columns",
        )


def _match_score_columns(config: Config, uris: Sequence[str]) -> None:
    """Make sure that the corpus has the columns that ``score`` keeps."""
    from sentiflow.data import corpus, input_files, manifest, schema, table_plans

    score = config.score
    if uris and uris[0].lower().endswith(".parquet"):
        found = input_files.as_found(uris[:1])["files"]
        plan = table_plans.plan_scoring(found, text_column=score.text_column, keep_columns=())
        columns: Sequence[str] = plan.columns
    elif uris:
        csv_format = _read_format(score.format or config.format, uris[0], needs_all=False)
        columns = (*schema.TWEETS.names, *csv_format.names)
    elif score.prepared_uri == config.prepare.output_uri:
        columns = (*schema.TWEETS.names, *config.prepare.keep_columns)
    else:
        record = manifest.require(score.prepared_uri, stage="prepare", setting="score.prepared_uri")
        columns = (*schema.TWEETS.names, *record["settings"]["keep_columns"])
    corpus.check_columns(columns, score.keep_columns)


def _read_format(settings: FormatSettings, uri: str, *, needs_all: bool = True) -> "CsvFormat":
    from sentiflow.data import csv_format
    from sentiflow.storage import compression

    with compression.open_content(uri) as content:
        head = content.read_at(0, csv_format.HEAD_BYTES)
    return csv_format.resolve(settings, head, source=uri, needs_all=needs_all)[0]


def find_outputs(config: Config) -> list[str]:
    """List the directory of the whole run, and those of stages that lie elsewhere."""
    stages = (config.prepare, config.train, config.score, config.evaluate, config.sweep)
    below = f"{config.output_uri}/"
    elsewhere = [s.output_uri for s in stages if not f"{s.output_uri}/".startswith(below)]
    return list(dict.fromkeys([config.output_uri, *elsewhere]))


def check_output(config: Config | None) -> str:
    """Make sure that this machine can write results.

    Nothing is written to a local disk. In an object store a small object is written and deleted.
    """
    assert config is not None, "it is checked with a config only"
    for uri in find_outputs(config):
        if is_local(uri):
            _check_writable(uri)
        else:
            trial = join(uri, f".sentiflow-{secrets.token_hex(6)}")
            filesystem.write_bytes(trial, b"")
            filesystem.delete(trial)
    return f"{', '.join(find_outputs(config))} can be written"


def _check_writable(folder: str) -> None:
    path = _find_existing(folder)
    if not (path.is_dir() and os.access(path, os.W_OK | os.X_OK)):
        what = "cannot be written" if path.is_dir() else "is a file, not a directory"
        raise UserError(f"{folder}: {path} {what}")


def _find_existing(uri: str) -> Path:
    """Find the path of a local location, or the nearest directory above it that exists."""
    path = Path(absolute_uri(uri))
    while not path.exists():
        path = path.parent
    return path


def check_disk(config: Config | None, ray_folder: str = "") -> str:
    """Make sure that the disks of Ray's own files and of local results are not full.

    Args:
        config: The experiment; without one, only Ray's own files count.
        ray_folder: Where Ray keeps its files; by default where it would if started here.
    """
    ray_folder = ray_folder or str(session_folder.choose())
    usage = shutil.disk_usage(_find_existing(ray_folder))
    if usage.free < _MIN_FREE_FRACTION * usage.total:
        raise UserError(
            f"{usage.free / 1e9:,.1f} of {usage.total / 1e9:,.1f} GB are free at {ray_folder}, "
            "where Ray keeps its own files: it needs 5 %"
        )
    need = f"{_MIN_RESULT_BYTES / 1e9:,.1f} GB"
    for uri in filter(is_local, find_outputs(config) if config else ()):
        free = shutil.disk_usage(_find_existing(uri)).free
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
        _check_writable(str(path.parent))
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
INPUT = Check(
    "input",
    check_input,
    why="each machine reads parts of the input",
    do="correct the setting, or put the files where every machine can read them, and give it "
    "credentials for the store (AWS_ACCESS_KEY_ID, …)",
)
COLUMNS = Check(
    "columns",
    check_columns,
    why="prepare or score would end with this message",
    do="correct the setting that the message names",
)
OUTPUT = Check(
    "output",
    check_output,
    why="each machine writes its part of the results, and reads those of the others",
    do="set output_uri to a location that every machine can write to and shares with the others "
    "(NFS, s3://bucket/…), and give it credentials for the store (AWS_ACCESS_KEY_ID, …)",
)
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
