"""Config -> whether its jobs can run on the cluster of ``RAY_ADDRESS``: every node is checked.

Tasks of Ray run a check on all nodes at the same time. They take no core, so a busy cluster answers
too. Every check has a time limit, so this ends whatever is broken.
"""

import functools
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

from sentiflow.cluster import connection, nodes, shared_storage
from sentiflow.cluster.doctor import local_checks
from sentiflow.cluster.doctor.check import Check, CheckResult, count
from sentiflow.cluster.doctor.local_checks import Examination
from sentiflow.cluster.nodes import Node, name_nodes
from sentiflow.cluster.resources import Resources
from sentiflow.config.sections import Config
from sentiflow.errors import UserError

# isort: split
import ray
import ray.exceptions

_ANSWER_SECONDS = 60.0
"""Limit for each check: a busy node starts a worker slowly, and a cold disk loads torch slowly."""
_WRITE_SECONDS = 20.0
"""Limit for each of the three steps in which nodes write and read each other's files."""
_LIMIT_SECONDS = 150.0
"""Limit for everything. A node that hangs takes the time of two answers."""
_TASKS_AT_ONCE = 2
"""Tasks on each node at the same time: more would wait for more processes of Ray to start."""
_REQUEST_SECONDS = 5.0
_MATRIX_SIZE = 256


def examine(config: Config | None, *, verbose: bool = False) -> list[CheckResult]:
    """Check every node of the cluster of ``RAY_ADDRESS`` as the jobs of a config would use it.

    Args:
        config: The experiment; without one, its files are not checked.
        verbose: Show Ray's own messages.
    """
    works: dict[str, Examination] = {"nodes": functools.partial(_examine_cluster, verbose)}
    if config:
        works["columns"] = _examine_contents
    return local_checks.run_in_time(works, config, seconds=_LIMIT_SECONDS)


def _examine_contents(config: Config | None) -> list[CheckResult]:
    """Check on this machine what is in the input; that it is there, each node must say."""
    found = local_checks.examine_config(config)
    return [r for r in found if r.level != "ok" or r.check not in ("input", "output")]


def _examine_cluster(verbose: bool, config: Config | None) -> list[CheckResult]:
    """Join the cluster, and check it. Ray prints some messages on standard output."""
    try:
        with redirect_stdout(sys.stderr), connection.started(verbose=verbose) as resources:
            return list(_check_cluster(config, resources))
    except (UserError, ConnectionError, RuntimeError, ray.exceptions.RayError) as error:
        problem = CheckResult(
            "nodes",
            "error",
            " ".join(str(error).split())[:300],
            why="no job could start; nothing else was checked on the cluster",
            do="check RAY_ADDRESS (ray status on the head), that this machine is a node of the "
            "cluster, and that both have the same ~/.ray/auth_token and versions of Ray and Python",
        )
        return [problem]


def _check_cluster(config: Config | None, resources: Resources) -> Iterator[CheckResult]:
    """Ask all nodes whether they run sentiflow, and those that do everything else at once."""
    living = nodes.living()
    yield from check_nodes(living, shared_storage.lacks_workers(living, resources))
    silent, able = check_alive(living)
    yield from silent
    if not able:
        return
    with ThreadPoolExecutor(_TASKS_AT_ONCE) as pool:
        futures = [
            pool.submit(run_on_nodes, checks, config, able)
            for checks in (list_short_checks(), [TORCH], [INPUT] if config else [])
        ]
        futures += [
            pool.submit(check_shared_output, config, able, resources),
            pool.submit(check_dashboard, able),
        ]
        for future in futures:
            yield from future.result()


def list_short_checks() -> list[Check]:
    """List what takes a moment on each node: one task does all of it."""
    versions = functools.partial(check_same_versions, expected=local_checks.find_versions())
    return [
        replace(local_checks.VERSIONS, run=versions),
        replace(local_checks.DISK, run=check_node_disk),
        TOKEN,
        SESSION,
    ]


def run_on_nodes(
    checks: Sequence[Check], config: Config | None, among: Sequence[Node]
) -> list[CheckResult]:
    """Run checks in one task on each of some nodes: all must pass them, and say the same."""
    answers = nodes.on_each(
        attempt_all, checks, config, nodes=among, timeout_seconds=_ANSWER_SECONDS
    )
    results = []
    for number, check in enumerate(checks):
        said = defaultdict[CheckResult, list[str]](list)
        for answer in answers:
            found = answer.result[number] if answer.result else check.fail(answer.problem)
            said[found].append(answer.node.name)
        named = {found: f"{found.what} ({name_nodes(on)})" for found, on in said.items()}
        bad = [check.fail(named[found], on) for found, on in said.items() if found.level != "ok"]
        if len(said) > 1 and not bad:
            bad = [check.fail(f"nodes differ: {'; '.join(named.values())}")]
        results += bad or [
            replace(found, what=f"{found.what} ({count(len(on), 'node')})")
            for found, on in said.items()
        ]
    return results


def attempt_all(checks: Sequence[Check], config: Config | None) -> list[CheckResult]:
    """Run checks on this node."""
    return [result for check in checks for result in check.attempt(config)]


def check_nodes(living: Sequence[Node], is_head_only: bool) -> Iterator[CheckResult]:
    """Report which nodes a cluster has."""
    cores, gpus = (int(sum(getattr(n, kind) for n in living)) for kind in ("num_cpus", "num_gpus"))
    what = f"{count(len(living), 'node')}, {count(cores, 'core')}, {count(gpus, 'GPU')}"
    yield CheckResult("nodes", "ok", f"the cluster at {connection.name_address()}: {what}")
    if is_head_only:
        yield CheckResult(
            "nodes",
            "warning",
            "there is no worker node yet: only the head is checked",
            why="nodes that join later may have other software, disks and credentials",
            do="start one (a waiting job, or ray up with min_workers: 1), and check again",
        )


def check_alive(living: Sequence[Node]) -> tuple[list[CheckResult], list[Node]]:
    """Report nodes that cannot run sentiflow, and list those that can."""
    answers = nodes.on_each(nodes.here, nodes=living, timeout_seconds=_ANSWER_SECONDS)
    silent = [
        CheckResult(
            "nodes",
            "error",
            f"node {answer.node.name} does not run sentiflow: {answer.problem}",
            why="the work that Ray gives to this node fails, or waits for ever",
            do="install sentiflow there, or submit the job with --working-dir; if the node does "
            "not answer, look at its load and at ray status",
            nodes=(answer.node.name,),
        )
        for answer in answers
        if answer.problem
    ]
    return silent, [answer.node for answer in answers if not answer.problem]


def check_same_versions(config: Config | None, *, expected: Mapping[str, str]) -> str:
    """Make sure that this node has the versions and code of the driver, and the required ones."""
    found = local_checks.find_versions()
    different = [
        f"{name} {found[name]}, but {expected[name]} on the driver"
        for name in expected
        if found[name] != expected[name]
    ]
    if different:
        raise UserError("; ".join(different))
    return local_checks.check_versions(config)


def check_torch(config: Config | None) -> str:
    """Multiply small matrices by torch, on the cores and on the GPUs that Ray counts.

    Ray hides a node's GPUs from tasks that ask for none: here they are not hidden. A broken build
    or driver may end this process, which Ray reports.
    """
    if not os.environ.get("CUDA_VISIBLE_DEVICES"):
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    import torch

    num_usable, problem = 0, ""
    _multiply("cpu")
    for number in range(torch.cuda.device_count()):
        try:
            _multiply(f"cuda:{number}")
            num_usable += 1
        except RuntimeError as error:
            problem = f": {error}".splitlines()[0]
    counted = int(nodes.this().num_gpus)
    if num_usable < counted:
        gpus = count(counted, "GPU")
        raise UserError(f"torch {torch.__version__} can use {num_usable} of {gpus}{problem}")
    return f"torch {torch.__version__} works on the cores and on all GPUs that Ray counts"


def _multiply(device: str) -> None:
    import torch

    ones = torch.ones(_MATRIX_SIZE, _MATRIX_SIZE, device=device)
    if float((ones @ ones)[0, 0]) != _MATRIX_SIZE:
        raise RuntimeError(f"{device} multiplies wrongly")


TORCH = Check(
    "torch",
    check_torch,
    why="training and scoring would fail there",
    do="install a build of torch for the GPUs (https://pytorch.org/get-started/locally), "
    "fix the driver (nvidia-smi must list them), or start Ray there with fewer --num-gpus",
)
"""It is a task of its own, as it may end the process."""


def check_input(config: Config | None) -> str:
    """Make sure that this node sees the input files and the prepared data."""
    from sentiflow.cluster.doctor import config_checks
    from sentiflow.data import input_files

    assert config is not None, "it is checked with a config only"
    verbs, files = config_checks.choose_stages(config), set[str]()
    for verb, setting, patterns in (
        ("prepare", "prepare.csv", config.prepare.csv),
        ("prepare", "prepare.validation", config.prepare.validation),
        ("prepare", "prepare.test", config.prepare.test),
        ("prepare", "prepare.unlabelled.files", config.prepare.unlabelled.files),
        ("prepare", "prepare.corrections", config.prepare.corrections),
        ("score", "score.corpus", config.score.corpus),
    ):
        if verb in verbs and patterns != config_checks.PREPARED:
            files.update(input_files.expand(patterns, setting=setting))
    for verb in {"train", "score"} & set(verbs):
        config_checks.require_prepared(config, verbs, verb)
    return f"{count(len(files), 'file')} found"


INPUT = Check(
    "input",
    check_input,
    why="each machine reads parts of the input",
    do="correct the setting, or put the files where every machine can read them, and give it "
    "credentials for the store (AWS_ACCESS_KEY_ID, …)",
)


def check_node_disk(config: Config | None) -> str:
    """Make sure that this node has space for results and for Ray's own files."""
    return local_checks.check_disk(config, nodes.this().session_dir)


def check_token(config: Config | None) -> str:
    """Make sure that no other user can read the file with the token that Ray asks for."""
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    mode = path.stat().st_mode & 0o777 if path.exists() else 0
    if mode & 0o077:
        raise UserError(f"other users can read Ray's token: {path} has mode {mode:04o}")
    return "no other user can read the file with Ray's token"


TOKEN = Check(
    "token",
    check_token,
    why="who has the token can run any code on the cluster, as you",
    do="chmod 600 that file, and make a new token if the machine has other users",
)


def check_node_session(config: Config | None) -> str:
    """Make sure that a folder above this node's session keeps other users out."""
    above = Path(nodes.this().session_dir).resolve().parents
    closed = (folder for folder in above if not folder.stat().st_mode & 0o077)
    return local_checks.check_session(config, next(closed, above[0]))


SESSION = replace(
    local_checks.SESSION,
    run=check_node_session,
    do="if the machine has other users, start Ray there in a folder of your own: "
    "mkdir -m 700 /tmp/ray-$USER; ray start --temp-dir /tmp/ray-$USER/ray",
    level="warning",
)


def check_shared_output(
    config: Config | None, able: Sequence[Node], resources: Resources
) -> list[CheckResult]:
    """Check that every node can write results, and reads what the others wrote."""
    results = []
    for uri in local_checks.find_outputs(config) if config else ():
        problems = shared_storage.find_problems(
            uri, among=able, resources=resources, timeout_seconds=_WRITE_SECONDS
        )
        results += [local_checks.OUTPUT.fail(f"{uri} {p.what}", p.nodes) for p in problems]
        if not problems:
            what = f"{uri} can be written and read by {count(len(able), 'node')}"
            results.append(CheckResult("output", "ok", what))
    return results


def check_dashboard(able: Sequence[Node]) -> list[CheckResult]:
    """Check that Ray's dashboard, which starts jobs, asks for a token; it is asked on the head."""
    context = ray.init(ignore_reinit_error=True, logging_level="ERROR")
    address = str(context.dashboard_url or "")
    head = [node for node in able if node.is_head and address]
    for answer in nodes.on_each(
        ask_dashboard, address, nodes=head, timeout_seconds=_ANSWER_SECONDS
    ):
        if answer.result is not None:
            return [judge_dashboard(address, answer.result, is_alone=len(able) == 1)]
    what = f"{address or 'there is none'}: no answer, so it is unknown whether Ray asks for a token"
    return [CheckResult("dashboard", "unchecked", what)]


def ask_dashboard(address: str) -> int:
    """Ask Ray's dashboard for its jobs without a token; return the HTTP status."""
    import requests

    url = f"http://{address}/api/jobs/"
    return requests.get(url, timeout=_REQUEST_SECONDS, allow_redirects=False).status_code


def judge_dashboard(address: str, status: int, *, is_alone: bool) -> CheckResult:
    """Judge the answer of a dashboard to a request without a token.

    Args:
        address: Host and port.
        status: HTTP status of its answer.
        is_alone: Whether the cluster has one node only.
    """
    is_public = not address.startswith(("127.", "localhost", "[::1]"))
    if status < 400:
        return CheckResult(
            "dashboard",
            "warning" if is_alone and not is_public else "error",
            f"{address} answers without a token",
            why="who reaches it can run any code on the cluster (CVE-2023-48022)",
            do="make a token (umask 077; ray get-auth-token --generate >/dev/null), copy "
            "~/.ray/auth_token to every node, and start Ray with RAY_AUTH_MODE=token",
        )
    if is_public:
        return CheckResult(
            "dashboard",
            "warning",
            f"{address} asks for a token, but is open to the network",
            why="http does not hide the token, and who has it can run any code on the cluster",
            do="start the head with --dashboard-host 127.0.0.1, and reach it through ssh -L",
        )
    what = f"{address} asks for a token, and is open to its machine only"
    return CheckResult("dashboard", "ok", what)
