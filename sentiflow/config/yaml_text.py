"""YAML text -> settings as written, and their lines; presets and an inherited format filled in."""

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
    nodes: list[tuple[tuple[str, ...], Any]] = [((), yaml.compose(text, Loader=_Loader))]
    seen = set()
    for path, node in nodes:
        if isinstance(node, yaml.MappingNode) and node not in seen:
            seen.add(node)  # a few aliases can stand for millions of nodes
            for key, value in node.value:
                inner = (*path, str(key.value))
                lines.setdefault(inner, key.start_mark.line + 1)
                nodes.append((inner, value))
    return lines


class _Loader(yaml.SafeLoader):
    """YAML without dates and repeated keys."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

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
    """Fill ``score.format`` in from ``format``, if both are of one kind.

    Columns of one file say nothing about those of another, so they are given as a whole, and labels
    are inherited only for a column of labels.
    """
    base, section = raw.get("format"), raw.get("score")
    scored = section.get("format") if isinstance(section, dict) else None
    if not isinstance(base, dict) or not isinstance(scored, dict):
        return raw
    if scored.get("kind", base.get("kind")) != base.get("kind"):
        return raw
    inherited, columns = dict(base), scored.get("columns")
    if isinstance(columns, dict) and columns.get("label") is None:
        inherited.pop("labels", None)
    return raw | {"score": raw["score"] | {"format": inherited | scored}}


@functools.cache
def read_presets() -> dict[str, dict[str, Any]]:
    """Read what each preset stands for, as the section ``train`` has it."""
    text = (resources.files("sentiflow.config") / "presets.yaml").read_text("utf-8")
    return dict(parse(text))


def fill_preset(raw: dict[str, Any]) -> dict[str, Any]:
    """Fill the settings of ``train.preset`` in where ``train`` does not name its own."""
    train = raw.get("train")
    if not isinstance(train, dict) or not isinstance(train.get("preset"), str):
        return raw
    model = train.get("model")
    if isinstance(model, dict) and model.get("kind", "rnn") != "rnn":
        return raw  # refused by TrainSettings, in its own words
    return raw | {"train": _merge(read_presets().get(train["preset"], {}), train)}


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Merge nested settings; where both name one, the second counts."""
    merged = base | changes
    for name in base.keys() & changes.keys():
        if isinstance(base[name], dict) and isinstance(changes[name], dict):
            merged[name] = _merge(base[name], changes[name])
    return merged
