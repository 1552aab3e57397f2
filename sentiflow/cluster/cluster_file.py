"""Cluster file for `ray up` -> what is wrong with it."""

import copy
import difflib
import functools
import importlib.util
import io
import itertools
import json
import logging
import os
import re
import shlex
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sentiflow.errors import UserError

if TYPE_CHECKING:
    import jsonschema  # type: ignore[import-untyped]

_OF_ANY = {
    "type", "use_internal_ips", "disable_node_updaters", "disable_launch_config_check",
    "foreground_node_launch", "worker_liveness_check",
}  # fmt: skip
_KNOWN: dict[str, set[str]] = {
    "aws": {
        "region", "availability_zone", "cache_stopped_nodes", "key_pair", "security_group",
        "aws_credentials", "cloudwatch", "use_external_head_ip",
    },
    "azure": {
        "location", "resource_group", "subscription_id", "tags", "cache_stopped_nodes", "unique_id",
        "subnet_mask", "msi_name", "msi_resource_group", "availability_zone",
        "use_external_head_ip",
    },
    "gcp": {
        "region", "availability_zone", "project_id", "cache_stopped_nodes", "gcp_credentials",
        "use_external_head_ip",
    },
    "local": {"head_ip", "worker_ips", "external_head_ip", "coordinator_address"},
}  # fmt: skip
"""What Ray 2.60 reads of the section ``provider``, which its own schema does not tell."""
_NEEDED: dict[str, tuple[tuple[str, ...], ...]] = {
    "aws": (("region",),),
    "azure": (("location",), ("resource_group",)),
    "gcp": (("region",), ("availability_zone",), ("project_id",)),
    "local": (("head_ip", "coordinator_address"), ("worker_ips", "coordinator_address")),
}
"""Of each group of keys, one."""
_NOT_FOR_EC2 = {"SubnetIds"}
"""What Ray takes out of ``node_config`` before it asks EC2."""
_OF_LOCAL = {"min_workers", "max_workers"}
_COMMANDS = (
    "initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands",
    "head_start_ray_commands", "worker_start_ray_commands",
)  # fmt: skip
_FILLED = ("available_node_types", "head_node_type")
"""What Ray fills in itself for machines that are there."""
_OF_YAML = (ValueError, TypeError, KeyError, AttributeError, IndexError)
"""What PyYAML lets pass of a bad number or date, such as 2024-13-01; of a key that is a list."""
_OF_RAY = (TypeError, AttributeError, LookupError, AssertionError)
_MAX_TEXT = 400
_BEFORE = {"if", "then", "else", "elif", "while", "until", "do", "!", "{", "exec", "nohup", "time",
           "sudo", "env", "command"}  # fmt: skip
"""What may stand before the command that is run."""
_EXPANSION = re.compile(r"\$\((?:[^()]|\([^()]*\))*\)|\$\{[^}]*\}|`[^`]*`")
_PART = re.compile(
    rf"""(?P<space>[ \t]+|(?:(?<=[\s;&|()])|\A)\#[^\n]*)
    |(?P<other><<(?!<)|[<>]\()
    |(?P<redirection>(?:\d+(?=[<>]))?(?:&>>?|<<<|<>|>>|>\||[<>]&?))
    |(?P<separator>[;&|()\n])
    |(?P<word>(?:{_EXPANSION.pattern}|\\.|'[^']*'
        |"(?:{_EXPANSION.pattern}|\\.|[^"\\])*+"|[^\s;&|()<>'"\\])++)""",
    re.VERBOSE | re.DOTALL,
)
"""Of a command; here-documents and files that are commands are taken for what cannot be read."""


def check(path: Path) -> None:
    """Check a cluster file as far as that goes without a network.

    Ray checks it against its own schema. Beside that: the keys of ``provider``, of which Ray lets
    every one pass; those of an AWS ``node_config``, if boto3, without which Ray cannot start a
    machine there, is installed; whether a shell can read the commands, and ``ray start`` its
    options; and whether the files to be sent are there.

    Raises:
        UserError: With a line for each fault.
    """
    config = _read(path)
    faults = list(_check_types(config))
    if not faults:  # the rest takes a list for a list
        faults = list(_check_keys(config)) or list(_ask_ray(config))
        faults += [*_check_instances(config), *_check_commands(config), *_check_files(config, path)]
    if faults:
        lines = "\n".join(f"{path}: {fault}" for fault in faults)
        raise UserError(lines.encode(errors="backslashreplace").decode())


def _read(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        json.dumps(config, default=str, skipkeys=True)  # a loop of aliases cannot be sent
    except FileNotFoundError as error:
        raise UserError(f"no such file: {path}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except RecursionError as error:
        raise UserError(f"{path}: too many brackets within brackets") from error
    except (yaml.YAMLError, *_OF_YAML) as error:
        raise UserError(f"{path} is no YAML: {_in_a_line(error)}") from error
    if not isinstance(config, dict) or not isinstance(config.get("provider"), dict):
        raise UserError(f"{path}: no section provider", hint="is it a file for `ray up`?")
    return config


def _check_types(config: Mapping[str, Any]) -> Iterator[str]:
    """Find what has another type than Ray's schema says, before Ray stumbles over it.

    What is missing is not a fault yet: Ray fills in its defaults.
    """
    import jsonschema

    if faults := list(_find_odd_keys(config)):
        yield from faults
        return
    schema = _schema()
    provider = config["provider"]
    filled = _FILLED if provider.get("type") == "local" else ()
    given = {key: value for key, value in config.items() if value or key not in filled}
    known = {key: value for key, value in given.items() if key in schema["properties"]}
    for error in jsonschema.Draft7Validator(schema).iter_errors(known):
        if error.validator != "required":
            yield _to_text(error)
    ips = provider.get("worker_ips")
    for ip in ips if isinstance(ips, list) else ():
        if not isinstance(ip, str):
            yield f"provider.worker_ips: {ip!r} is no address"


def _find_odd_keys(value: object, where: str = "") -> Iterator[str]:
    """Find keys that YAML takes for a number, a truth, a date or nothing."""
    if isinstance(value, list):
        for item in value:
            yield from _find_odd_keys(item, where)
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                yield f"the key {where}{key} is no text: write it in quotes"
            yield from _find_odd_keys(item, f"{where}{key}.")


def _check_keys(config: Mapping[str, Any]) -> Iterator[str]:
    """Find unknown and missing keys, of the file and of ``provider``."""
    provider = config["provider"]
    kind = provider.get("type")
    known = set(_schema()["properties"]) | (_OF_LOCAL if kind == "local" else set())
    yield from _unknown(config, known)
    if kind not in _KNOWN:
        close = difflib.get_close_matches(str(kind), _KNOWN, n=1)
        hint = f"did you mean {close[0]}?" if close else f"checked here: {', '.join(_KNOWN)}"
        yield f"provider.type: {kind}: {hint}"
        return
    yield from _unknown(provider, _KNOWN[kind] | _OF_ANY, "provider.")
    for names in _NEEDED[kind]:
        if not any(name in provider for name in names):
            yield f"provider.{names[0]} is missing"


def _unknown(section: Mapping[str, Any], known: Collection[str], where: str = "") -> Iterator[str]:
    for key in section:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(known))}"
            yield f"unknown key {where}{key}: {hint}"


def _schema() -> dict[str, Any]:
    import ray.autoscaler

    return json.loads(Path(ray.autoscaler.__file__).with_name("ray-schema.json").read_text())


def _ask_ray(config: Mapping[str, Any]) -> Iterator[str]:
    """Have Ray itself check the file, as `ray up` does first."""
    import click
    import jsonschema
    from ray.autoscaler._private.util import prepare_config, validate_config

    logging.getLogger("ray.autoscaler").setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # it speaks of docker
            validate_config(prepare_config(copy.deepcopy(dict(config))))
    except jsonschema.ValidationError as error:
        yield _to_text(error)
    except (ValueError, RuntimeError, click.ClickException) as error:
        yield _in_a_line(error)
    except _OF_RAY as error:  # it takes for granted what the file has not
        yield f"Ray cannot read it: {type(error).__name__}: {_in_a_line(error)}"


def _to_text(error: "jsonschema.ValidationError") -> str:
    place = ".".join(str(step) for step in error.absolute_path)
    return _in_a_line(f"{place}: {error.message}" if place else error.message)


def _in_a_line(error: object) -> str:
    return " ".join(str(error).split())[:_MAX_TEXT]


def _check_instances(config: Mapping[str, Any]) -> Iterator[str]:
    """Check what each group of machines is to be, against EC2's own description of its call."""
    has_boto = importlib.util.find_spec("botocore")
    if config["provider"].get("type") != "aws" or not has_boto:
        return
    import botocore.validate  # type: ignore[import-untyped]

    shape = _shape_of_instances()
    for name, group in (config.get("available_node_types") or {}).items():
        asked = dict(group.get("node_config") or {}) if isinstance(group, dict) else {}
        if "InstanceType" not in asked:
            yield f"available_node_types.{name}.node_config.InstanceType is missing"
        where = f"available_node_types.{name}.node_config."
        yield from _unknown(asked, {*shape.members, *_NOT_FOR_EC2}, where)
        asked = {key: value for key, value in asked.items() if key in shape.members}
        counts = {"MinCount": 1, "MaxCount": 1}
        report = botocore.validate.ParamValidator().validate(asked | counts, shape)
        for line in report.generate_report().splitlines():
            yield f"{where[:-1]}: {line}"


@functools.cache
def _shape_of_instances() -> Any:
    import botocore.session  # type: ignore[import-untyped]

    model = botocore.session.get_session().get_service_model("ec2")
    return model.operation_model("RunInstances").input_shape


def _check_commands(config: Mapping[str, Any]) -> Iterator[str]:
    """Have a shell read the commands, and Ray the options of ``ray start``; nothing is run."""
    for name in _COMMANDS:
        for command in config.get(name) or ():
            if fault := _ask_shell(command):
                yield f"{name}: {fault}"
            elif name.endswith("_start_ray_commands"):
                for options in _find_starts(command):
                    if fault := _ask_start(options):
                        yield f"{name}: ray start: {fault}"


@functools.cache
def _ask_shell(command: str) -> str:
    """Say what a shell finds wrong with a command; nothing if it can be read."""
    read = subprocess.run(
        ["/bin/bash", "-n"], input=command, capture_output=True, encoding="utf-8",
        errors="replace",
    )  # fmt: skip
    return (read.stderr.strip() or "a shell cannot read it").splitlines()[0] * bool(read.returncode)


def _find_starts(command: str) -> list[list[str]]:
    """Find the options of each ``ray start`` in a command that a shell can read.

    Only where a shell would run it itself: in ``echo ray start`` or ``bash -c "ray start"`` it is
    a text as others. An expansion stands as ``$``. What this cannot take apart has none.
    """
    command = command.replace("\\\n", "")
    commands: list[list[str]] = [[]]
    position = 0
    is_target = False
    while position < len(command):
        part = _PART.match(command, position)
        if part is None or part["other"]:
            return []
        position = part.end()
        if part["separator"]:
            commands.append([])
        elif part["word"] and not is_target:
            commands[-1].append(part["word"])
        if not part["space"]:
            is_target = bool(part["redirection"])
    return [words[i + 2 :] for words in map(_unquote, commands) if (i := _start_in(words)) >= 0]


def _unquote(words: Sequence[str]) -> list[str]:
    """Take the quotes off, as a shell does; of words with quotes in expansions, leave none."""
    try:
        return [shlex.split(_EXPANSION.sub("$", word))[0] for word in words]
    except ValueError:
        return []


def _start_in(words: Sequence[str]) -> int:
    """Give the place of ``ray start`` among the words of one command; -1 if it is another."""
    for index, (word, verb) in enumerate(itertools.pairwise(words)):
        if word.rpartition("/")[2] == "ray":
            return index if verb == "start" else -1
        if word not in _BEFORE and not re.match(r"\w+=", word):
            break
    return -1


def _ask_start(options: list[str]) -> str:
    """Say what ``ray start`` finds wrong with its options, as far as they are known here."""
    import click
    from ray.scripts.scripts import start

    try:
        with redirect_stdout(io.StringIO()):  # --help
            start.make_context("ray start", list(options))
    except click.exceptions.Exit:
        return ""
    except click.ClickException as error:
        text = _in_a_line(error.format_message())
        return "" if "$" in text else text
    return ""


def _check_files(config: Mapping[str, Any], path: Path) -> Iterator[str]:
    """Find files that are to be sent to the machines and are not there.

    A relative path is relative to where `ray up` is typed: beside the cluster file, as a rule.
    """
    for local in (config.get("file_mounts") or {}).values():
        source = os.path.expanduser(str(local))
        if os.path.exists(path.parent / source):
            continue
        if os.path.basename(source) == "auth_token":
            yield f"file_mounts: {local} is not there: make the token first, see the file's head"
        else:
            yield f"file_mounts: {local} is not there"
