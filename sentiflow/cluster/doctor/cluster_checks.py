"""Config -> whether its jobs can run on the cluster of ``RAY_ADDRESS``: every node is checked.

Tasks of Ray run a check on all nodes at the same time. They take no core, so a busy cluster answers
too.
"""

import os
import sys
from contextlib import redirect_stdout

from sentiflow.cluster import connection, nodes
from sentiflow.cluster.doctor import local_checks
from sentiflow.cluster.doctor.check import CheckResult, find_problem, report
from sentiflow.config.sections import Config
from sentiflow.errors import UserError

# isort: split
import ray


def examine(config: Config | None, *, verbose: bool = False) -> list[CheckResult]:
    """Check every node of the cluster of ``RAY_ADDRESS`` as the jobs of a config would use it.

    Args:
        config: The experiment; without one, its files are not checked.
        verbose: Show Ray's own messages.
    """
    results: list[CheckResult] = []

    def join_and_check() -> None:
        # Ray prints some messages on standard output
        with redirect_stdout(sys.stderr), connection.started(verbose=verbose) as resources:
            what = f"{resources.num_cpus} cores, {resources.num_gpus} GPUs in the cluster at "
            results.append(CheckResult("nodes", "ok", what + connection.name_address()))
            results.extend(report("versions", check_versions))
            results.extend(report("torch", check_torch))
            for uri in local_checks.find_outputs(config) if config else ():
                results.extend(report("output", nodes.check_shared, "output_uri", uri))
            results.append(check_token())

    failed = find_problem("nodes", join_and_check)
    tracking = local_checks.examine_tracking(config)
    return [*results, *failed, *local_checks.examine_config(config), *tracking]


def check_versions() -> str:
    """Make sure that all nodes have the versions and the code of this machine."""
    expected, problems = local_checks.find_versions(), []
    for answer in nodes.on_each(local_checks.find_versions):
        found = answer.result or {}
        wrong = [f"{name} {found[name]}" for name in found if found[name] != expected[name]]
        if answer.problem or wrong:
            problems.append(f"{answer.node} ({answer.problem or ', '.join(wrong)})")
    if problems:
        mine = ", ".join(f"{name} {version}" for name, version in expected.items())
        raise UserError(
            f"nodes differ from the driver: {', '.join(problems)}; the driver has {mine}",
            hint="install the same everywhere (pip install -c constraints.txt, or one image), or "
            "submit the job; if a node does not answer, look at its load and at ray status",
        )
    return f"all nodes: {local_checks.check_versions()}"


def check_torch() -> str:
    """Make sure that torch works on all nodes, and on the GPUs that Ray counts there."""
    problems = []
    for answer in nodes.on_each(count_gpus):
        counted = int(answer.resources.get("GPU", 0))
        if answer.problem or (answer.result or 0) < counted:
            why = answer.problem or f"can use {answer.result} of {counted} GPUs"
            problems.append(f"{answer.node} ({why})")
    if problems:
        raise UserError(
            f"torch does not work on {', '.join(problems)}",
            hint="install a build of torch for the GPUs (https://pytorch.org/get-started/locally), "
            "fix the driver (nvidia-smi must list them), or start Ray there with fewer --num-gpus",
        )
    return "torch works on all nodes, and on all GPUs that Ray counts"


def count_gpus() -> int:
    """Count the GPUs of this node on which torch computes.

    Ray hides a node's GPUs from tasks that ask for none: here they are not hidden. A broken build
    or driver may end this process, which Ray reports.
    """
    if not os.environ.get("CUDA_VISIBLE_DEVICES"):
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    import torch

    number = torch.cuda.device_count()
    for one in ("cpu", *(f"cuda:{gpu}" for gpu in range(number))):
        torch.ones(8, device=one).sum().item()
    return number


def check_token() -> CheckResult:
    """Check that Ray's dashboard, which starts jobs, asks for a token; it may be out of reach."""
    import requests

    address = str(ray.init(ignore_reinit_error=True, logging_level="ERROR").dashboard_url or "")
    try:
        answer = requests.get(f"http://{address}/api/jobs/", timeout=5, allow_redirects=False)
    except requests.RequestException:
        return CheckResult("token", "unchecked", f"no dashboard answers here (at {address or '-'})")
    if answer.status_code >= 400:
        return CheckResult("token", "ok", f"the dashboard at {address} asks for a token")
    what = (
        f"the dashboard at {address} answers without a token: who reaches it can run any code on "
        "the cluster (CVE-2023-48022): make a token (umask 077; ray get-auth-token --generate "
        ">/dev/null), copy ~/.ray/auth_token to every node, and start Ray with RAY_AUTH_MODE=token"
    )
    return CheckResult("token", "error", what)
