"""Settings of an earlier command -> settings that repeat it in another directory."""

import copy
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
    raw = copy.deepcopy(dict(earlier))
    for path, is_output in _list_locations():
        key = ".".join(path)
        value = _find(before.model_dump(mode="json"), path)
        if is_output:
            stage = path[0]
            if len(path) == 1 or (stage in _KEPT and stage not in verbs):
                settings.put(raw, key, value)
            else:
                _remove(raw, path)
        elif _find(raw, path):
            if _is_made_again(before, key, value, verbs):
                _remove(raw, path)
            else:
                settings.put(raw, key, value)
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


def _list_locations() -> list[tuple[faults.Path, bool]]:
    """List the paths of the settings that hold locations, and whether each is of an output."""
    found: dict[faults.Path, bool] = {}
    for path, field in faults.walk():
        if LOCATION in field.metadata:
            found[path] = path[-1] == "output_uri"
    return list(found.items())


def _is_made_again(before: Config, key: str, value: Any, verbs: Sequence[str]) -> bool:
    """Say whether an input is the output of a stage that is repeated: the new one is read then."""
    stage = _MADE_BY.get(key)
    if stage not in verbs or not isinstance(value, str):
        return False
    output = getattr(before, str(stage)).output_uri
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
