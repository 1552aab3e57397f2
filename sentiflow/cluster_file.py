"""Cluster file for `ray up` -> what is wrong with it."""

import difflib
import functools
import importlib.util
import io
import json
import logging
import re
import shlex
import subprocess
from collections.abc import Collection, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import yaml

from sentiflow.errors import UserError

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
    faults = list(_check_keys(config)) or list(_ask_ray(config))
    faults += [*_check_instances(config), *_check_commands(config), *_check_files(config, path)]
    if faults:
        raise UserError("\n".join(f"{path}: {fault}" for fault in faults))


def _read(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"no such file: {path}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict) or not isinstance(config.get("provider"), dict):
        raise UserError(f"{path}: no section provider", hint="is it a file for `ray up`?")
    return config


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
    import jsonschema  # type: ignore[import-untyped]
    from ray.autoscaler._private.util import prepare_config, validate_config

    logging.getLogger("ray.autoscaler").setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # it speaks of docker
            validate_config(prepare_config(dict(config)))
    except jsonschema.ValidationError as error:
        place = ".".join(str(step) for step in error.absolute_path)
        yield f"{place}: {error.message}" if place else error.message
    except (ValueError, RuntimeError, click.ClickException) as error:
        yield " ".join(str(error).split())


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
    import click
    from ray.scripts.scripts import start

    for name in _COMMANDS:
        commands = config.get(name)
        for command in commands if isinstance(commands, list) else ():
            if not isinstance(command, str):
                continue
            read = subprocess.run(
                ["/bin/bash", "-n"], input=command, capture_output=True, text=True
            )
            if read.returncode:
                yield f"{name}: {read.stderr.strip().splitlines()[0]}"
                continue
            for options in re.findall(r"\bray start\b([^;&|]*)", command):
                try:
                    start.make_context("ray start", shlex.split(options))
                except click.ClickException as error:
                    yield f"{name}: ray start: {' '.join(error.format_message().split())}"


def _check_files(config: Mapping[str, Any], path: Path) -> Iterator[str]:
    """Find files that are to be sent to the machines and are not there.

    A relative path is relative to where `ray up` is typed: beside the cluster file, as a rule.
    """
    mounts = config.get("file_mounts")
    for local in mounts.values() if isinstance(mounts, dict) else ():
        source = Path(str(local)).expanduser()
        if source.name == "auth_token" and not source.exists():
            yield f"file_mounts: {local} is not there: make the token first, see the file's head"
        elif not (path.parent / source).exists():
            yield f"file_mounts: {local} is not there"
