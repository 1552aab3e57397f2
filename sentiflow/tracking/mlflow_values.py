"""Metrics, settings and tags -> values within MLflow's limits, without credentials."""

import hashlib
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TypeVar

from sentiflow.config.settings import flatten
from sentiflow.storage.uris import without_credentials

MAX_METRICS, MAX_PARAMS, MAX_TAGS = 1000, 100, 100
"""Values that MLflow takes in one request."""
MAX_PARAM_LENGTH, MAX_TAG_LENGTH, MAX_KEY_LENGTH, MAX_DIGEST_LENGTH = 6000, 8000, 250, 36
"""Characters."""

Item = TypeVar("Item")

_FORBIDDEN_IN_KEYS = re.compile(r"[^\w\-. /:]", re.ASCII)


def to_metrics(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Name metrics as MLflow allows; those that are None (undefined) are left out."""
    return {to_key(name): float(value) for name, value in metrics.items() if value is not None}


def to_params(settings: Mapping[str, Any]) -> dict[str, str]:
    """Turn settings into parameters with dotted names; long values are cut."""
    values = {key: _to_text(str(value)) for key, value in flatten(dict(settings)).items()}
    return _with_keys(values, max_length=MAX_PARAM_LENGTH)


def to_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Bring tags within MLflow's limits; long values are cut."""
    values = {key: _to_text(value) for key, value in tags.items()}
    return _with_keys(values, max_length=MAX_TAG_LENGTH)


def batches(values: Iterable[Item], size: int) -> Iterator[tuple[Item, ...]]:
    """Divide values into tuples of at most ``size``."""
    remaining = iter(values)
    while batch := tuple(islice(remaining, size)):
        yield batch


def to_ms(time: datetime) -> int:
    """Convert a time to milliseconds since 1970, as MLflow has it."""
    return int(time.timestamp() * 1000)


def now_ms() -> int:
    """Return the time in milliseconds since 1970."""
    return to_ms(datetime.now(UTC))


def now_iso() -> str:
    """Return the time in ISO 8601, in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def to_key(name: str) -> str:
    """Replace characters that MLflow does not allow; a name that is too long ends in its hash."""
    key = _FORBIDDEN_IN_KEYS.sub("_", name)
    is_path = posixpath.normpath(key) != key or key.startswith(("/", ".."))
    if key == "." or is_path:  # MLflow may use it as the path of a file
        key = key.replace("/", "_").replace(".", "_") or "_"
    if len(key) <= MAX_KEY_LENGTH:
        return key
    return f"{key[: MAX_KEY_LENGTH - 9]}-{_hash(name)}"


def _to_text(value: str) -> str:
    """Leave credentials out, and escape what is not Unicode, as in some names of files."""
    return without_credentials(value).encode(errors="backslashreplace").decode()


def _with_keys(values: Mapping[str, str], *, max_length: int) -> dict[str, str]:
    """Rename keys to what MLflow allows; two keys that would become equal stay two."""
    named: dict[str, str] = {}
    for key, value in values.items():
        known = to_key(key)
        if known in named:
            known = f"{known[: MAX_KEY_LENGTH - 9]}-{_hash(key)}"
        named[known] = value[:max_length]
    return named


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:8]
