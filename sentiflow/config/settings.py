"""YAML file and dotted overrides -> one validated, frozen settings object."""

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sentiflow.config import faults, yaml_text
from sentiflow.config.locations import resolve_locations
from sentiflow.config.sections import Config
from sentiflow.config.setting_descriptions import describe
from sentiflow.config.train_sections import TrainSettings
from sentiflow.errors import UserError, shorten
from sentiflow.storage.uris import holds_credentials

ConfigLike = str | os.PathLike[str] | Mapping[str, Any]
"""A settings file, or the settings as nested dictionaries."""
Overrides = Sequence[str] | Mapping[str, Any]
"""Changed settings, as ``section.key=value`` or as values by ``section.key``."""


def load(
    path: ConfigLike,
    overrides: Overrides = (),
    *,
    command: str = "",
    base: str | None = None,
    submitted: bool | None = None,
) -> Config:
    """Read a settings file, apply overrides, validate, and resolve the URIs.

    Args:
        path: The YAML file, or the settings.
        overrides: ``section.key=value`` with a value in YAML, such as
            ``prepare.csv=[a.csv,b.csv]`` or ``score.model_uri=null``.
        command: The command that will use the settings; the settings that it requires
            must be given.
        base: Directory of relative locations. Default: the working directory.
        submitted: Whether this is a job submitted to a cluster. Default: it is if Ray has
            started this process as a submitted job.

    Raises:
        UserError: The file is missing or not YAML, or settings are wrong; the message has a line
            for each fault.
    """
    raw = read(path, overrides)
    source = _locate(path, overrides)
    config = validate(raw, source=source)
    faults.check_headline(config, source)
    faults.check_given(config, command, source=source.name)
    resolved = resolve_locations(config, base=base, submitted=submitted)
    if command != "evaluate":  # evaluate checks the columns of the existing predictions
        faults.check_slices(resolved, source=source.name)
    return resolved


def read(path: ConfigLike, overrides: Overrides = ()) -> dict[str, Any]:
    """Read a settings file and apply the overrides, without validation.

    Raises:
        UserError: The file is missing or not YAML, or an override cannot be read.
    """
    raw = _to_plain(path) if isinstance(path, Mapping) else _read_yaml(Path(path))
    if isinstance(overrides, Mapping):
        _change(raw, _to_plain(overrides))
        return raw
    for override in overrides:
        _apply(raw, override)
    return raw


def _to_plain(value: Any) -> Any:
    """Convert a value of a Python program to the types of YAML: dictionaries, lists, strings."""
    if isinstance(value, Mapping):
        return {key: _to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value


def _change(raw: dict[str, Any], changes: Mapping[str, Any], prefix: str = "") -> None:
    """Put nested values into a settings dictionary; the other settings of a section stay.

    Raises:
        UserError: A section in a key is a value.
    """
    for name, value in changes.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and _is_section(key):
            _change(raw, value, f"{key}.")
        else:
            put(raw, key, value)


def _is_section(key: str) -> bool:
    """Whether a dotted key names a section, not a value."""
    return any(setting.key.startswith(f"{key}.") for setting in describe())


def put(raw: dict[str, Any], key: str, value: Any) -> None:
    """Set the value of a dotted key in a settings dictionary; missing sections are created.

    Raises:
        UserError: A section in the key is a value.

    Example:
        >>> raw = {"train": {"seed": 0}}
        >>> put(raw, "train.model.cell", "gru")
        >>> raw
        {'train': {'seed': 0, 'model': {'cell': 'gru'}}}
    """
    *sections, last = key.split(".")
    target: Any = raw
    for section in sections:
        if target.get(section) is None:
            target[section] = {}
        target = target[section]
        if not isinstance(target, dict):
            raise UserError(f"cannot override {key}", hint=f"{section} is a value, not a section")
    target[last] = value


def validate(raw: dict[str, Any], *, source: str | faults.SettingsSource) -> Config:
    """Fill in the preset and the inherited format, and check a settings dictionary.

    Args:
        raw: The settings, as :func:`read` returns them.
        source: Where the settings were typed, for messages.

    Raises:
        UserError: Settings are wrong. A line for each fault names the place, the key and a way out.
    """
    if isinstance(source, str):
        source = faults.SettingsSource(source)
    filled = yaml_text.fill_preset(yaml_text.inherit_format(raw))
    try:
        config = Config.model_validate(filled)
    except ValidationError as error:
        lines = [faults.explain(fault, source) for fault in error.errors(include_url=False)]
        raise UserError("\n".join(lines)) from error
    for key, value in flatten(config.model_dump()).items():
        if any(holds_credentials(text) for text in _list_texts(value)):
            place = source.locate(tuple(key.split(".")))
            raise UserError(
                f"{place}: {key} holds a user name or password",
                hint="settings are recorded; use environment variables instead (AWS_ACCESS_KEY_ID, "
                "MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD)",
            )
    return config


def flatten(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested settings into dotted keys.

    Example:
        >>> flatten({"model": {"cell": "gru"}, "seed": 0})
        {'model.cell': 'gru', 'seed': 0}
    """
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def list_preset_changes(train: TrainSettings) -> list[str]:
    """List the keys of settings whose value differs from the value in the preset of ``train``."""
    if train.preset is None:
        return []
    chosen = flatten(train.model_dump(mode="json"))
    preset = flatten(yaml_text.read_presets()[train.preset])
    return [f"train.{key}" for key, value in preset.items() if chosen[key] != value]


def _list_texts(value: Any) -> list[str]:
    """List the texts in a value and in its nested lists."""
    if isinstance(value, str):
        return [value]
    texts = []
    if isinstance(value, tuple | list):
        for item in value:
            texts += _list_texts(item)
    return texts


_TABLE = re.compile(r"\.(csv|tsv|parquet)(\.(?!ya?ml$)\w+)?$", re.IGNORECASE)
"""Names of tables, plain or compressed; ``a.csv.yaml`` is a config."""


def _read_yaml(path: Path) -> dict[str, Any]:
    """Read a settings file.

    Raises:
        UserError: It is missing or a table, or is not YAML with sections.
    """
    if not path.is_file():
        raise UserError(
            f"no such settings file: {path}", hint="sentiflow init FILE writes one, see configs/"
        )
    if _TABLE.search(path.name):
        raise UserError(
            f"{path} is a table, not a config",
            hint=f"{shlex.join(['sentiflow', 'init', str(path)])} writes one",
        )
    try:
        raw = yaml_text.parse(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not YAML", hint=str(error)) from error
    if not isinstance(raw, dict):
        raise UserError(f"{path} holds no settings", hint="write sections of key: value")
    return raw


def _locate(config: ConfigLike, overrides: Overrides) -> faults.SettingsSource:
    """Find where each setting was typed: in a line of the file, or in an override."""
    if isinstance(config, Mapping):
        return faults.SettingsSource("settings")
    if isinstance(overrides, Mapping):  # from a Python program
        changed = list(overrides)
        place = "changed settings"
    else:
        changed = [override.partition("=")[0] for override in overrides]
        place = "command line"
    return faults.SettingsSource(
        name=str(config),
        lines=yaml_text.find_lines(Path(config).read_text(encoding="utf-8")),
        overrides=changed,
        place_of_overrides=place,
    )


def _apply(raw: dict[str, Any], override: str) -> None:
    """Put the value of ``section.key=value`` into a settings dictionary.

    Raises:
        UserError: The override cannot be read, or a section in its key is a value.
    """
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise UserError(f"cannot read the override {override!r}", hint="write section.key=value")
    is_delimiter = key.endswith(".delimiter") and len(value) == 1  # may be a tab or a blank
    if not value.strip() and not is_delimiter:
        raise UserError(f"{override!r} has no value", hint=f"write {key}=null for no value")
    put(raw, key, _parse_value(value, override))


def _parse_value(value: str, override: str) -> Any:
    """Parse the value of an override as YAML.

    A single sign, such as a delimiter, and a time format mean themselves, without quotes.
    """
    is_sign = len(value) == 1 and not value.isalnum()
    is_time_format = value.startswith("%")
    if is_sign or is_time_format:
        return value
    try:
        return yaml_text.parse(value)
    except ValueError as error:
        shown = shorten(override, 80)
        raise UserError(f"cannot read the value of {shown!r}", hint="it must be YAML") from error
