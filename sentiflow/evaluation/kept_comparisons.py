"""Comparisons of candidate and champion -> tags and a file of the candidate, and back."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress

from pydantic import TypeAdapter

from sentiflow import __version__
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import JobError, UserError
from sentiflow.evaluation.champion_figures import ChampionTest
from sentiflow.tracking import model_registry

TEST_DATA = "sentiflow.test_data"
"""Tag of a version: fingerprint of the prepared data that it was last judged on."""
_COMPARISON = "sentiflow.comparison"
"""Tag of a version: key and outcome of the last comparison in which it was the candidate. The file
``COMPARISON_FILE`` has the whole comparison."""
COMPARISON_FILE = "comparison.json"
"""File of a model: the last comparison in which it was the candidate, with its key."""
_ADAPTER = TypeAdapter(ChampionTest)
"""Writes a comparison as JSON, and reads it again."""


def write_key(prepared: Manifest, contenders: Sequence[Manifest], headline: str) -> str:
    """Write the key of a comparison: equal keys mean that the comparison would be the same.

    Its words are the release with the headline, the prepared data, the candidate, and the champion
    if there is one. Accuracy is not named, so keys of an earlier version stay valid.

    Args:
        prepared: Manifest of the prepared data.
        contenders: Manifests of the candidate and of the champion, if there is one.
        headline: The metric that decides.
    """
    release = __version__ if headline == "accuracy" else f"{__version__}:{headline}"
    fingerprints = [record["fingerprint"] for record in contenders]
    return " ".join([release, prepared["fingerprint"], *fingerprints])


def find(
    candidate: model_registry.Version, key: str, tags: Mapping[str, str], tracking_uri: str
) -> ChampionTest | None:
    """Find the comparison with this key; None if the last one of the candidate has another key.

    Only the same release of sentiflow reads it, because another release may judge differently.

    Args:
        candidate: The version.
        key: See :func:`write_key`.
        tags: The tags of the version.
        tracking_uri: The store.
    """
    kept = tags.get(_COMPARISON, "")
    if not f"{kept} ".startswith(f"{key} "):
        return None
    return _read(candidate, key, tracking_uri)


def keep(
    candidate: model_registry.Version, key: str, test: ChampionTest, tracking_uri: str
) -> None:
    """Keep a comparison: key and outcome in a tag of the candidate, all of it in a file."""
    content = {"key": key, "comparison": _ADAPTER.dump_python(test, mode="json")}
    tags = {_COMPARISON: f"{key} {test.headline.write_outcome()}".rstrip()}
    model_registry.describe(candidate, tags=tags, tracking_uri=tracking_uri)
    files = {COMPARISON_FILE: json.dumps(content, indent=2).encode()}
    with suppress(JobError, UserError):  # without the file it is made again, and counted once
        model_registry.describe(candidate, tags={}, files=files, tracking_uri=tracking_uri)


def find_compared(tags: Mapping[int, Mapping[str, str]], fingerprint: str) -> set[int]:
    """Find the versions that were compared with a champion on some prepared data.

    Args:
        tags: For each version all its tags.
        fingerprint: The prepared data.
    """
    compared = set()
    for number, of_version in tags.items():
        # The release, the prepared data, the candidate, and the champion if there was one.
        words = of_version.get(_COMPARISON, "").split(" ", 4)
        has_champion = len(words) > 3 and not words[3].startswith("{")
        if has_champion and words[1] == fingerprint:
            compared.add(number)
    return compared


def _read(candidate: model_registry.Version, key: str, tracking_uri: str) -> ChampionTest | None:
    """Read the last comparison of a candidate; None if its file is gone or has another key."""
    try:
        content = model_registry.read_file(candidate, COMPARISON_FILE, tracking_uri=tracking_uri)
        found = json.loads(content or b"{}")
        return _ADAPTER.validate_python(found["comparison"]) if found.get("key") == key else None
    except (JobError, UserError, KeyError, AttributeError, ValueError):  # not readable, or changed
        return None
