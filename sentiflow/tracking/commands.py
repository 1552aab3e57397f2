"""A command as typed -> its settings, resolved and as written; or an earlier command, repeated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sentiflow import __version__
from sentiflow.config import repeated_settings, settings, written
from sentiflow.config.sections import RUN_STAGES, Config
from sentiflow.config.settings import ConfigLike, Overrides
from sentiflow.config.written import WrittenCommand
from sentiflow.progress import say
from sentiflow.tracking import earlier_runs, mlflow_store, runs
from sentiflow.tracking.earlier_runs import EarlierRun

if TYPE_CHECKING:
    from sentiflow.data.manifest_types import Manifest


@dataclass(frozen=True)
class Command:
    """A command with its settings."""

    config: Config
    """The settings, with defaults and absolute locations."""
    written: WrittenCommand
    """The command and its settings as they were typed."""
    repeats: EarlierRun | None
    """The run in MLflow that is repeated; None if a settings file is used."""
    verb: str
    """The name of the command."""

    def compare(self, records: "Mapping[str, Manifest]") -> None:
        """Say whether a repetition has the same result as the run that it repeats.

        Args:
            records: The manifests of the stages, by stage.
        """
        if self.repeats:
            say(self.verb, self.repeats.compare(records))


def load(
    verb: str,
    config: ConfigLike,
    changes: Overrides = (),
    *,
    options: Sequence[str] = (),
    submitted: bool | None = None,
) -> Command:
    """Read the settings of a command: from a file, from a program, or from a run in MLflow.

    Args:
        verb: The command: a stage, or ``run``.
        config: The settings file, the settings, or ``runs:/ID``: the run to repeat.
        changes: The changed settings.
        options: Options of the command, such as ``--overwrite``, which are recorded.
        submitted: Whether the command is for a cluster; see :func:`settings.load`.

    Raises:
        UserError: The settings are missing or wrong, or there is no such run.
        JobError: MLflow refuses, or does not answer.
    """
    source = config
    earlier = None
    if earlier_runs.is_run(config):
        earlier = earlier_runs.read(str(config), tracking_uri=_find_store(changes))
        source = _repeat(earlier, verb, changes)
        _say_other_code(verb, earlier)
    resolved = settings.load(source, changes, command=verb, submitted=submitted)
    raw = settings.read(source, changes)
    typed = written.write_down(verb, config, changes, raw=raw, options=options)
    return Command(config=resolved, written=typed, repeats=earlier, verb=verb)


def _repeat(earlier: EarlierRun, verb: str, changes: Overrides) -> dict[str, Any]:
    """Change the settings of a run, so that a command repeats it elsewhere."""
    # A run that did not train may train now, by a change of the new command.
    verbs: Sequence[str] = RUN_STAGES if verb == "run" else (verb,)
    return repeated_settings.repeat(
        earlier.settings,
        changes,
        verbs=verbs,
        directory=earlier.directory,
        tracking_uri=earlier.tracking_uri,
        source=earlier.uri,
    )


def _find_store(changes: Overrides) -> str:
    """Find the store of the run to repeat: ``tracking.uri`` of the command, or the environment."""
    setting = settings.read({}, changes).get("tracking", {})
    uri = setting.get("uri") if isinstance(setting, Mapping) else None
    return mlflow_store.default_uri(uri if isinstance(uri, str) else None)


def _say_other_code(verb: str, earlier: EarlierRun) -> None:
    """Say that the run was made by other code, which may give other results."""
    code = f"{__version__}, code {runs.hash_code()}"
    if earlier.code != code:
        say(verb, f"{earlier.uri} was made by sentiflow {earlier.code}; this is {code}")
