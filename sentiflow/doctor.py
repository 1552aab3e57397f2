"""Config -> findings about this machine or cluster: what a job would fail for, before it does."""

import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from typing import Any

from sentiflow import (
    cluster,  # first, as it sets what Ray reads when it is imported
    examined_places,
    node_checks,
    node_probes,
    nodes,
    place_checks,
    software_checks,
)
from sentiflow.cluster import Resources
from sentiflow.diagnosis import Finding
from sentiflow.errors import UserError
from sentiflow.nodes import NodeAnswer
from sentiflow.sections import Config
from sentiflow.shared_place import Exchange, exchange
from sentiflow.uris import is_local

# isort: split
import ray.exceptions
from ray._private.authentication.authentication_utils import is_token_auth_enabled

log = logging.getLogger(__name__)

_ANSWER_SECONDS = 40.0
"""For each question; a busy node takes long to start a worker."""
_TORCH_SECONDS = 60.0
"""A cold disk takes long to load it."""
_MAX_FILES = 200
"""So many input files are looked at, from the first to the last."""
_NO_CONFIG = "no CONFIG was given"


def examine(config: Config | None, *, verbose: bool = False) -> list[Finding]:
    """Look at the cluster of ``RAY_ADDRESS``, or at this machine alone, as a job would use it.

    Everything that is asked of a node has a time limit, so that this ends whatever is broken.

    Args:
        config: The experiment; without one, its files are not looked at.
        verbose: Show Ray's own messages, and all that the nodes say.
    """
    with _joined(verbose=verbose) as joined:
        if isinstance(joined, Finding):
            return [joined, *_without_ray(config)]
        return _examine_nodes(config, joined)


@contextmanager
def _joined(*, verbose: bool) -> Iterator[Resources | Finding]:
    """Join the cluster for the block, or say why that cannot be done."""
    address = os.environ.get("RAY_ADDRESS", "local")
    problem = cluster.find_silence(address)
    if problem:
        yield _unreachable(address, problem)
        return
    with cluster.starting(verbose=verbose) as resources:
        found: Resources | Finding
        try:
            found = resources()
        except (ConnectionError, RuntimeError, ray.exceptions.RayError) as error:
            found = _unreachable(address, " ".join(str(error).split())[:300])
        yield found


def _unreachable(address: str, problem: str) -> Finding:
    """Say that Ray cannot be joined or started."""
    if address == "local":
        return Finding(
            "ray",
            "error",
            f"Ray does not start on this machine: {problem}",
            why="every job but evaluate needs it",
            do="look at the newest /tmp/ray/session_*/logs, and at the free memory and disk",
        )
    return Finding(
        "ray",
        "error",
        f"the cluster at RAY_ADDRESS={address} cannot be joined: {problem}",
        why="no job could start",
        do="check the address (ray status on the head), that this machine is a node of the "
        "cluster, and that both have the same ~/.ray/auth_token and versions of Ray and Python",
    )


def _without_ray(config: Config | None) -> list[Finding]:
    """Name what nobody could be asked for."""
    checks = ["versions", "disk", "memory", "torch", "clock", "dashboard", "token", "tracking"]
    checks += ["input", "output"] if config is not None else []
    return [Finding(check, "unchecked", "no node could be asked") for check in checks]


def _examine_nodes(config: Config | None, resources: Resources) -> list[Finding]:
    """Ask all nodes everything at the same time, and judge the answers."""
    listed, living = nodes.listed(), nodes.living()
    outputs = [] if config is None else examined_places.find_outputs(config)
    uris, missing = ([], []) if config is None else examined_places.find_inputs(config)
    chosen = uris[:: max(1, -(-len(uris) // _MAX_FILES))]
    session_dirs = {node.id: node.session_dir for node in living}
    folders = [uri for uri in outputs if is_local(uri)]
    address = _dashboard_address()
    with ThreadPoolExecutor() as pool:

        def ask(work: Callable[..., Any], *arguments: Any) -> Future[list[NodeAnswer]]:
            return pool.submit(nodes.on_each, work, *arguments, timeout_seconds=_ANSWER_SECONDS)

        looks = ask(node_probes.look, session_dirs, folders)
        begun = ask(node_probes.read_beginnings, chosen) if chosen else None
        shared = pool.submit(
            lambda: [(uri, exchange(uri, timeout_seconds=_ANSWER_SECONDS)) for uri in outputs]
        )
        tracked = pool.submit(_ask_tracking, config)
        torch = pool.submit(
            nodes.on_each,
            node_probes.try_torch,
            _TORCH_SECONDS - 10,
            timeout_seconds=_TORCH_SECONDS,
        )
        head = [node for node in living if node.is_head]
        board = pool.submit(
            nodes.on_each,
            node_probes.ask_dashboard,
            address,
            nodes=head,
            timeout_seconds=_ANSWER_SECONDS,
        )
    read = begun.result() if begun else []
    num_left_out = len(uris) - len(chosen)
    clocks = _read_clocks()
    for answer in (*looks.result(), *torch.result()):
        log.debug("%s", node_checks.describe(answer))
    good = [answer for answer in looks.result() if not answer.problem]
    need = None if config is None else examined_places.estimate_need(config, _good(read))
    is_guarded = is_token_auth_enabled()
    return [
        *node_checks.check_nodes(listed, looks.result(), place=_name_place()),
        *software_checks.check_versions(good, _requirements()),
        *software_checks.check_gpus(_good(torch.result())),
        *_unanswered("torch", torch.result(), good),
        *_check_workers(config, resources),
        *_check_input(config, read, missing, num_left_out),
        *_unanswered("input", read, good),
        *_check_output(config, shared.result(), good),
        _check_tracking(config, tracked.result(), good, num_nodes=len(living)),
        *node_checks.check_disks(good, need),
        *node_checks.check_memory(good),
        *node_checks.check_open_files(good),
        node_checks.check_clocks(_good(clocks)),
        *_unanswered("clock", clocks, good),
        place_checks.check_dashboard(
            address, board.result() if address else [], num_nodes=len(living), has_token=is_guarded
        ),
        *place_checks.check_token(_tokens(good)),
    ]


def _good(answers: Sequence[NodeAnswer]) -> list[NodeAnswer]:
    return [answer for answer in answers if not answer.problem]


def _unanswered(
    check: str, answers: Sequence[NodeAnswer], good: Sequence[NodeAnswer]
) -> list[Finding]:
    """Name the nodes that gave no answer to one question, though they did to another."""
    names = {answer.node.name for answer in good}
    return [
        Finding(
            check,
            "unchecked",
            f"node {answer.node.name}: {answer.problem}",
            nodes=(answer.node.name,),
        )
        for answer in answers
        if answer.problem and answer.node.name in names
    ]


def _read_clocks() -> list[NodeAnswer]:
    """Ask each node for its time, and take the answer that came sooner after the question."""
    rounds = [nodes.on_each(node_probes.read_clock) for _ in range(2)]
    best: dict[str, NodeAnswer] = {}
    for answer in sorted((a for asked in rounds for a in asked), key=_patience):
        best.setdefault(answer.node.id, answer)
    return list(best.values())


def _patience(answer: NodeAnswer) -> float:
    return math.inf if answer.problem else answer.answered - answer.asked


def _check_input(
    config: Config | None,
    read: Sequence[NodeAnswer],
    missing: Sequence[Finding],
    num_left_out: int,
) -> list[Finding]:
    if config is None:
        return [Finding("input", "unchecked", _NO_CONFIG)]
    if missing and not read:
        return list(missing)
    return [*missing, *place_checks.check_input(_good(read), num_left_out)]


def _check_output(
    config: Config | None,
    exchanges: Sequence[tuple[str, Exchange]],
    good: Sequence[NodeAnswer],
) -> list[Finding]:
    if config is None:
        return [Finding("output", "unchecked", _NO_CONFIG)]
    return [
        found
        for uri, done in exchanges
        for found in place_checks.check_output(uri, replace(done, written=_of(good, done.written)))
    ]


def _of(good: Sequence[NodeAnswer], answers: Sequence[NodeAnswer]) -> list[NodeAnswer]:
    """Leave out nodes that answer nothing at all, which is a finding of its own."""
    ids = {answer.node.id for answer in good}
    return [answer for answer in answers if answer.node.id in ids]


def _check_workers(config: Config | None, resources: Resources) -> list[Finding]:
    """Check that the training workers that are wanted find room."""
    if config is None:
        return [Finding("workers", "unchecked", _NO_CONFIG)]
    try:
        number = resources.train_workers(config.train.num_workers)
    except UserError as error:
        return [
            Finding(
                "workers",
                "error",
                str(error),
                why="they would be waited for for ever",
                do="set train.num_workers=auto, or to less",
            )
        ]
    kind = "GPU" if resources.num_gpus else "core"
    return [Finding("workers", "ok", f"train.num_workers: {number}, each with a {kind} at least")]


def _ask_tracking(config: Config | None) -> tuple[str, list[NodeAnswer]] | Finding:
    """Ask all nodes for the tracking store of the settings or of the environment."""
    from sentiflow import mlflow_store

    setting = None if config is None else config.tracking.uri
    try:
        uri = mlflow_store.default_uri(setting)
        mlflow_store.check_kind(uri)
    except UserError as error:
        return Finding(
            "tracking",
            "error",
            str(error),
            why="runs are recorded there",
            do="name a server's address by tracking.uri or MLFLOW_TRACKING_URI",
        )
    if uri.startswith("sqlite:"):
        return uri, []
    return uri, nodes.on_each(node_probes.ask_tracking, uri, timeout_seconds=_ANSWER_SECONDS)


def _check_tracking(
    config: Config | None,
    asked: tuple[str, list[NodeAnswer]] | Finding,
    good: Sequence[NodeAnswer],
    *,
    num_nodes: int,
) -> Finding:
    if isinstance(asked, Finding):
        return asked
    uri, answers = asked
    required = config is None or config.tracking.required
    return place_checks.check_tracking(
        uri, _of(good, answers), num_nodes=num_nodes, required=required
    )


def _requirements() -> list[str] | None:
    """Give what sentiflow declares to need; None if it is not installed as a package."""
    try:
        return [text for text in metadata.requires("sentiflow") or () if "extra ==" not in text]
    except metadata.PackageNotFoundError:
        return None


def _name_place() -> str:
    """Say what is looked at, as a job would find it."""
    address = os.environ.get("RAY_ADDRESS", "local")
    return f"the cluster at {address}" if address != "local" else "this machine (no RAY_ADDRESS)"


def _dashboard_address() -> str:
    """Give host and port of the dashboard of the cluster that this process has joined."""
    return str(ray.init(ignore_reinit_error=True, logging_level=logging.ERROR).dashboard_url or "")


def _tokens(answers: Sequence[NodeAnswer]) -> dict[str, dict[str, Any] | None]:
    """Give the token's file on each node, and the one that this process has, if it is another."""
    tokens = {answer.node.name: answer.result["token"] for answer in answers}
    mine = node_probes.token()
    if mine is not None and mine not in tokens.values():
        tokens["of this process"] = mine
    return tokens
