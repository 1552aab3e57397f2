"""A command as it was typed -> its short settings and its command line, to be recorded."""

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml

from sentiflow.config import ray_job, repeated_settings, settings, yaml_text
from sentiflow.config.settings import ConfigLike, Overrides
from sentiflow.errors import printable
from sentiflow.storage.uris import without_credentials


@dataclass(frozen=True)
class WrittenCommand:
    """A command and its settings as the user wrote them, without defaults."""

    line: str
    """The command, such as ``sentiflow run configs/my.yaml train.seed=1``."""
    settings: str
    """The settings with the changes of the command, as YAML."""
    directory: str
    """The directory to which locations are relative; empty in a submitted job, which has absolute
    locations only."""

    def to_file(self) -> bytes:
        """Write the settings file that repeats the command; its first line names the command."""
        return f"# {printable(self.line)}\n{self.settings}".encode()


def write_down(
    verb: str,
    config: ConfigLike,
    changes: Overrides,
    *,
    raw: Mapping[str, Any],
    options: Sequence[str] = (),
) -> WrittenCommand:
    """Write down a command.

    Args:
        verb: The command: a stage, or ``run``.
        config: The settings file, the run in MLflow that is repeated, or the settings.
        changes: The changed settings.
        raw: The settings with the changes, as :func:`settings.read` returns them.
        options: Options of the command, such as ``--overwrite``.
    """
    return WrittenCommand(
        line=write_line(verb, config, changes, options=options),
        settings=to_yaml(repeated_settings.expand_homes(raw)),
        directory="" if ray_job.is_here() else os.getcwd(),
    )


def change(command: WrittenCommand, changes: Mapping[str, Any]) -> WrittenCommand:
    """Change settings of a command that was written down, such as a sweep's for one trial.

    Args:
        command: The command.
        changes: The changed settings, by dotted key.
    """
    raw = yaml_text.parse(command.settings)
    for key, value in changes.items():
        settings.put(raw, key, value)
    return replace(command, settings=to_yaml(raw))


def write_line(
    verb: str, config: ConfigLike, changes: Overrides = (), *, options: Sequence[str] = ()
) -> str:
    """Write the line of a command; settings that come from a Python program are ``config.yaml``."""
    source = "config.yaml" if isinstance(config, Mapping) else os.fspath(config)
    words = ["sentiflow", verb, source, *_write_changes(changes), *options]
    return without_credentials(shlex.join(words))


def _write_changes(changes: Overrides) -> list[str]:
    """Write changed settings as on the command line."""
    if not isinstance(changes, Mapping):
        return list(changes)
    written = []
    for key, value in changes.items():
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        written.append(f"{key}={text}")
    return written


def to_yaml(raw: Mapping[str, Any]) -> str:
    """Write settings as YAML, in their order, without aliases."""
    plain = json.loads(json.dumps(raw, default=str))  # a program may give types of numpy
    text = yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return without_credentials(text)


class _Dumper(yaml.SafeDumper):
    """Writes each value in full, also one that occurs twice, for which YAML has aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
