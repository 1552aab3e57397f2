"""YAML text -> settings as written and their lines; fills in presets and an inherited format."""

import functools
from importlib import resources
from typing import Any

import yaml

_TIMESTAMP = "tag:yaml.org,2002:timestamp"


def parse(text: str) -> Any:
    """Read YAML: a date is a text, and a repeated key is an error.

    Raises:
        ValueError: It is not such YAML; the message is one line.

    Example:
        >>> parse("{seed: 10, name: 2024-01-31}")
        {'seed': 10, 'name': '2024-01-31'}
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(" ".join(str(error).split())) from error


def find_lines(text: str) -> dict[tuple[str, ...], int]:
    r"""Find the line of each key of YAML that :func:`parse` reads, by the path of keys to it.

    Example:
        >>> find_lines("train:\n  seed: 1\\n")
        {('train',): 1, ('train', 'seed'): 2}
    """
    lines: dict[tuple[str, ...], int] = {}
    to_visit: list[tuple[tuple[str, ...], Any]] = [((), yaml.compose(text, Loader=_Loader))]
    seen = set()  # a few aliases can stand for millions of nodes
    for path, node in to_visit:  # grows meanwhile
        if not isinstance(node, yaml.MappingNode) or node in seen:
            continue
        seen.add(node)
        for key, value in node.value:
            inner = (*path, str(key.value))
            lines.setdefault(inner, key.start_mark.line + 1)
            to_visit.append((inner, value))
    return lines


def _without_dates(resolvers: Any) -> dict[str, list[Any]]:
    """Leave out the rules of YAML that make dates of texts."""
    kept = {}
    for first_letter, rules in resolvers.items():
        kept[first_letter] = [(tag, pattern) for tag, pattern in rules if tag != _TIMESTAMP]
    return kept


class _Loader(yaml.SafeLoader):
    """YAML without dates and repeated keys."""

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
    """Fill in the settings that ``score.format`` lacks from ``format``, if both have the same kind.

    ``columns`` is inherited only as a whole, because two files may have different columns.
    ``labels`` is inherited only if there is a column of labels.
    """
    base = raw.get("format")
    score = raw.get("score")
    if not isinstance(base, dict) or not isinstance(score, dict):
        return raw
    scored = score.get("format")
    if not isinstance(scored, dict):
        return raw
    if scored.get("kind", base.get("kind")) != base.get("kind"):
        return raw
    inherited = dict(base)
    columns = scored.get("columns")
    if isinstance(columns, dict) and columns.get("label") is None:
        inherited.pop("labels", None)
    return raw | {"score": score | {"format": inherited | scored}}


@functools.cache
def read_presets() -> dict[str, dict[str, Any]]:
    """Read the settings of each preset, as in the section ``train``."""
    text = (resources.files("sentiflow.config") / "presets.yaml").read_text("utf-8")
    return dict(parse(text))


def fill_preset(raw: dict[str, Any]) -> dict[str, Any]:
    """Fill in the settings of ``train.preset`` that ``train`` lacks."""
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
