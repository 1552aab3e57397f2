"""Name of a template -> the template, with the filters that our pages share."""

import json
from collections.abc import Callable, Mapping
from string import Formatter
from typing import Any

import jinja2

from sentiflow.config.class_names import set_apart
from sentiflow.errors import few
from sentiflow.metrics import paired


def open_template(
    name: str,
    filters: Mapping[str, Callable[..., Any]] | None = None,
    *,
    package: str = "sentiflow.evaluation",
    **options: Any,
) -> jinja2.Template:
    """Open a template with the filters that our pages share.

    Args:
        name: File name of the template.
        filters: More filters, by name.
        package: The package of the template, which may include templates of
            ``sentiflow.evaluation``.
        options: Options of ``jinja2.Environment``.
    """
    packages = dict.fromkeys([package, "sentiflow.evaluation"])
    environment = jinja2.Environment(  # noqa: S701  not all are HTML
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(each) for each in packages]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        **options,
    )
    environment.filters |= {
        "few": few,
        "fill": fill,
        "number": _write_number,
        "p": paired.write_p,
        "points": _write_points,
        "set_apart": set_apart,
        "share": _write_share,
        "signed": _write_signed,
    }
    environment.filters |= filters or {}
    return environment.get_template(name)


def _write_share(value: float) -> str:
    """Write a share above 0 in percent, such as 31% or <1%."""
    return f"{value:.0%}" if value >= 0.01 else "<1%"


def write_setting(value: object) -> str:
    """Write the value of a setting as the command line takes it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def fill(form: str, values: object) -> str:
    """Format the fields of ``values`` into ``form``; return a dash if one of them is None.

    Args:
        form: A format string, such as ``"{low:.1%} to {high:.1%}"``.
        values: A mapping, or an object with the fields as attributes.
    """
    names = [name for _, name, _, _ in Formatter().parse(form) if name]
    fields = values
    if not isinstance(fields, Mapping):
        fields = {name: getattr(values, name) for name in names}
    if any(fields[name] is None for name in names):
        return "—"
    return form.format(**fields)


def _write_number(value: float | None, form: str) -> str:
    """Write a number; a dash if it is undefined."""
    return "—" if value is None else form.format(value)


def _write_signed(value: float) -> str:
    """Write a number with its sign and two decimals."""
    return f"{value:+.2f}".replace("-", "\u2212")


def _write_points(share: float) -> str:
    """Write a difference of shares in points, with its sign."""
    points = round(100 * share, 1) or 0.0  # not -0.0
    return f"{points:+.1f}".replace("-", "\u2212")
