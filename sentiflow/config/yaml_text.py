"""YAML text -> settings as written, and their lines.

The module also fills in the settings of presets, and settings that ``score.format`` inherits.
"""

import functools
from importlib import resources
from typing import Any

import yaml

_TIMESTAMP = "tag:yaml.org,2002:timestamp"
"""YAML's tag of a date or a time."""


def parse(text: str) -> Any:
    """Read YAML: a date is a text, and a repeated key is an error.

    Raises:
        ValueError: The text is not YAML, or a key is repeated; the message is one line.

    Example:
        >>> parse("{seed: 10, name: 2024-01-31}")
        {'seed': 10, 'name': '2024-01-31'}
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (_Loader is a SafeLoader)
    except (yaml.YAMLError, ValueError, AttributeError, LookupError) as error:
        # the last two: a value does not fit its tag, such as !!timestamp x
        raise ValueError(" ".join(str(error).split())) from error


def find_lines(text: str) -> dict[tuple[str, ...], int]:
    r"""Find the line of each key in YAML, by the key and the keys of its sections.

    Example:
        >>> find_lines("train:\n  seed: 1\\n")
        {('train',): 1, ('train', 'seed'): 2}
    """
    lines: dict[tuple[str, ...], int] = {}
    to_visit: list[tuple[tuple[str, ...], Any]] = [((), yaml.compose(text, Loader=_Loader))]
    seen = set()  # a few aliases can stand for millions of nodes
    for path, node in to_visit:  # the loop appends to this list
        if not isinstance(node, yaml.MappingNode) or node in seen:
            continue
        seen.add(node)
        for key, value in node.value:
            inner = (*path, str(key.value))
            lines.setdefault(inner, key.start_mark.line + 1)
            to_visit.append((inner, value))
    return lines


def _without_dates(resolvers: Any) -> dict[str, list[Any]]:
    """Leave out the rules of YAML that turn texts into dates."""
    kept = {}
    for first_letter, rules in resolvers.items():
        kept[first_letter] = [(tag, pattern) for tag, pattern in rules if tag != _TIMESTAMP]
    return kept


class _Loader(yaml.SafeLoader):
    """Loads YAML: dates are texts, and repeated keys are errors."""

    yaml_implicit_resolvers = _without_dates(yaml.SafeLoader.yaml_implicit_resolvers)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        names = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in names:
                line = node.start_mark.line + 1
                raise yaml.YAMLError(
                    f"the key {key.value!r} occurs twice in the section at line {line}"
                )
            names.add((key.tag, str(key.value)))
        return node


def inherit_format(raw: dict[str, Any]) -> dict[str, Any]:
    """Fill in settings that ``score.format`` lacks from ``format``, if both have the same kind.

    ``columns`` is inherited only as a whole, because two files may have different columns.
    ``labels`` and the order of the classes are inherited only if there is a column of labels.
    """
    base = raw.get("format")
    score = raw.get("score")
    if not isinstance(base, dict) or not isinstance(score, dict):
        return raw
    score_format = score.get("format")
    if not isinstance(score_format, dict):
        return raw
    kind = score_format.get("kind", base.get("kind"))
    if kind != base.get("kind"):
        return raw
    inherited = dict(base)
    columns = score_format.get("columns")
    if isinstance(columns, dict) and columns.get("label") is None:
        for name in ("labels", "ordered", "values"):
            inherited.pop(name, None)
    return raw | {"score": score | {"format": inherited | score_format}}


@functools.cache
def read_presets() -> dict[str, dict[str, Any]]:
    """Read the settings of the section ``train`` for each preset."""
    text = (resources.files("sentiflow.config") / "presets.yaml").read_text("utf-8")
    return dict(parse(text))


def fill_preset(raw: dict[str, Any]) -> dict[str, Any]:
    """Fill in the settings of the preset that the section ``train`` lacks."""
    train = raw.get("train")
    if not isinstance(train, dict) or not isinstance(train.get("preset"), str):
        return raw
    model = train.get("model")
    if isinstance(model, dict) and model.get("kind", "rnn") != "rnn":
        return raw  # TrainSettings refuses the preset with its own message
    preset = read_presets().get(train["preset"], {})
    return raw | {"train": _merge(preset, train)}


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Merge nested settings; a setting of ``changes`` takes precedence."""
    merged = dict(base)
    for name, value in changes.items():
        earlier = base.get(name)
        if isinstance(value, dict) and isinstance(earlier, dict):
            merged[name] = _merge(earlier, value)
        else:
            merged[name] = value
    return merged
