"""Settings of an earlier command -> settings that repeat it in another directory."""

import copy
import os
from collections.abc import Mapping, Sequence
from typing import Any

from sentiflow.config import faults, settings
from sentiflow.config.locations import resolve_locations
from sentiflow.config.sections import Config
from sentiflow.config.settings import Overrides
from sentiflow.config.types import LOCATION
from sentiflow.errors import UserError

_KEPT = ("prepare", "train", "score")
"""Stages whose output other stages read. If such a stage is not repeated, its output is read where
it is."""
_MADE_BY = {
    "train.prepared_uri": "prepare",
    "score.prepared_uri": "prepare",
    "score.model_uri": "train",
    "evaluate.scored_uri": "score",
}
"""By setting: the stage whose output is read unless the setting names another one."""


def repeat(
    earlier: Mapping[str, Any],
    changes: Overrides,
    *,
    verbs: Sequence[str],
    directory: str,
    tracking_uri: str,
    source: str,
) -> dict[str, Any]:
    """Change the settings of an earlier command, so that the same command repeats it elsewhere.

    Inputs are read where the earlier command has read them: their locations become absolute. The
    repeated stages write below the new ``output_uri``, also if the earlier command has named other
    directories. The runs go to the store that has the earlier run, as a stranger's settings must
    not choose the server that gets the user's password. They are runs of the user who repeats them.

    Args:
        earlier: The settings as they were written.
        changes: The changes of the new command, which are not applied here.
        verbs: The stages that are repeated.
        directory: The directory to which the locations of ``earlier`` are relative; empty if they
            are absolute.
        tracking_uri: The store.
        source: What to call the earlier settings in messages.

    Raises:
        UserError: The earlier settings are wrong for this version, or the changes name no directory
            for the results.
    """
    _require_output(changes, verbs, source)
    before = resolve(earlier, directory=directory, source=source)
    locations = before.model_dump(mode="json")
    raw = copy.deepcopy(dict(earlier))
    for path in _list_locations():
        key = ".".join(path)
        value = _find(locations, path)
        if path[-1] == "output_uri":
            stays = _is_kept_output(path, verbs)
        elif _find(raw, path):
            stays = not _is_made_again(before, key, value, verbs)
        else:
            continue
        if stays:
            settings.put(raw, key, value)
        else:
            _remove(raw, path)
    settings.put(raw, "tracking.uri", tracking_uri)
    _remove(raw, ("tracking", "user"))
    return raw


def resolve(earlier: Mapping[str, Any], *, directory: str, source: str) -> Config:
    """Check settings of an earlier command, and make their locations absolute.

    Raises:
        UserError: They are wrong for this version.
    """
    config = settings.validate(copy.deepcopy(dict(earlier)), source=source)
    return resolve_locations(config, base=directory or None, submitted=False)


def expand_homes(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Write the home directory in place of ``~``: another user who repeats a command has another.

    Args:
        raw: Settings as they were written.
    """
    expanded = copy.deepcopy(dict(raw))
    for path in _list_locations():
        value = _find(expanded, path)
        if isinstance(value, str):
            settings.put(expanded, ".".join(path), os.path.expanduser(value))
        elif isinstance(value, list):
            uris = [os.path.expanduser(uri) if isinstance(uri, str) else uri for uri in value]
            settings.put(expanded, ".".join(path), uris)
    return expanded


def _require_output(changes: Overrides, verbs: Sequence[str], source: str) -> None:
    """Check that the changes name the directory of the results.

    Raises:
        UserError: They do not.
    """
    if isinstance(changes, Mapping):
        keys = set(changes)
    else:
        keys = {change.partition("=")[0] for change in changes}
    wanted = {"output_uri"}
    if len(verbs) == 1:
        wanted.add(f"{verbs[0]}.output_uri")
    if not keys & wanted:
        raise UserError(
            f"{source} can be repeated in another directory only", hint="add output_uri=NEW"
        )


def _list_locations() -> list[faults.Path]:
    """List the paths of the settings that hold locations, each once."""
    found = [path for path, field in faults.walk() if LOCATION in field.metadata]
    return list(dict.fromkeys(found))


def _is_kept_output(path: faults.Path, verbs: Sequence[str]) -> bool:
    """Say whether an output directory stays as it was: of the run, or of a stage of ``_KEPT``.

    The changes of the new command replace the directory of the run.
    """
    if len(path) == 1:
        return True
    stage = path[0]
    return stage in _KEPT and stage not in verbs


def _is_made_again(before: Config, key: str, value: Any, verbs: Sequence[str]) -> bool:
    """Say whether an input is the output of a stage that is repeated: the new one is read then."""
    stage = _MADE_BY.get(key)
    if stage is None or stage not in verbs or not isinstance(value, str):
        return False
    output = getattr(before, stage).output_uri
    return f"{value}/".startswith(f"{output}/")


def _find(raw: Mapping[str, Any], path: faults.Path) -> Any:
    """Return the value of a setting; None if it is not given."""
    value: Any = raw
    for name in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def _remove(raw: dict[str, Any], path: faults.Path) -> None:
    """Remove a setting, if it is given."""
    section = _find(raw, path[:-1])
    if isinstance(section, dict):
        section.pop(path[-1], None)
