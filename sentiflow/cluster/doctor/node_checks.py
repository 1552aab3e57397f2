"""What nodes say of themselves -> findings: who is there, clocks, disks, memory."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sentiflow.cluster.doctor.diagnosis import Finding, count, name_all, size
from sentiflow.cluster.nodes import Node, NodeAnswer

_CLOCK_WARNING_SECONDS, _CLOCK_ERROR_SECONDS = 1.0, 30.0
_SPILL_LIMIT = 0.95
"""Ray's object store does not spill to a disk that is fuller than this."""
_MIN_FREE_BYTES = 2_000_000_000
"""Of the disk of Ray's own directory: logs and working directories."""
_MIN_STORE_BYTES = 100_000_000
_MIN_BYTES_PER_CORE = 1_000_000_000
_MIN_OPEN_FILES = 4096
_OF_WORKERS = {
    *("versions", "torch", "input", "output", "tracking"),
    *("disk", "memory", "open files", "clock", "token"),
}
"""Checks that another node may not pass."""


def check_nodes(
    listed: Sequence[Node], answers: Sequence[NodeAnswer], *, place: str
) -> list[Finding]:
    """Check that all nodes of a ``place`` are there and can run sentiflow."""
    findings = []
    for answer in answers:
        if answer.problem:
            findings.append(
                Finding(
                    "nodes",
                    "error",
                    f"node {answer.node.name} does not run sentiflow: {answer.problem}",
                    why="parts of a job that land there fail, or wait for ever",
                    do=_tell_cure(answer.problem),
                    nodes=(answer.node.name,),
                )
            )
    alive = [node for node in listed if node.is_alive]
    again = {node.name for node in alive}
    lost = sorted({node.name for node in listed if not node.is_alive} - again)
    if lost:
        findings.append(
            Finding(
                "nodes",
                "warning",
                f"Ray has lost {name_all(lost)}",
                why="a job runs on those that are left, and takes longer",
                do="start them again, or go on without them: ray status --verbose says why",
                nodes=tuple(lost),
            )
        )
    cores, gpus = sum(node.num_cpus for node in alive), sum(node.num_gpus for node in alive)
    what = f"{place}: {count(len(alive), 'node')}, {count(int(cores), 'core')}, "
    what += count(int(gpus), "GPU")
    return findings or [Finding("nodes", "ok", what)]


def doubt(findings: Sequence[Finding]) -> list[Finding]:
    """Say of findings about a head that no other node is there yet, which may be less well."""
    warning = Finding(
        "nodes",
        "warning",
        "no worker node is there yet: the head alone was examined",
        why="one that comes may have other software, disks, credentials and ways to the stores",
        do="start one (a job that waits, or ray up with min_workers: 1), and ask again",
    )
    return [
        warning,
        *(
            replace(found, level="unchecked", what=f"{found.what} (on the head alone)")
            if found.level == "ok" and found.check in _OF_WORKERS
            else found
            for found in findings
        ),
    ]


def check_names(answers: Sequence[NodeAnswer]) -> list[Finding]:
    """Check that training workers on cores can name an address of theirs; nothing if they can.

    Where an interface has the node's address, they name that. Else Gloo takes what the host's own
    name leads to, which on Debian and Ubuntu is 127.0.1.1.

    Args:
        answers: Of ``node_probes.look``.
    """
    wrong = {
        answer.node.name: found["by_name"] or "nothing"
        for answer in answers
        if not (found := answer.result["address"])["is_own"]
        and (found["by_name"].startswith("127.") or not found["by_name"])
    }
    if len(answers) < 2 or not wrong:
        return []
    names, (found, *_) = sorted(wrong), wrong.values()
    return [
        Finding(
            "nodes",
            "warning",
            f"no interface has the address that Ray knows {name_all(names)} by, and the host's "
            f"name leads to {found} there",
            why="training workers on cores tell each other that address, and wait for ever",
            do="lead the host's name to its address in /etc/hosts, or start Ray there with "
            "GLOO_SOCKET_IFNAME=eth0, the interface by which nodes reach each other",
            nodes=tuple(names),
        )
    ]


def check_clocks(answers: Sequence[NodeAnswer]) -> Finding:
    """Check how far the nodes' clocks are apart, by at least how much that is certain.

    Args:
        answers: The time on each node, and when this process asked for it and had it.
    """
    if not answers:
        return Finding("clock", "unchecked", "no node has told its time")
    ahead = {a.node.name: a.result - (a.asked + a.answered) / 2 for a in answers}
    doubt = max((answer.answered - answer.asked) / 2 for answer in answers)
    fast, slow = max(ahead, key=lambda n: ahead[n]), min(ahead, key=lambda n: ahead[n])
    first, last = min(ahead[slow], 0.0), max(ahead[fast], 0.0)
    certain = max(0.0, last - first - 2 * doubt)
    if certain <= _CLOCK_WARNING_SECONDS:
        apart = f"{max(last - first, doubt):.2g} s apart at most"
        return Finding("clock", "ok", f"{apart}, on {count(len(answers), 'node')}")
    node = fast if last >= -first else slow
    away = f"{abs(ahead[node]):.1f} s {'ahead of' if ahead[node] > 0 else 'behind'}"
    return Finding(
        "clock",
        "error" if certain > _CLOCK_ERROR_SECONDS else "warning",
        f"node {node} is {away} this one (give or take {doubt:.1g} s)",
        why="S3 refuses signatures that are 15 minutes off; times in MLflow and logs mislead",
        do="let every node follow a time server: timedatectl set-ntp true, or chronyc makestep",
        nodes=(node,),
    )


def check_disks(answers: Sequence[NodeAnswer], need_bytes: int | None) -> list[Finding]:
    """Check the space for Ray's own files on each node, and for results on local disks.

    Args:
        answers: Of ``node_probes.look``.
        need_bytes: For the results, at most; None if the corpus's size is not known.
    """
    findings = []
    for answer in answers:
        own, name = answer.result["session_disk"], answer.node.name
        is_full = own["free"] < (1 - _SPILL_LIMIT) * own["total"]
        if is_full or own["free"] < _MIN_FREE_BYTES:
            findings.append(
                Finding(
                    "disk",
                    "error" if is_full else "warning",
                    f"{size(own['free'])} of {size(own['total'])} are free for Ray's own files "
                    f"({answer.node.session_dir}) on node {name}",
                    why="Ray keeps logs there, and what its object store cannot hold, but not on a "
                    "disk that is 95 % full: tasks then fail or wait",
                    do="delete old sessions there, or start Ray with --temp-dir on a larger disk",
                    nodes=(name,),
                )
            )
        for folder, found in answer.result["disks"].items():
            if need_bytes is not None and found["free"] < need_bytes:
                findings.append(
                    Finding(
                        "disk",
                        "error",
                        f"{size(found['free'])} are free at {folder} on node {name}; this corpus "
                        f"needs about {size(need_bytes)}",
                        why="the job would fail when the disk is full, after the work so far",
                        do="free space, or set output_uri to a larger place",
                        nodes=(name,),
                    )
                )
    if findings or not answers:
        return findings or [Finding("disk", "unchecked", "no node has answered")]
    least = min(answer.result["session_disk"]["free"] for answer in answers)
    what = f"at least {size(least)} are free for Ray's own files"
    local = [found["free"] for a in answers for found in a.result["disks"].values()]
    if local and need_bytes is not None:
        what += f", {size(min(local))} for results, which need about {size(need_bytes)}"
    return [Finding("disk", "ok", what)]


def check_memory(answers: Sequence[NodeAnswer]) -> list[Finding]:
    """Check memory for each core, the object store, and the shared memory that it lies in."""
    findings = []
    for answer in answers:
        node, store, shm = answer.node, answer.node.object_store_bytes, answer.result["shm_bytes"]
        each = answer.result["memory_bytes"] / max(1, node.num_cpus)
        if each < _MIN_BYTES_PER_CORE:
            findings.append(
                Finding(
                    "memory",
                    "warning",
                    f"{size(each)} of memory for each core of node {node.name}",
                    why="a part in work takes up to 0.7 GB, and there is one for each core: Ray "
                    "kills tasks where memory ends, and does them again",
                    do="start Ray there with a smaller --num-cpus, or set prepare.rows_per_file "
                    "and score.rows_per_file to less",
                    nodes=(node.name,),
                )
            )
        if store < _MIN_STORE_BYTES:
            findings.append(
                Finding(
                    "memory",
                    "warning",
                    f"an object store of {size(store)} on node {node.name}",
                    why="parts are read and written by the tasks themselves, so little is in it, "
                    f"but Ray Data wants some room, {size(_MIN_STORE_BYTES)} whatever the corpus",
                    do="start Ray there with a larger --object-store-memory",
                    nodes=(node.name,),
                )
            )
        if shm is not None and shm < store:
            findings.append(
                Finding(
                    "memory",
                    "warning",
                    f"node {node.name} has a /dev/shm of {size(shm)} for an object store of "
                    f"{size(store)}",
                    why="Ray then keeps objects on disk, which is many times slower",
                    do=f"docker run --shm-size={store // 1_000_000 + 1}m, or a smaller "
                    "--object-store-memory",
                    nodes=(node.name,),
                )
            )
    if findings or not answers:
        return findings or [Finding("memory", "unchecked", "no node has answered")]
    each = min(a.result["memory_bytes"] / max(1, a.node.num_cpus) for a in answers)
    store = min(answer.node.object_store_bytes for answer in answers)
    what = f"at least {size(each)} for each core, object stores of {size(store)}"
    return [Finding("memory", "ok", what)]


def check_open_files(answers: Sequence[NodeAnswer]) -> list[Finding]:
    """Check how many files and connections a process may have open."""
    few = {a.node.name: a.result["open_files"] for a in answers}
    low = sorted(name for name, limit in few.items() if 0 <= limit < _MIN_OPEN_FILES)
    if low:
        return [
            Finding(
                "open files",
                "warning",
                f"at most {min(few[name] for name in low):,} a process on {name_all(low)}",
                why="Ray's processes hold a connection to every worker, and die at the limit",
                do="start Ray after ulimit -n 65536",
                nodes=tuple(low),
            )
        ]
    least = min((limit for limit in few.values() if limit >= 0), default=None)
    what = "no node has answered" if not few else f"{least:,} a process" if least else "no limit"
    return [Finding("open files", "ok" if few else "unchecked", what)]


def _tell_cure(problem: str) -> str:
    """Say what helps a node that gave no answer."""
    if "ModuleNotFoundError" in problem or "ImportError" in problem:
        return "install sentiflow there, or submit the job with --working-dir"
    return "look at its load and at Ray's logs there; ray status says whether it is still alive"


def describe(answer: NodeAnswer) -> dict[str, Any]:
    """Give all that a node said, for ``--verbose``."""
    return {"node": answer.node.name, "result": answer.result, "problem": answer.problem}
