"""What an MLflow run is told -> records of plain values, within MLflow's limits, without secrets.

A record can be sent twice: it says the same the second time, its times included.
"""

import hashlib
import posixpath
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from sentiflow.config.settings import flatten
from sentiflow.storage.uris import without_credentials

MAX_METRICS, MAX_PARAMS, MAX_TAGS = 1000, 100, 100
"""MLflow takes so many at once."""
MAX_PARAM_LENGTH, MAX_TAG_LENGTH, MAX_KEY_LENGTH, MAX_DIGEST_LENGTH = 6000, 8000, 250, 36
"""Characters."""

Item = TypeVar("Item")
Status = Literal["FINISHED", "FAILED", "KILLED"]

_NO_KEY_CHARACTER = re.compile(r"[^\w\-. /:]", re.ASCII)


class Record(BaseModel):
    """Something that a run is told."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64",
        ser_json_inf_nan="constants",
    )  # fmt: skip

    run: str
    """Its id; or, of a run that the store does not have yet, the one it goes by until then."""


class Begin(Record):
    """A run that is to be made."""

    kind: Literal["begin"] = "begin"
    experiment_id: str
    name: str
    time: int
    """In milliseconds, as all times."""
    tags: dict[str, str]


class Metrics(Record):
    """Figures: name, value, time, step."""

    kind: Literal["metrics"] = "metrics"
    values: tuple[tuple[str, float, int, int], ...]


class Params(Record):
    """Settings."""

    kind: Literal["params"] = "params"
    values: dict[str, str]


class Tags(Record):
    """Tags."""

    kind: Literal["tags"] = "tags"
    values: dict[str, str]


class Files(Record):
    """Artifacts, by their path below the run's."""

    kind: Literal["files"] = "files"
    values: dict[str, bytes]


class Input(BaseModel):
    """What a run has read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    digest: str
    source_type: str
    source: str
    """JSON."""
    profile: str
    """JSON."""
    context: str


class Inputs(Record):
    """What a run has read, as MLflow's datasets."""

    kind: Literal["inputs"] = "inputs"
    values: tuple[Input, ...]


class Model(Record):
    """A model package that is to be registered, as a version of ``name`` with the alias."""

    kind: Literal["model"] = "model"
    package_uri: str
    name: str
    alias: str


class End(Record):
    """How a run has ended."""

    kind: Literal["end"] = "end"
    status: Status
    time: int


AnyRecord = Begin | Metrics | Params | Tags | Files | Inputs | Model | End

_parser: TypeAdapter[AnyRecord] = TypeAdapter(Annotated[AnyRecord, Field(discriminator="kind")])


def parse(line: str) -> AnyRecord:
    """Read a record from JSON.

    Raises:
        ValueError: It is none.
    """
    return _parser.validate_json(line)


def make_metrics(
    run: str, series: Sequence[tuple[int, Mapping[str, float | None]]]
) -> Iterator[Metrics]:
    """Make records of the figures of steps; those that are None (undefined) are left out."""
    now = now_ms()
    values = [
        (_to_key(name), float(value), now, step)
        for step, figures in series
        for name, value in figures.items()
        if value is not None
    ]
    return (Metrics(run=run, values=part) for part in _parts(values, MAX_METRICS))


def make_params(run: str, settings: Mapping[str, Any]) -> Iterator[Params]:
    """Make records of settings, with dotted names, long values cut."""
    values = _with_keys(
        {key: _to_text(str(value)) for key, value in flatten(dict(settings)).items()},
        max_length=MAX_PARAM_LENGTH,
    )
    return (Params(run=run, values=dict(part)) for part in _parts(values.items(), MAX_PARAMS))


def make_tags(run: str, tags: Mapping[str, str]) -> Iterator[Tags]:
    """Make records of tags, long values cut."""
    values = to_tags(tags)
    return (Tags(run=run, values=dict(part)) for part in _parts(values.items(), MAX_TAGS))


def to_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Bring tags within MLflow's limits."""
    masked = {key: _to_text(value) for key, value in tags.items()}
    return _with_keys(masked, max_length=MAX_TAG_LENGTH)


def _to_text(value: str) -> str:
    """Leave credentials out, and write out what is no character, as of a file's name."""
    return without_credentials(value).encode(errors="backslashreplace").decode()


def _parts(values: Iterable[Item], size: int) -> Iterator[tuple[Item, ...]]:
    remaining = iter(values)
    while part := tuple(islice(remaining, size)):
        yield part


def now_ms() -> int:
    """Tell the time as MLflow does."""
    return int(time.time() * 1000)


def _with_keys(values: Mapping[str, str], *, max_length: int) -> dict[str, str]:
    """Rename keys to what MLflow allows; two that would then be equal stay two."""
    named: dict[str, str] = {}
    for key, value in values.items():
        known = _to_key(key)
        if known in named:
            known = f"{known[: MAX_KEY_LENGTH - 9]}-{_hash(key)}"
        named[known] = value[:max_length]
    return named


def _to_key(name: str) -> str:
    """Replace characters that MLflow does not allow; a name that is too long ends in its hash."""
    key = _NO_KEY_CHARACTER.sub("_", name)
    if (
        key == "." or posixpath.normpath(key) != key or key.startswith(("/", ".."))
    ):  # it would be a file's path
        key = key.replace("/", "_").replace(".", "_") or "_"
    if len(key) <= MAX_KEY_LENGTH:
        return key
    return f"{key[: MAX_KEY_LENGTH - 9]}-{_hash(name)}"


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:8]
