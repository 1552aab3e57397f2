"""Config -> findings about this machine or cluster: what a job would fail for, before it does."""

import logging
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from typing import Any

from sentiflow.cluster import connection, nodes
from sentiflow.cluster.doctor import (
    node_checks,
    node_probes,
    software_checks,
    storage_checks,
    storage_probes,
)
from sentiflow.cluster.doctor.diagnosis import Finding, count
from sentiflow.cluster.nodes import Node, NodeAnswer
from sentiflow.cluster.ray_internals import token_auth_is_on
from sentiflow.cluster.resources import Resources, count_train_workers
from sentiflow.cluster.shared_storage import Exchange, exchange, is_on_network, lacks_workers
from sentiflow.config.sections import Config
from sentiflow.errors import UserError
from sentiflow.storage.uris import is_local

# isort: split
import ray.exceptions

log = logging.getLogger(__name__)

_JOIN_SECONDS = 60.0
"""For Ray to start, or to be joined: with a wrong token it would try for ever."""
_ANSWER_SECONDS = 40.0
"""For each question; a busy node takes long to start a worker."""
_TORCH_SECONDS = 60.0
"""A cold disk takes long to load it."""
_MAX_FILES = 200
"""So many input files are looked at, from the first to the last."""
_NO_CONFIG = "no CONFIG was given"


def examine(config: Config | None, *, verbose: bool = False) -> list[Finding]:
    """Look at the cluster of ``RAY_ADDRESS``, or at this machine alone, as a job would use it.

    Whatever is asked has a time limit, so that this ends whatever is broken.

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
    address = connection.name_address()
    problem = connection.find_silence(address)
    if problem:
        yield _unreachable(address, problem)
        return
    with _starting(verbose=verbose) as resources:
        found: Resources | Finding
        try:
            found = resources.result(_JOIN_SECONDS)
        except TimeoutError:
            found = _unreachable(address, f"no answer within {_JOIN_SECONDS:g} s")
        except (ConnectionError, RuntimeError, ray.exceptions.RayError) as error:
            found = _unreachable(address, " ".join(str(error).split())[:300])
        yield found


@contextmanager
def _starting(*, verbose: bool) -> Iterator[Future[Resources]]:
    """Begin to start Ray, or to join it, for the block; while there is no answer, leave it so.

    A thread waits for it, which nobody need wait for.
    """
    found: Future[Resources] = Future()
    over = threading.Event()

    def hold() -> None:
        try:
            with connection.starting(verbose=verbose) as resources:
                found.set_result(resources())
                over.wait()
        except BaseException as error:
            if found.done():
                raise
            found.set_exception(error)

    thread = threading.Thread(target=hold, name="doctor", daemon=True)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        if found.done():
            thread.join()


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
    outputs = [] if config is None else storage_probes.find_outputs(config)
    lacking = lacks_workers(living, resources)
    session_dirs = {node.id: node.session_dir for node in living}
    folders = [uri for uri in outputs if is_local(uri)]
    address = _dashboard_address()
    with ThreadPoolExecutor() as pool:

        def ask(
            work: Callable[..., Any],
            *arguments: Any,
            among: Sequence[Node] = living,
            seconds: float = _ANSWER_SECONDS,
        ) -> Future[list[NodeAnswer]]:
            return pool.submit(
                nodes.on_each, work, *arguments, nodes=among, timeout_seconds=seconds
            )

        looks = ask(node_probes.look, session_dirs, folders)
        shared = pool.submit(
            lambda: [
                (uri, exchange(uri, among=living, timeout_seconds=_ANSWER_SECONDS))
                for uri in outputs
            ]
        )
        tracked = pool.submit(_ask_tracking, config, living)
        torch = ask(node_probes.try_torch, _TORCH_SECONDS - 10, seconds=_TORCH_SECONDS)
        head = [node for node in living if node.is_head]
        board = ask(node_probes.ask_dashboard, address, among=head)
        uris, missing = ([], []) if config is None else storage_probes.find_inputs(config)
        chosen = uris[:: max(1, -(-len(uris) // _MAX_FILES))]
        begun = ask(node_probes.read_beginnings, chosen) if chosen else None
        local = [uri for uri in (*chosen, *outputs) if is_local(uri)]
        mounted = ask(_find_on_disk, local, among=head) if lacking and local else None
    read = begun.result() if begun else []
    num_left_out = len(uris) - len(chosen)
    num_nodes = len(living) + lacking
    clocks = _read_clocks(living)
    for answer in (*looks.result(), *torch.result()):
        log.debug("%s", node_checks.describe(answer))
    good = [answer for answer in looks.result() if not answer.problem]
    need = None if config is None else storage_probes.estimate_need(config, _good(read))
    is_guarded = token_auth_is_on()
    on_disk = (
        [uri for answer in _good(mounted.result()) for uri in answer.result] if mounted else []
    )
    findings = [
        *node_checks.check_nodes(listed, looks.result(), place=_name_place()),
        *node_checks.check_names(good),
        *software_checks.check_versions(good, _requirements()),
        *software_checks.check_gpus(_good(torch.result()), may_come=resources.max_gpus > 0),
        *_unanswered("torch", torch.result(), good),
        *_check_workers(config, resources),
        *storage_checks.check_heads_disk(on_disk, outputs),
        *_check_input(config, read, missing, num_left_out),
        *_unanswered("input", read, good),
        *_check_output(config, shared.result(), good),
        _check_tracking(config, tracked.result(), good, num_nodes=num_nodes),
        *node_checks.check_disks(good, need),
        *node_checks.check_memory(good),
        *node_checks.check_open_files(good),
        node_checks.check_clocks(_good(clocks)),
        *_unanswered("clock", clocks, good),
        storage_checks.check_dashboard(
            address, board.result() if address else [], num_nodes=num_nodes, has_token=is_guarded
        ),
        *storage_checks.check_token(_tokens(good)),
    ]
    return node_checks.doubt(findings) if lacking else findings


def _find_on_disk(paths: Sequence[str]) -> list[str]:
    """Choose the paths that no other machine can see."""
    return [path for path in paths if not is_on_network(path)]


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


def _read_clocks(living: Sequence[Node]) -> list[NodeAnswer]:
    """Ask each node for its time, and take the answer that came sooner after the question."""
    rounds = [nodes.on_each(node_probes.read_clock, nodes=living) for _ in range(2)]
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
    return [*missing, *storage_checks.check_input(_good(read), num_left_out)]


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
        for found in storage_checks.check_output(
            uri, replace(done, written=_of(good, done.written))
        )
    ]


def _of(good: Sequence[NodeAnswer], answers: Sequence[NodeAnswer]) -> list[NodeAnswer]:
    """Leave out nodes that answer nothing at all, which is a finding of its own."""
    ids = {answer.node.id for answer in good}
    return [answer for answer in answers if answer.node.id in ids]


def _check_workers(config: Config | None, resources: Resources) -> list[Finding]:
    """Check that the training workers that are wanted find room."""
    if config is None:
        return [Finding("workers", "unchecked", _NO_CONFIG)]

    settings = config.train
    try:
        number = count_train_workers(settings, resources)
    except UserError as error:
        return [
            Finding(
                "workers",
                "error",
                str(error),
                why="they would be waited for for ever",
                do="set train.num_workers, cpus_per_worker and gpus_per_worker to auto, or to less",
            )
        ]
    gpus = resources.gpus_per_train_worker(settings.gpus_per_worker)
    cpus = resources.cpus_per_train_worker(number, settings.cpus_per_worker)
    patience = 60 * config.cluster.max_wait_minutes
    room = connection.Capacity({"CPU": cpus, "GPU": gpus}, times=number, max_wait_seconds=patience)
    if room.is_there() or resources.runs_in_process(number, gpus=gpus):
        each = f"{count(cpus, 'core')} and {count(gpus, 'GPU')}" if gpus else count(cpus, "core")
        return [Finding("workers", "ok", f"train.num_workers: {number}, each with {each}")]
    may_come = resources.max_cpus > resources.num_cpus or resources.max_gpus > resources.num_gpus
    return [
        Finding(
            "workers",
            "warning" if may_come else "error",
            f"no nodes are there with {room}",
            why=f"training waits for them, for {patience:g} s at most (cluster.max_wait_minutes)",
            do="see that the autoscaler may add such nodes"
            if may_come
            else "add such nodes, or set train.num_workers, cpus_per_worker and gpus_per_worker to "
            "auto, or to less",
        )
    ]


def _ask_tracking(
    config: Config | None, living: Sequence[Node]
) -> tuple[str, list[NodeAnswer]] | Finding:
    """Ask all nodes for the tracking store of the settings or of the environment."""
    from sentiflow.tracking import mlflow_store

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
    return uri, nodes.on_each(
        node_probes.ask_tracking, uri, nodes=living, timeout_seconds=_ANSWER_SECONDS
    )


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
    return storage_checks.check_tracking(
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
    address = connection.name_address()
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
