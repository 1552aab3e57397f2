"""What nodes see of the world -> findings: input, output, tracking store, dashboard, token."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sentiflow.cluster.doctor.diagnosis import Finding, count, name_all, size
from sentiflow.cluster.nodes import NodeAnswer
from sentiflow.cluster.shared_storage import Exchange
from sentiflow.storage.uris import is_local

_PLACES = "NFS, or s3://bucket/…"


def check_input(answers: Sequence[NodeAnswer], num_left_out: int = 0) -> list[Finding]:
    """Check that every node reads the same files.

    Args:
        answers: Of ``node_probes.read_beginnings``.
        num_left_out: Files that nobody was asked for.
    """
    if not answers:
        return [Finding("input", "unchecked", "no node has answered")]
    problems: dict[tuple[str, str], list[str]] = defaultdict(list)
    sizes: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for answer in answers:
        for uri, found in answer.result.items():
            if found["problem"]:
                problems[uri, found["problem"]].append(answer.node.name)
            else:
                sizes[uri][found["bytes"]].append(answer.node.name)
    alike: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    for (uri, problem), names in problems.items():
        alike[problem, tuple(sorted(names))].append(uri)
    findings = [_unreadable(uris, why, names) for (why, names), uris in alike.items()]
    for uri, holders in sizes.items():
        if len(holders) > 1:
            shown = [f"{size(n)} on {name_all(names)}" for n, names in sorted(holders.items())]
            findings.append(
                Finding(
                    "input",
                    "error",
                    f"{uri} is not the same file everywhere: {', '.join(shown)}",
                    why="each node reads its parts of it by their place in bytes",
                    do=f"put it where all nodes see one file: {_PLACES}",
                )
            )
    if findings:
        return findings
    total = sum(next(iter(holders)) for holders in sizes.values())
    what = f"{count(len(sizes), 'file')}, {size(total)}, read on {count(len(answers), 'node')}"
    left_out = f"; {num_left_out:,} more were not looked at" if num_left_out else ""
    return [Finding("input", "ok", what + left_out)]


def _unreadable(uris: Sequence[str], problem: str, names: tuple[str, ...]) -> Finding:
    shown = uris[0] if len(uris) == 1 else f"{uris[0]} and {count(len(uris) - 1, 'other file')}"
    cure = f"copy or mount it there, or put it where all nodes see it: {_PLACES}"
    if not is_local(uris[0]):
        cure = "give that node credentials (AWS_ACCESS_KEY_ID, ...) and a way to the store"
    return Finding(
        "input",
        "error",
        f"{shown} cannot be read on {name_all(names)}: {problem}",
        why="any node may get any part of it, and the job fails at the first that cannot be read",
        do=cure,
        nodes=names,
    )


def check_output(uri: str, exchange: Exchange) -> list[Finding]:
    """Check that every node can write at a location and reads what the others wrote."""
    findings = []
    for answers, what in ((exchange.written, "written"), (exchange.read, "read")):
        holders: dict[str, list[str]] = defaultdict(list)
        for answer in answers:
            if answer.problem:
                holders[answer.problem].append(answer.node.name)
        for problem, names in holders.items():
            cure = "make it writable for the user that Ray runs as"
            if not is_local(uri):
                cure = "make the bucket, or give that node credentials that may write there "
                cure += "(AWS_ACCESS_KEY_ID, ...) and a way to the store"
            if problem.startswith("no answer"):
                cure = "look whether its file system hangs (ls there), or its way to the store"
            findings.append(
                Finding(
                    "output",
                    "error",
                    f"{uri} cannot be {what} on {name_all(names)}: {problem}",
                    why="each node writes the parts that it has worked on",
                    do=cure,
                    nodes=tuple(sorted(names)),
                )
            )
    apart = sorted({name for pair in exchange.unseen for name in pair})
    if exchange.unseen:
        reader, writer = exchange.unseen[0]
        others = len(exchange.unseen) - 1
        more = f" ({count(others, 'more pair')} of nodes)" if others else ""
        findings.append(
            Finding(
                "output",
                "error",
                f"{uri} is not shared: node {reader} does not see what node {writer} wrote{more}",
                why="each node would keep the parts that it has worked on to itself",
                do=f"set output_uri to a place that all nodes have in common: {_PLACES}",
                nodes=tuple(apart),
            )
        )
    if findings:
        return findings
    number = len(exchange.written)
    what = f"{uri}: written and read by {count(number, 'node')}"
    return [Finding("output", "ok", what + (", each other's files, too" if number > 1 else ""))]


def check_heads_disk(on_disk: Sequence[str], outputs: Sequence[str]) -> list[Finding]:
    """Say what nodes that are still to come will not see.

    Args:
        on_disk: Input files and directories for results that are on a disk of the head.
        outputs: All directories for results.
    """
    inputs = [uri for uri in on_disk if uri not in outputs]
    findings = []
    if inputs:
        more = f" and {count(len(inputs) - 1, 'other file')}" if inputs[1:] else ""
        findings.append(
            Finding(
                "input",
                "warning",
                f"{inputs[0]}{more}: on a disk of the head",
                why="nodes that come have disks of their own",
                do=f"put it where all nodes see it, unless their image has it: {_PLACES}",
            )
        )
    return findings + [
        Finding(
            "output",
            "error",
            f"{uri} is on a disk of the head",
            why="nodes are still to come that will not see it, and the job is refused",
            do=f"set output_uri to a place that all nodes have in common: {_PLACES}",
        )
        for uri in outputs
        if uri in on_disk
    ]


def check_tracking(
    uri: str, answers: Sequence[NodeAnswer], *, num_nodes: int, required: bool = True
) -> Finding:
    """Check that every node reaches the tracking store.

    Args:
        uri: The store.
        answers: Of ``node_probes.ask_tracking``; none if it is a file.
        num_nodes: Living nodes, and one more if others are still to come.
        required: A job stops without it.
    """
    if uri.startswith("sqlite:"):
        if num_nodes == 1:
            return Finding("tracking", "ok", f"{uri}, on the only node")
        return Finding(
            "tracking",
            "error",
            f"{uri} is a file, and there is more than one node, or will be",
            why="a training worker on another node would write into a file of its own",
            do="start a server (mlflow server --host 0.0.0.0) and name it by MLFLOW_TRACKING_URI",
        )
    holders: dict[str, list[str]] = defaultdict(list)
    for answer in answers:
        if problem := answer.problem or answer.result:
            holders[problem].append(answer.node.name)
    if holders:
        shown = [f"{name_all(names)} ({problem})" for problem, names in holders.items()]
        return Finding(
            "tracking",
            "error" if required else "warning",
            f"{uri} cannot be used from {', '.join(shown)}",
            why="a job stops if it cannot record its run"
            if required
            else "runs would not be recorded (tracking.required=false)",
            do="start the server on an address that nodes reach (mlflow server --host 0.0.0.0), "
            "open its port, and give nodes MLFLOW_TRACKING_USERNAME and _PASSWORD if it asks",
            nodes=tuple(sorted(name for names in holders.values() for name in names)),
        )
    if not answers:
        return Finding("tracking", "unchecked", f"{uri}: no node has answered")
    what = f"{uri} answers {count(len(answers), 'node')}"
    if not uri.startswith(("http://", "https://")):
        what += "; whether it lets them in is not looked at"
    return Finding("tracking", "ok", what)


def check_dashboard(
    address: str, answers: Sequence[NodeAnswer], *, num_nodes: int, has_token: bool
) -> Finding:
    """Check that Ray's dashboard lets in nobody without a token.

    Args:
        address: Host and port; "" if there is none.
        answers: The status it gave without a token, asked on the head node.
        num_nodes: Living nodes, and one more if others are still to come.
        has_token: This process shows Ray a token.
    """
    alone = num_nodes == 1
    why = (
        "whoever reaches it can run any code on the cluster (CVE-2023-48022)"
        if address
        else "whoever reaches Ray's ports can run any code on it"
    )
    cure = (
        "make a token with (umask 077; ray get-auth-token --generate >/dev/null), copy "
        "~/.ray/auth_token to every node, and start Ray with RAY_AUTH_MODE=token"
    )
    if not address:
        if has_token:
            return Finding("dashboard", "ok", "there is none, and Ray asks for a token")
        level: Any = "warning" if alone else "error"
        return Finding("dashboard", level, "there is none, but Ray asks for no token", why, cure)
    status = answers[0].result if answers else None
    if status is None:
        problem = answers[0].problem if answers else "the head node has not answered"
        return Finding("dashboard", "unchecked", f"{address}: {problem}")
    everywhere = not address.startswith(("127.", "localhost", "[::1]"))
    if status < 400:
        return Finding(
            "dashboard",
            "error" if everywhere or not alone else "warning",
            f"{address} answers without a token",
            why=why,
            do=cure,
        )
    if everywhere:
        return Finding(
            "dashboard",
            "warning",
            f"{address} asks for a token, but is open to the network",
            why="over http the token can be read on the way, and who has it can run any code",
            do="start the head with --dashboard-host 127.0.0.1, and reach it through ssh -L",
        )
    return Finding("dashboard", "ok", f"{address} asks for a token, and is for its own node alone")


def check_token(tokens: Mapping[str, dict[str, Any] | None]) -> list[Finding]:
    """Check that the token's file is for its owner alone.

    Args:
        tokens: By node, its file as ``node_probes.token`` describes it.
    """
    findings, holders = [], defaultdict[tuple[str, int], list[str]](list)
    for name, found in tokens.items():
        if found is not None and found["mode"] & 0o077:
            holders[found["path"], found["mode"]].append(name)
    for (path, mode), names in holders.items():
        who = "all users" if mode & 0o007 else "its group"
        findings.append(
            Finding(
                "token",
                "error",
                f"{path} is open to {who} (mode {mode:04o}) on {name_all(names)}",
                why="who has the token can run any code on the cluster, as you",
                do=f"chmod 600 {path}, and make a new one if the machine has other users",
                nodes=tuple(sorted(names)),
            )
        )
    number = sum(found is not None for found in tokens.values())
    if not number:
        return [Finding("token", "ok", "no node has a file with one")]
    return findings or [Finding("token", "ok", f"for its owner alone on {count(number, 'node')}")]
