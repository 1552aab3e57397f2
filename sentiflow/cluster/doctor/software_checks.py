"""What nodes say of their software -> findings: versions, torch and its GPUs."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from packaging.requirements import Requirement

from sentiflow.cluster.doctor.diagnosis import Finding, count, name_all
from sentiflow.cluster.nodes import NodeAnswer

_DECIDING = ("ray", "torch", "pyarrow", "sentiflow")
"""Packages of which all nodes must have the same version, or tasks fail or results differ."""


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


def check_gpus(answers: Sequence[NodeAnswer], *, may_come: bool = False) -> list[Finding]:
    """Check that torch works, and can use the GPUs that Ray counts.

    Args:
        answers: Of ``node_probes.try_torch``.
        may_come: An autoscaler may add nodes with GPUs.
    """
    findings = [found for answer in answers if (found := _check_gpus(answer)) is not None]
    if findings or not answers:
        return findings or [Finding("torch", "unchecked", "no node has answered")]
    names = sorted({gpu["name"] for answer in answers for gpu in answer.result["gpus"]})
    number = sum(len(answer.result["gpus"]) for answer in answers)
    slow = [gpu for answer in answers for gpu in answer.result["gpus"] if not gpu["bf16"]]
    if not number and may_come:
        what = "it computes on every node; one with a GPU is still to come"
        return [Finding("torch", "unchecked", what)]
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
