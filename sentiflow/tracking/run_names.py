"""Settings of a training and of earlier trainings -> the name of its run in MLflow."""

from collections.abc import Collection, Iterable, Mapping

from sentiflow.config import yaml_text
from sentiflow.config.sections import Config
from sentiflow.config.train_sections import TrainSettings
from sentiflow.tracking.runs import FOLDERS, to_params

PRESET = "train.preset"
"""Parameter with the name of the preset."""
_PREPARATION = "prepare."
"""Beginning of the parameters of the preparation, which decide the features of a model."""
_NOT_NAMED = frozenset(TrainSettings.NOT_DECISIVE) - {"preset"}
"""Settings of ``train`` by which no run is named."""
_NO_FEATURES = {"prepare.rows_per_file", "prepare.keep_raw", "prepare.keep_columns"}
"""Settings of the preparation that do not change a model."""
_MAX_CHANGES = 3
"""Maximum parameters in the name of a run."""
_MAX_VALUE_LENGTH = 24
"""Maximum characters of a parameter's value in the name of a run."""


def changes_of(name: str) -> str:
    """Return the changes in the name of a run, see :func:`name_run`.

    Example:
        >>> changes_of("quickstart: seed=1")
        'seed=1'
    """
    return name.partition(": ")[2]


def name_run(stage: str, config: Config, *, changes: str = "") -> str:
    """Name a run by its output directory and its stage; a training by its changes or its model.

    Example:
        >>> config = Config(
        ...     name="a",
        ...     output_uri="runs/b",
        ...     train={"output_uri": "runs/b/trained"},
        ...     score={"output_uri": "runs/b/scored"},
        ... )
        >>> name_run("score", config), name_run("train", config)
        ('b: score', 'b: gru(128)')
    """
    folders = getattr(config, stage).output_uri.rstrip("/").split("/")
    folder = folders[-1]
    if folder in FOLDERS and len(folders) > 1:
        folder = folders[-2]
    if stage == "train":
        return f"{folder}: {changes or config.train.model.brief}"
    return f"{folder}: {stage}"


def find_changes(
    params: Mapping[str, str],
    earlier: Iterable[Mapping[str, str]],
    *,
    taken: Collection[str] = (),
) -> str:
    """Name the parameters of a training that differ from the most similar earlier training.

    Parameters of the preparation come first, then the preset. If the preset differs, the settings
    that a preset fills in are not named. A training without a preset is rather compared with
    others without one, as "preset=None" tells little. A parameter that an earlier training lacks is
    no difference. If these changes name an earlier training already, the next similar training is
    compared, so that the names of a grid of settings differ.

    Args:
        params: All parameters of the training.
        earlier: The parameters of each earlier training, the newest first.
        taken: Changes that name an earlier training.

    Returns:
        The changes; empty if nothing differs from one of the earlier trainings, or if there is
        none.

    Example:
        >>> find_changes({"train.seed": "1"}, [{"train.seed": "0"}, {"train.seed": "2"}])
        'seed=1'
        >>> find_changes({"train.seed": "1"}, [{"train.seed": "0"}, {"train.seed": "1"}])
        ''
    """
    named = {key: value for key, value in params.items() if _is_named(key)}
    found: list[list[str]] = []
    for each in earlier:
        differing = _list_differing(named, each)
        if not differing and named.keys() <= each.keys():
            return ""
        if differing:
            found.append(sorted(differing, key=_rank))
    # Trainings with equally many differences keep their order.
    found.sort(key=lambda changed: (_leaves_out_preset(params, changed), len(changed)))
    texts = [_write_changes(params, changed) for changed in found]
    free = [text for text in texts if text not in taken]
    return next(iter([*free, *texts]), "")


def _is_named(key: str) -> bool:
    """Say whether a run may be named by a parameter."""
    if key.startswith(_PREPARATION):
        return key not in _NO_FEATURES
    section, _, name = key.partition(".")
    return section == "train" and name.partition(".")[0] not in _NOT_NAMED


def _list_differing(params: Mapping[str, str], each: Mapping[str, str]) -> list[str]:
    """List the parameters that differ from those of an earlier training."""
    differing = [key for key in params if each.get(key, params[key]) != params[key]]
    if PRESET not in differing:
        return differing
    of_presets = _list_filled(params) | _list_filled(each)
    return [key for key in differing if key not in of_presets]


def _leaves_out_preset(params: Mapping[str, str], changed: list[str]) -> bool:
    """Say whether only the earlier one of two trainings has a preset."""
    return PRESET in changed and params[PRESET] == str(None)


def _list_filled(params: Mapping[str, str]) -> set[str]:
    """List the parameters that have the value of the preset of a training.

    A setting ``auto`` is recorded with the value that it stands for.
    """
    preset = yaml_text.read_presets().get(params.get(PRESET, ""), {})
    filled = set()
    for key, value in to_params({"train": preset}).items():
        if value in ("auto", params.get(key)):
            filled.add(key)
    return filled


def _rank(key: str) -> int:
    """Return the place of a parameter in the name of a run; equal places keep their order."""
    if key.startswith(_PREPARATION):
        return 0
    return 1 if key == PRESET else 2


def _write_changes(params: Mapping[str, str], changed: list[str]) -> str:
    """Write the first few changes, and count the others."""
    shown = []
    for key in changed[:_MAX_CHANGES]:
        name = key.removeprefix("train.").removeprefix(_PREPARATION).removeprefix("model.")
        shown.append(f"{name}={params[key][:_MAX_VALUE_LENGTH]}")
    text = ", ".join(shown)
    num_more = len(changed) - len(shown)
    if num_more:
        text += f" and {num_more} more"
    return text
