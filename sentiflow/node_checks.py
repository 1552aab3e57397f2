"""What nodes say of themselves -> findings: versions, clocks, disks, memory, GPUs."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from packaging.requirements import Requirement

from sentiflow.diagnosis import Finding, count, name_all, size
from sentiflow.nodes import Node, NodeAnswer

_DECIDING = ("ray", "torch", "pyarrow", "sentiflow")
"""Packages of which all nodes must have the same version, or tasks fail or results differ."""
_CLOCK_WARNING_SECONDS, _CLOCK_ERROR_SECONDS = 1.0, 30.0
_SPILL_LIMIT = 0.95
"""Ray's object store does not spill to a disk that is fuller than this."""
_MIN_FREE_BYTES = 2_000_000_000
"""Of the disk of Ray's own directory: logs and working directories."""
_MIN_STORE_BYTES = 100_000_000
_MIN_BYTES_PER_CORE = 1_000_000_000
_MIN_OPEN_FILES = 4096


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


def check_versions(
    answers: Sequence[NodeAnswer], requirements: Sequence[str] | None
) -> list[Finding]:
    """Check that all nodes have equal versions, and such as sentiflow asks for.

    Args:
        answers: Of ``node_probes.look``.
        requirements: What sentiflow declares, as ``ray>=2.60,<2.61``; None if it is not known.
    """
    if not answers:
        return [Finding("versions", "unchecked", "no node has answered")]
    by_node = {answer.node.name: answer.result["versions"] for answer in answers}
    findings = []
    for name in sorted({name for found in by_node.values() for name in found}):
        holders: dict[str, list[str]] = defaultdict(list)
        for node, found in by_node.items():
            holders[found.get(name, "")].append(node)
        outside = [
            found
            for version, holding in holders.items()
            for found in _outside(name, version, holding, requirements or ())
        ]
        findings += outside
        if len(holders) > 1 and not outside:
            findings.append(_differing(name, holders))
    codes: dict[str, list[str]] = defaultdict(list)
    for answer in answers:
        codes[answer.result["code"]].append(answer.node.name)
    if len(codes) > 1 and not any("sentiflow" in finding.what for finding in findings):
        findings.append(
            Finding(
                "versions",
                "error",
                f"the code of sentiflow differs: {_list_holders(codes)}",
                why="parts of one job would be done in different ways",
                do="install one wheel on all nodes, or submit with --working-dir",
            )
        )
    if requirements is None:
        what = "whether they are those that sentiflow asks for: it is not installed as a package"
        findings.append(Finding("versions", "unchecked", what))
    shown = next(iter(by_node.values()))
    what = ", ".join(f"{name} {version}" for name, version in shown.items() if version)
    good = Finding("versions", "ok", f"{what} on {count(len(by_node), 'node')}")
    return findings if any(f.level != "unchecked" for f in findings) else [good, *findings]


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


def check_gpus(answers: Sequence[NodeAnswer]) -> list[Finding]:
    """Check that torch works, and can use the GPUs that Ray counts.

    Args:
        answers: Of ``node_probes.try_torch``.
    """
    findings = [found for answer in answers if (found := _check_gpus(answer)) is not None]
    if findings or not answers:
        return findings or [Finding("torch", "unchecked", "no node has answered")]
    names = sorted({gpu["name"] for answer in answers for gpu in answer.result["gpus"]})
    number = sum(len(answer.result["gpus"]) for answer in answers)
    slow = [gpu for answer in answers for gpu in answer.result["gpus"] if not gpu["bf16"]]
    if not number:
        return [Finding("torch", "ok", "it computes on every node; no GPU, so jobs run on cores")]
    what = f"it computes on {count(number, 'GPU')}: {', '.join(names)}"
    if slow:
        return [
            Finding(
                "torch",
                "warning",
                f"{what}; {count(len(slow), 'GPU')} without bf16",
                why="train.precision and score.precision auto mean bf16 on a GPU",
                do="set both to fp32",
            )
        ]
    return [Finding("torch", "ok", f"{what}; bf16, too")]


def _check_gpus(answer: NodeAnswer) -> Finding | None:
    """Find what is wrong with torch or the GPUs of one node."""
    found, node = answer.result, answer.node
    if found["problem"]:
        return Finding(
            "torch",
            "error",
            f"node {node.name}: {found['problem']}",
            why="training and scoring need it on every node",
            do='install it there again: python -c "import torch" must work',
            nodes=(node.name,),
        )
    broken = [gpu["problem"] for gpu in found["gpus"] if gpu["problem"]]
    usable, counted = len(found["gpus"]) - len(broken), int(node.num_gpus)
    if usable < counted:
        version = f"torch {found['version']}"
        cause = "" if not broken else f" ({broken[0]})"
        is_cpu_build = not found["built_for"]
        return Finding(
            "torch",
            "error",
            f"Ray counts {count(counted, 'GPU')} on node {node.name}, but {version}"
            + (", built for CPU alone," if is_cpu_build else "")
            + f" can use {usable or 'none'}{cause}",
            why="training and scoring ask for Ray's GPUs, and would fail or run on cores there",
            do="install a build of torch for its GPUs (https://pytorch.org/get-started/locally)"
            if is_cpu_build
            else "mend the driver (nvidia-smi must list them), or start Ray there with "
            f"--num-gpus {usable}",
            nodes=(node.name,),
        )
    if usable and not counted:
        return Finding(
            "torch",
            "warning",
            f"torch can use {count(usable, 'GPU')} on node {node.name}, but Ray counts none",
            why="jobs ask Ray for GPUs, so they stay idle",
            do=f"start Ray there with --num-gpus {usable}",
            nodes=(node.name,),
        )
    return None


def _differing(name: str, holders: Mapping[str, Sequence[str]]) -> Finding:
    """Say that nodes have different versions of one package."""
    _, rarest = min((len(names), list(names)) for names in holders.values())
    releases = {tuple(version.split(".")[:2]) for version in holders}
    decides = name in _DECIDING or (name == "python" and len(releases) > 1)
    return Finding(
        "versions",
        "error" if decides or "" in holders else "warning",
        f"{name} differs: {_list_holders(holders)}",
        why="tasks are pickled on one node and run on another, and parts of one table are written "
        "by all"
        if decides or "" in holders
        else "parts of one job may be done in slightly different ways",
        do="install the same everywhere: pip install -c constraints.txt, or one image",
        nodes=tuple(sorted(rarest)),
    )


def _outside(
    name: str, version: str, holding: Sequence[str], requirements: Sequence[str]
) -> list[Finding]:
    """Say that a version is none that sentiflow asks for."""
    for text in requirements:
        wanted = Requirement(text)
        if wanted.name != name or wanted.marker or not version:
            continue
        if not wanted.specifier.contains(version, prereleases=True):
            return [
                Finding(
                    "versions",
                    "error",
                    f"{name} {version} on {name_all(holding)}; sentiflow asks for "
                    f"{name}{wanted.specifier}",
                    why="it was never tested with it",
                    do=f"pip install '{name}{wanted.specifier}' there",
                    nodes=tuple(sorted(holding)),
                )
            ]
    return []


def _list_holders(holders: Mapping[str, Sequence[str]]) -> str:
    """List who has which version, the rarest last."""
    ordered = sorted(holders.items(), key=lambda item: (-len(item[1]), item[0]))
    return ", ".join(f"{version or 'none'} on {name_all(names)}" for version, names in ordered)


def _tell_cure(problem: str) -> str:
    """Say what helps a node that gave no answer."""
    if "ModuleNotFoundError" in problem or "ImportError" in problem:
        return "install sentiflow there, or submit the job with --working-dir"
    return "look at its load and at Ray's logs there; ray status says whether it is still alive"


def describe(answer: NodeAnswer) -> dict[str, Any]:
    """Give all that a node said, for ``--verbose``."""
    return {"node": answer.node.name, "result": answer.result, "problem": answer.problem}
