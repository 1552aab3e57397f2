"""Config -> whether its jobs can run on this machine, or on the cluster of ``RAY_ADDRESS``.

Without a cluster, this module neither starts nor imports Ray. On a cluster every node is checked:
tasks of Ray run a check on all nodes at the same time. The tasks take no core, so a busy cluster
answers, too.
"""

import os
import platform
import secrets
import sys
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from http import HTTPStatus
from importlib import metadata
from typing import TYPE_CHECKING, TypeVar

import sentiflow
from sentiflow.cluster.address import find_address, joins_cluster
from sentiflow.config.sections import Config
from sentiflow.errors import UserError
from sentiflow.pipeline.preflight import config_checks
from sentiflow.pipeline.preflight.check import CheckResult, Level, find_problem, run_check
from sentiflow.progress import Steps
from sentiflow.storage import filesystem
from sentiflow.storage.uris import is_local, join
from sentiflow.tracking import runs

if TYPE_CHECKING:
    from sentiflow.cluster.nodes import NodeAnswer

Result = TypeVar("Result")

_STEPS = Steps(
    "doctor",
    nodes="checking the nodes",
    config="checking the settings, the input and the models",
    tracking="asking the MLflow store",
)
PACKAGES = ("ray", "torch", "pyarrow", "pandas", "numpy", "mlflow", "torchtext")
"""Packages that decide whether jobs run, and their results."""


def examine(config: Config | None, *, verbose: bool = False) -> list[CheckResult]:
    """Check this machine, or every node of a cluster, as the jobs of a config would use it.

    Args:
        config: The experiment; None: only the machine and the tracking store are checked.
        verbose: Show Ray's own messages.
    """
    outputs: list[str] = []
    if config:
        outputs = config_checks.find_outputs(config, config_checks.STAGES)
    with _STEPS.show("nodes"):
        if joins_cluster():
            found: list[CheckResult] = []
            problems = find_problem("nodes", _examine_nodes, outputs, verbose, found)
            results = found + problems
        else:
            results = run_check("versions", describe_versions)
            for uri in outputs:
                if not is_local(uri):  # examine_config checks local directories
                    results += run_check("output", write_trial_object, uri)
    with _STEPS.show("config"):
        results += examine_config(config)
    with _STEPS.show("tracking"):
        results += examine_tracking(config)
    return results


def _examine_nodes(outputs: list[str], verbose: bool, found: list[CheckResult]) -> None:
    """Join the cluster, and check its nodes.

    Findings are appended to ``found``, so that they remain if a later check raises an error.
    """
    from sentiflow.cluster import connection, nodes

    # Ray prints some messages on standard output, where only the result belongs.
    with redirect_stdout(sys.stderr), connection.starting(verbose=verbose) as wait:
        resources = wait()
        what = f"{resources.num_cpus} cores, {resources.num_gpus} GPUs in the cluster"
        found.append(CheckResult("nodes", "ok", f"{what} at {find_address()}"))
        found += run_check("versions", check_versions)
        found += run_check("torch", check_torch)
        for uri in outputs:
            found += run_check("output", nodes.check_shared, "output_uri", uri)
        found.append(check_token())


def examine_config(config: Config | None) -> list[CheckResult]:
    """Report the findings of :func:`config_checks.find`, or that there are none."""
    if config is None:
        return [CheckResult("config", "unchecked", "no CONFIG was given")]
    findings = config_checks.find(config, config_checks.choose_stages(config))
    if findings:
        return findings
    what = "the input, the models and the directories fit the settings"
    return [CheckResult("config", "ok", what)]


def examine_tracking(config: Config | None) -> list[CheckResult]:
    """Check the tracking store; a failure is only a warning if the store is not required."""
    is_required = config is None or config.tracking.required
    level: Level = "error" if is_required else "warning"
    return run_check("tracking", check_tracking, config, level=level)


def find_versions() -> dict[str, str]:
    """Return the versions of Python, sentiflow and ``PACKAGES``, and a hash of sentiflow's code."""
    versions = {"python": platform.python_version(), "sentiflow": sentiflow.__version__}
    for name in PACKAGES:
        versions[name] = "missing"
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions | {"code": runs.hash_code()}


def describe_versions() -> str:
    """List the versions of this machine."""
    return ", ".join(f"{name} {version}" for name, version in find_versions().items())


def check_versions() -> str:
    """Check that all nodes have the versions and the code of this machine.

    Raises:
        UserError: There are nodes with other versions.
    """
    expected = find_versions()

    def list_differences(answer: "NodeAnswer[dict[str, str]]") -> str:
        found = answer.result or {}
        different = [name for name, version in found.items() if version != expected[name]]
        return ", ".join(f"{name} {found[name]}" for name in different)

    _check_nodes(
        find_versions,
        list_differences,
        f"with other versions than the driver, which has {describe_versions()}",
        hint="install the same everywhere (pip install -c constraints.txt, or one image), or "
        "submit the job; if a node does not answer, look at its load and at ray status",
    )
    return f"all nodes: {describe_versions()}"


def check_torch() -> str:
    """Check that torch works on each node, and on all GPUs that Ray counts on the node.

    Raises:
        UserError: There are nodes where torch does not work.
    """

    def compare_gpus(answer: "NodeAnswer[int]") -> str:
        expected = answer.resources.get("GPU", 0)
        if (answer.result or 0) >= expected:
            return ""
        return f"can use {answer.result} of {expected:g} GPUs"

    _check_nodes(
        count_gpus,
        compare_gpus,
        "where torch does not work",
        hint="install a build of torch for the GPUs (https://pytorch.org/get-started/locally), "
        "fix the driver (nvidia-smi must list them), or start Ray there with fewer --num-gpus",
    )
    return "torch works on all nodes, and on all GPUs that Ray counts"


def _check_nodes(
    work: Callable[[], Result],
    explain: "Callable[[NodeAnswer[Result]], str]",
    problem: str,
    *,
    hint: str,
) -> None:
    """Call a function on each node; name the nodes where it fails or whose result is wrong.

    Args:
        work: The function.
        explain: Says what is wrong with a result; empty if nothing is.
        problem: What these nodes have in common, for the message.
        hint: The way out.

    Raises:
        UserError: There are such nodes.
    """
    from sentiflow.cluster import nodes

    faulty = []
    for answer in nodes.on_each(work):
        reason = answer.problem or explain(answer)
        if reason:
            faulty.append(f"{answer.node} ({reason})")
    if faulty:
        raise UserError(f"there are nodes {problem}: {', '.join(faulty)}", hint=hint)


def count_gpus() -> int:
    """Count the GPUs of this node on which torch computes.

    A broken build of torch or a broken driver may end this process, which Ray reports.
    """
    # Ray hides GPUs from a task that asks for none, by an empty variable.
    if not os.environ.get("CUDA_VISIBLE_DEVICES"):
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    import torch

    number = torch.cuda.device_count()
    devices = ["cpu"] + [f"cuda:{gpu}" for gpu in range(number)]
    for device in devices:
        torch.ones(8, device=device).sum().item()
    return number


def check_token() -> CheckResult:
    """Check that Ray's dashboard starts no jobs for users without a token.

    The dashboard may be unreachable from here. Only its refusal proves that it asks for a token: an
    error or a redirect may come from anything at this address.
    """
    import requests

    from sentiflow.cluster import nodes

    address = nodes.find_dashboard()
    with requests.Session() as session:
        session.trust_env = False  # no proxy answers instead, and no password of ~/.netrc is sent
        try:
            answer = session.get(f"http://{address}/api/jobs/", timeout=5, allow_redirects=False)
        except requests.RequestException:
            what = f"no dashboard answers here (at {address or '-'})"
            return CheckResult("token", "unchecked", what)
    if answer.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return CheckResult("token", "ok", f"the dashboard at {address} asks for a token")
    if answer.status_code != HTTPStatus.OK:
        what = (
            f"the dashboard at {address} answers with HTTP status {answer.status_code}, which does "
            "not say whether it asks for a token"
        )
        return CheckResult("token", "unchecked", what)
    return CheckResult(
        "token",
        "error",
        f"the dashboard at {address} answers without a token: who reaches it can run any code on "
        "the cluster (CVE-2023-48022): make a token (umask 077; ray get-auth-token --generate "
        ">/dev/null), copy ~/.ray/auth_token to every node, and start Ray with RAY_AUTH_MODE=token",
    )


def write_trial_object(uri: str) -> str:
    """Write and delete an empty object, to find out whether a location can be written."""
    trial = join(uri, f".sentiflow-{secrets.token_hex(6)}")
    filesystem.write_bytes(trial, b"")
    filesystem.delete(trial)
    return f"{uri} can be written"


def check_tracking(config: Config | None) -> str:
    """Check that this process can use the tracking store, as the driver of a job does."""
    from sentiflow.tracking import mlflow_store

    uri = mlflow_store.default_uri(None if config is None else config.tracking.uri)
    path = mlflow_store.find_file(uri)
    if path:
        filesystem.check_writable(str(path.parent))
        if path.exists() and not os.access(path, os.W_OK):
            raise UserError(f"{path} cannot be written", hint="check tracking.uri")
        return f"{uri} can be written"
    with mlflow_store.asking(uri, "look for experiments", needed="READ") as client:
        client.search_experiments(max_results=1)
    return f"{uri} answers"
