"""Config -> whether its jobs can run on this machine: versions, input, output, disk, tracking.

Nothing here starts or imports Ray.
"""

import os
import platform
import secrets
from contextlib import suppress
from importlib import metadata

from packaging.requirements import Requirement

import sentiflow
from sentiflow.cluster.doctor.check import CheckResult, report
from sentiflow.config.sections import Config
from sentiflow.errors import UserError
from sentiflow.storage import filesystem
from sentiflow.storage.uris import is_local, join
from sentiflow.tracking import provenance

PACKAGES = ("ray", "torch", "pyarrow", "pandas", "numpy", "mlflow", "torchtext")
"""Packages that decide whether jobs run and what comes out."""


def examine(config: Config | None) -> list[CheckResult]:
    """Check this machine as the jobs of a config would use it.

    Args:
        config: The experiment; without one, its files are not checked.
    """
    results = report("versions", check_versions)
    if config:
        results += examine_config(config)
        for uri in find_outputs(config):
            if not is_local(uri):  # of local ones, the config's checks say it
                results += report("output", try_object_store, uri)
    return results + examine_tracking(config)


def examine_config(config: Config | None) -> list[CheckResult]:
    """Report what :func:`config_checks.find` finds, or that there is nothing."""
    from sentiflow.cluster.doctor import config_checks

    if config is None:
        return [CheckResult("config", "unchecked", "no CONFIG was given")]
    found = config_checks.find(config, config_checks.choose_stages(config))
    what = "the input, the models and the directories fit the settings"
    return found or [CheckResult("config", "ok", what)]


def examine_tracking(config: Config | None) -> list[CheckResult]:
    """Check the tracking store; a warning, if jobs may do without."""
    is_required = config is None or config.tracking.required
    return report("tracking", check_tracking, config, level="error" if is_required else "warning")


def find_versions() -> dict[str, str]:
    """Return the versions of Python, sentiflow and ``PACKAGES``, and a hash of sentiflow's code."""
    found = {"python": platform.python_version(), "sentiflow": sentiflow.__version__}
    for name in PACKAGES:
        found[name] = "missing"
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found | {"code": provenance.hash_code()}


def check_versions() -> str:
    """Make sure that the packages are those that sentiflow requires."""
    found = find_versions()
    required: list[str] = []
    with suppress(metadata.PackageNotFoundError):
        required = metadata.requires("sentiflow") or []
    for one in map(Requirement, required):
        version = found.get(one.name)
        is_missing = version == "missing"
        if version and (is_missing or not one.specifier.contains(version, prereleases=True)):
            raise UserError(
                f"{one.name} {version}, but sentiflow requires {one.specifier}",
                hint="pip install -c constraints.txt",
            )
    return ", ".join(f"{name} {version}" for name, version in found.items())


def find_outputs(config: Config) -> list[str]:
    """List the directory of the whole run, and those of stages that lie elsewhere."""
    stages = (config.prepare, config.train, config.score, config.evaluate, config.sweep)
    below = f"{config.output_uri}/"
    elsewhere = [s.output_uri for s in stages if not f"{s.output_uri}/".startswith(below)]
    return list(dict.fromkeys([config.output_uri, *elsewhere]))


def try_object_store(uri: str) -> str:
    """Write and delete a small object."""
    trial = join(uri, f".sentiflow-{secrets.token_hex(6)}")
    filesystem.write_bytes(trial, b"")
    filesystem.delete(trial)
    return f"{uri} can be written"


def check_tracking(config: Config | None) -> str:
    """Make sure that this process can use the tracking store, as the driver of a job does."""
    from sentiflow.tracking import mlflow_store, store_address

    uri = store_address.default_uri(None if config is None else config.tracking.uri)
    if path := store_address.find_file(uri):
        filesystem.check_writable(str(path.parent))
        if path.exists() and not os.access(path, os.W_OK):
            raise UserError(f"{path} cannot be written", hint="check tracking.uri")
        return f"{uri} can be written"
    with mlflow_store.asking(uri, "look for experiments") as client:
        client.search_experiments(max_results=1)
    return f"{uri} answers"
