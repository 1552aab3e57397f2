"""YAML text -> plain values, without the surprises of YAML 1.1."""

import re
from collections import Counter, deque
from typing import Any

import yaml

_INT, _TIMESTAMP = "tag:yaml.org,2002:int", "tag:yaml.org,2002:timestamp"
_WHOLE_NUMBER = re.compile(r"[-+]?(?:0b[01]+|0o[0-7]+|0x[0-9a-fA-F]+|[0-9](?:_?[0-9])*)$")


def parse(text: str) -> Any:
    """Read YAML: ``010`` is ten, a date is a text, and a repeated key is an error.

    Raises:
        ValueError: It is not such YAML; the message is one line.

    Example:
        >>> parse("{seed: 010, name: 2024-01-31}")
        {'seed': 10, 'name': '2024-01-31'}
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(" ".join(str(error).split())) from error


def find_lines(text: str) -> dict[tuple[str, ...], int]:
    r"""Find the line of each key of YAML that :func:`parse` reads, by the path of keys to it.

    Example:
        >>> find_lines("train:\n  seed: 1\\n")
        {('train',): 1, ('train', 'seed'): 2}
    """
    lines: dict[tuple[str, ...], int] = {}
    left: deque[tuple[tuple[str, ...], Any]] = deque([((), yaml.compose(text, Loader=_Loader))])
    seen = set()
    while left:
        path, node = left.popleft()
        if node in seen:  # a few aliases can stand for millions of nodes
            continue
        seen.add(node)
        for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and (inner := (*path, key.value)) not in lines:
                lines[inner] = key.start_mark.line + 1
                left.append((inner, value))
    return lines


class _Loader(yaml.SafeLoader):
    """YAML without tags and repeated keys."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_INT, _TIMESTAMP)]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if getattr(event, "tag", None) not in (None, "!"):
            line = event.start_mark.line + 1
            raise yaml.YAMLError(f"the tag {event.tag} at line {line} has no meaning here")
        return super().compose_node(parent, index)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        counts = Counter((key.tag, key.value) for key in keys)
        for (_, name), count in counts.items():
            if count > 1:
                line = node.start_mark.line + 1
                raise yaml.YAMLError(f"the key {name!r} occurs twice in the section at line {line}")
        return node


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(node.value, 0 if node.value.lstrip("+-")[1:2].isalpha() else 10)


_Loader.add_implicit_resolver(_INT, _WHOLE_NUMBER, list("-+0123456789"))
_Loader.add_constructor(_INT, _construct_int)
