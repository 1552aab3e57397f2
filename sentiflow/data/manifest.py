"""Directory -> the record, written last, of what is in it and where it came from."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from importlib.metadata import version
from typing import Any

from sentiflow import __version__
from sentiflow.config.settings import flatten
from sentiflow.data.manifest_types import (
    Counts,
    FileEntry,
    Input,
    InputFile,
    Manifest,
    RunRecord,
    Settings,
)
from sentiflow.errors import UserError
from sentiflow.storage import filesystem
from sentiflow.storage.uris import join, join_member, split_member

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
STARTED = "started.json"
WORK = "_work"
"""Holds what is only needed until a stage is complete."""
_HALF_STARTED = re.compile(rf"{re.escape(STARTED)}\.[0-9a-f]+\.tmp")
"""What is left where a run was killed before anything else was there."""

LIBRARIES = ("ray", "torch", "pyarrow", "numpy", "pandas", "mlflow")

_described_run: ContextVar[tuple[str, Callable[[], RunRecord]] | None]
_described_run = ContextVar("described_run", default=None)

_REQUIRED = {"stage", "format_version", "fingerprint", "settings", "inputs", "counts", "files"}
_EXPECTED = {"model": "a finished model package, such as runs/quickstart/trained/model"}


class State(Enum):
    """What a stage finds where its output goes."""

    ABSENT = "absent"
    UNFINISHED = "unfinished"
    COMPLETE = "complete"
    EXTENDED = "extended"
    """Complete for the first of the input's files; others have come at the end."""
    DAMAGED = "damaged"
    """Complete, but a file is gone or of another size."""
    DIFFERENT = "different"
    NOT_OURS = "not ours"


@dataclass(frozen=True)
class OutputSpec:
    """What a stage is about to make, where, and from what."""

    stage: str
    uri: str
    settings: Settings
    """The settings that decide the result, and no others."""
    inputs: dict[str, Any]
    """By name: a dictionary with at least ``fingerprint``; beside it, what helps to find it."""
    owns: tuple[str, ...] = ()
    """Names in the directory that the stage writes, and may delete when it starts over."""
    grows: str = ""
    """Name of an input of files; where some have come at its end, what is there is added to."""

    @property
    def fingerprint(self) -> str:
        """Identify the result: a hash of the stage, its settings and its inputs' fingerprints."""
        inputs = {name: value["fingerprint"] for name, value in self.inputs.items()}
        return fingerprint([FORMAT_VERSION, self.stage, self.settings, inputs])


@dataclass(frozen=True)
class Status:
    """The state of a spec's directory, and the keys that differ from what is there."""

    state: State
    differences: tuple[str, ...] = field(default=())


def fingerprint(value: Any) -> str:
    """Hash a JSON value, independent of the order of keys; 16 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read(uri: str) -> Manifest | None:
    """Read the manifest of the directory ``uri``; None if it is not complete.

    Raises:
        UserError: There is a manifest, but of a newer form, or not one of ours.
    """
    return _read_record(join(uri, MANIFEST))


def require(uri: str, *, stage: str, setting: str) -> Manifest:
    """Read the manifest of a directory that must be complete and made by ``stage``.

    Raises:
        UserError: It is not; ``setting`` names where the location came from.
    """
    record = read(uri)
    wanted = _EXPECTED.get(stage, f"the finished output of sentiflow {stage}")
    if record is None:
        raise UserError(f"{setting}: {uri} has no {MANIFEST}", hint=f"name {wanted}")
    if record["stage"] != stage:
        raise UserError(
            f"{setting}: {uri} is an output of {record['stage']}", hint=f"name {wanted}"
        )
    return record


def find_status(spec: OutputSpec) -> Status:
    """Compare what a spec's directory holds with what the spec would make."""
    record = read(spec.uri)
    if record is not None and record["stage"] != spec.stage:
        return Status(State.NOT_OURS)
    if record is not None:
        return _compare(spec, record)
    if filesystem.exists(join(spec.uri, STARTED)):
        return Status(State.UNFINISHED)
    theirs = [name for name in filesystem.listing(spec.uri) if not _HALF_STARTED.fullmatch(name)]
    return Status(State.NOT_OURS if theirs else State.ABSENT)


def _compare(spec: OutputSpec, record: Manifest) -> Status:
    differences = _differences(spec, record)
    if _has_grown(spec, record, differences):
        return Status(State.EXTENDED)
    if not differences and record["fingerprint"] != spec.fingerprint:
        differences = ("written by another version of sentiflow",)
    if differences:
        return Status(State.DIFFERENT, differences)
    damaged = _find_damaged(spec.uri, record)
    return Status(State.DAMAGED, (damaged,)) if damaged else Status(State.COMPLETE)


def _find_damaged(uri: str, record: Manifest) -> str:
    """Name a file that is not as the manifest says; empty if there is none."""
    sizes = filesystem.sizes(uri)
    wrong = (item["path"] for item in record["files"] if sizes.get(item["path"]) != item["bytes"])
    return next(wrong, "")


def _has_grown(spec: OutputSpec, record: Manifest, differences: Sequence[str]) -> bool:
    """Say whether a spec differs from a record by more files of the input that may grow alone."""
    only = len(differences) == 1 and differences[0].startswith(f"another {spec.grows}")
    if not spec.grows or not only:
        return False
    old, new = (
        [identify_file(item) for item in inputs.get(spec.grows, {}).get("files", ())]
        for inputs in (record["inputs"], spec.inputs)
    )
    return len(new) > len(old) > 0 and new[: len(old)] == old


def identify_file(item: InputFile) -> str:
    """Name the content of a described input file; of an archive, also which member is meant."""
    return join_member(item["tree_sha256"], split_member(item["uri"])[1])


def check_place(stage: str, uri: str) -> None:
    """Make sure that ``uri`` is empty, or holds what ``stage`` has made or begun.

    Raises:
        UserError: It holds somebody else's files.
    """
    if find_status(OutputSpec(stage, uri, {}, {})).state is State.NOT_OURS:
        raise UserError(
            f"{uri} holds files that are not from {stage}", hint="choose an empty or new directory"
        )


def check(spec: OutputSpec, *, overwrite: bool = False) -> None:
    """Make sure that a stage may write to its directory.

    Raises:
        UserError: It belongs to other settings and ``overwrite`` is off, or to somebody else
            altogether.
    """
    check_place(spec.stage, spec.uri)
    found = find_status(spec)
    if found.state is State.DIFFERENT and not overwrite:
        raise UserError(
            f"{spec.uri} belongs to other settings ({'; '.join(found.differences)})",
            hint="choose another output_uri, or replace it with --overwrite",
        )
    if found.state is State.DAMAGED and not overwrite:
        raise UserError(
            f"{join(spec.uri, found.differences[0])} is gone or damaged",
            hint="make it all anew with --overwrite",
        )


def begin(
    spec: OutputSpec, *, overwrite: bool = False, resumable: bool = False, key: str | None = None
) -> bool:
    """Make the directory ready: what an unfinished or replaced run left is removed.

    While it is removed, ``started.json`` names no fingerprint: what then is left of it by a kill
    is nobody's to continue. What is complete of a spec that has grown stays, with its manifest.

    Args:
        spec: What is to be made, with the inputs' fingerprints known.
        overwrite: Replace a result of other settings.
        resumable: Keep what an unfinished run of the same spec has left.
        key: What must be equal for a run to be the same, by default the spec's fingerprint. Where
            one is given, what an unfinished run of another has left is replaced only by force.

    Returns:
        Whether there is such a run, which the caller continues.

    Raises:
        UserError: As :func:`check`.
    """
    check(spec, overwrite=overwrite)
    state, started = find_status(spec).state, read_key(spec.uri)
    if key and state is State.UNFINISHED and started not in (None, key) and not overwrite:
        check_nothing_done(spec, "other settings")
    key = key or spec.fingerprint
    if resumable and state in (State.UNFINISHED, State.EXTENDED) and started == key:
        return True
    _write_started(spec, None)
    if state is State.EXTENDED:
        record = read(spec.uri)
        assert record is not None, "what has grown has a manifest"
        _delete_owned(spec, keep=[item["path"] for item in record["files"]])
    else:
        filesystem.delete(join(spec.uri, MANIFEST))
        _delete_owned(spec, keep=())
    _write_started(spec, key)
    return False


def check_nothing_done(spec: OutputSpec, other: str) -> None:
    """Make sure that an unfinished run of something else has finished nothing.

    Raises:
        UserError: It has.
    """
    names = [name.split("/")[0] for name in filesystem.listing(spec.uri)]
    if any(name in spec.owns and name != WORK for name in names):
        raise UserError(
            f"{spec.uri} holds an unfinished run of {other}",
            hint="choose another output_uri, or replace it with --overwrite",
        )


def clean_up(spec: OutputSpec) -> None:
    """Finish the tidying of a complete directory, which a kill may have interrupted."""
    names = filesystem.listing(spec.uri, recursive=False)
    if any(name == STARTED or _HALF_STARTED.fullmatch(name) for name in names):
        record = read(spec.uri)
        assert record is not None, "a complete directory has a manifest"
        _tidy(spec, record)


def roll_back(spec: OutputSpec) -> None:
    """Take away what an unfinished stage has written, for a run that cannot succeed.

    A directory to which something was to be added is left complete, as it was.
    """
    record = read(spec.uri)
    if record is not None:
        _tidy(spec, record)
        return
    _write_started(spec, None)
    _delete_owned(spec, keep=())
    filesystem.delete(join(spec.uri, STARTED))
    if not filesystem.listing(spec.uri):
        filesystem.delete(spec.uri)


@contextmanager
def describing_run(stage: str, describe: Callable[[], RunRecord]) -> Iterator[None]:
    """Let the manifest that ``stage`` publishes in the block have the key ``run``.

    Args:
        stage: Manifests of others, such as a model package's, do not get it.
        describe: Called when the manifest is written, after the stage has logged its metrics.
    """
    token = _described_run.set((stage, describe))
    try:
        yield
    finally:
        _described_run.reset(token)


def publish(
    spec: OutputSpec,
    *,
    counts: Counts,
    files: Sequence[FileEntry],
    seconds: float,
    **details: Any,
) -> Manifest:
    """Write the manifest, which makes the directory complete; returns it.

    What else the stage or a killed run of it has left there is removed afterwards: until then a
    resumed run may need it. If a kill interrupts that, :func:`clean_up` goes on.

    Args:
        spec: What was made, with the inputs' fingerprints known by now.
        counts: Rows and the like.
        files: A dictionary for each file: ``path`` in the directory, ``rows``, ``bytes``.
        seconds: What the stage took.
        details: More that a reader may want, by name.
    """
    record: Manifest = {
        "stage": spec.stage,
        "format_version": FORMAT_VERSION,
        "fingerprint": spec.fingerprint,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "settings": spec.settings,
        "inputs": spec.inputs,
        "counts": counts,
        **details,
        "files": sorted(files, key=lambda item: item["path"]),
        "versions": {"sentiflow": __version__} | {name: version(name) for name in LIBRARIES},
    }
    described = _described_run.get()
    if described and described[0] == spec.stage:
        record["run"] = described[1]()
    filesystem.write_bytes(join(spec.uri, MANIFEST), _to_json(record))
    _tidy(spec, record)
    return record


def read_input(inputs: Mapping[str, Any], name: str) -> Manifest | None:
    """Read the manifest of one of a manifest's inputs; None if it is gone or was made anew."""
    named = inputs.get(name) or {}
    found = read(named["uri"]) if "uri" in named else None
    return found if found and found["fingerprint"] == named["fingerprint"] else None


def reference(uri: str, record: Manifest) -> Input:
    """Name a finished directory as an input of the next stage."""
    return {"uri": uri, "fingerprint": record["fingerprint"]}


def list_files(uri: str, name: str) -> list[FileEntry]:
    """List what lies in the subdirectory ``name``, for a manifest."""
    paths = [join(name, path) for path in filesystem.listing(join(uri, name))]
    return [
        {"path": path, "rows": None, "bytes": filesystem.file_info(join(uri, path)).size}
        for path in paths
    ]


def _tidy(spec: OutputSpec, record: Manifest) -> None:
    """Delete what the stage owns and its manifest does not list; ``started.json`` at the end."""
    _delete_owned(spec, keep=[item["path"] for item in record["files"]])
    filesystem.delete(join(spec.uri, STARTED))


def _write_started(spec: OutputSpec, fingerprint: str | None) -> None:
    started = {
        "stage": spec.stage,
        "fingerprint": fingerprint,
        "format_version": FORMAT_VERSION,
    }
    filesystem.write_bytes(join(spec.uri, STARTED), _to_json(started))


def read_key(uri: str) -> Any:
    """Read which result an unfinished run is making; None if it can be nobody's to continue."""
    try:
        started = json.loads(filesystem.read_bytes(join(uri, STARTED)))
    except (FileNotFoundError, ValueError):
        return None
    same_form = isinstance(started, dict) and started.get("format_version") == FORMAT_VERSION
    return started.get("fingerprint") if same_form else None


def _delete_owned(spec: OutputSpec, *, keep: Sequence[str]) -> None:
    """Delete what the stage owns in its directory, except the files to ``keep``."""
    kept = set(keep)
    for name in spec.owns:
        if not any(path == name or path.startswith(f"{name}/") for path in kept):
            filesystem.delete(join(spec.uri, name))
    unpublished = tuple(f"{name}." for name in (*spec.owns, MANIFEST, STARTED))
    for name in filesystem.listing(spec.uri):
        first = name.split("/")[0]
        owned = first in spec.owns or (first.endswith(".tmp") and first.startswith(unpublished))
        if owned and name not in kept:
            filesystem.delete(join(spec.uri, name))


def _differences(spec: OutputSpec, record: Manifest) -> tuple[str, ...]:
    """Name the settings and inputs in which a finished directory differs from the spec."""
    old, new = flatten(record["settings"]), flatten(json.loads(json.dumps(spec.settings)))
    settings = [
        f"{key}: {_brief(old.get(key))} there, {_brief(new.get(key))} here"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    inputs = [
        f"another {name}" + _explain_files(record["inputs"].get(name), spec.inputs.get(name))
        for name in sorted(record["inputs"].keys() | spec.inputs.keys())
        if _fingerprint_of(record["inputs"], name) != _fingerprint_of(spec.inputs, name)
    ]
    return (*settings, *inputs)


def _explain_files(before: Any, now: Any) -> str:
    """Say in which file two inputs of files differ first, and how."""
    old, new = ((inputs or {}).get("files", []) for inputs in (before, now))
    there, here = ([identify_file(item) for item in files] for files in (old, new))
    if not old or not new or there == here[: len(there)]:
        return ""
    if len(old) == len(new) == 1 and old[0]["uri"] != new[0]["uri"]:
        return f": {old[0]['uri']} there, {new[0]['uri']} here"
    first = next(i for i, name in enumerate(there) if here[i : i + 1] != [name])
    uris = [item["uri"] for item in new]
    if there[first] in here and first < len(uris):
        return f", {uris[first]} is not at the end"
    return f", {old[first]['uri']} {'was changed' if old[first]['uri'] in uris else 'is gone'}"


def _fingerprint_of(inputs: dict[str, Any], name: str) -> Any:
    return inputs.get(name, {}).get("fingerprint")


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _read_record(uri: str) -> Manifest | None:
    try:
        record = json.loads(filesystem.read_bytes(uri))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{uri} is not JSON", hint="it is damaged, or not a manifest") from error
    version = record.get("format_version") if isinstance(record, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise UserError(f"{uri} was written by a newer sentiflow", hint="update sentiflow")
    if version != FORMAT_VERSION or not record.keys() >= _REQUIRED:
        raise UserError(f"{uri} is not a manifest of sentiflow")
    return record


def _to_json(record: Manifest | Settings) -> bytes:
    return (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode()
