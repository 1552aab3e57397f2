"""Config -> the files that its jobs would read, where they would write, and about how much."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from sentiflow.cluster.doctor.diagnosis import Finding
from sentiflow.config.sections import Config
from sentiflow.data import manifest
from sentiflow.errors import UserError
from sentiflow.storage import errors, filesystem
from sentiflow.storage.uris import join, split_member, without_credentials

if TYPE_CHECKING:
    from sentiflow.cluster.nodes import (
        NodeAnswer,  # which would import Ray into the child process, too
    )

_NEED = 1.5
"""Bytes of results for each byte of CSV: 1.2 were seen at most, while real tweets are prepared."""
_NEED_AT_LEAST = 500_000_000
"""For checkpoints, which do not grow with the corpus."""
_UNPACKED = 4
"""Bytes of CSV in a byte of a compressed one."""
_AT_ONCE = 16


def find_outputs(config: Config) -> list[str]:
    """Name the directory of the whole run, and those of stages that lie elsewhere."""
    stages = (config.prepare, config.train, config.score, config.evaluate, config.sweep)
    elsewhere = [
        stage.output_uri
        for stage in stages
        if not f"{stage.output_uri}/".startswith(f"{config.output_uri}/")
    ]
    return list(dict.fromkeys([config.output_uri, *elsewhere]))


def find_inputs(
    config: Config, *, timeout_seconds: float = 30.0
) -> tuple[list[str], list[Finding]]:
    """Name the files that the jobs would read, and say which cannot even be named.

    Args:
        config: The experiment.
        timeout_seconds: For all of them together: a file system or store may never answer.
    """
    uris, findings = [], []
    settings = {"prepare.csv": config.prepare.csv, "score.corpus": config.score.corpus}
    wanted = [(name, value) for name, values in settings.items() for value in values]
    wanted = [(name, value) for name, value in wanted if value != "prepared"]
    record = join(config.train.prepared_uri, manifest.MANIFEST)
    found = _expand_aside([*(value for _, value in wanted), record], timeout_seconds)
    for name, value in wanted:
        uris += found[value]["uris"]
        if problem := found[value]["problem"]:
            findings.append(
                Finding(
                    "input",
                    "error",
                    f"{name}: {problem}",
                    why="the job would stop at once",
                    do="check the setting, and that the file is visible from this node",
                )
            )
    is_elsewhere = config.train.prepared_uri != config.prepare.output_uri
    if is_elsewhere or not found[record]["is_absent"]:  # nodes say why nobody could know
        uris.append(record)
    return list(dict.fromkeys(uris)), findings


def _expand_aside(patterns: Sequence[str], timeout_seconds: float) -> dict[str, dict[str, Any]]:
    """Expand each pattern in a process of its own, which can be ended, and say so of those left.

    A thread that waits for an object store cannot be left behind: Arrow lets no process end before
    it has its answer.
    """
    path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "sentiflow.cluster.doctor.storage_probes"],
            input=json.dumps(list(patterns)),
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            env=os.environ | {"PYTHONPATH": path},
        )
        lines, problem = done.stdout, (done.stderr.strip().splitlines() or ["no answer"])[-1]
    except subprocess.TimeoutExpired as late:
        lines = (late.stdout or b"").decode()  # bytes whatever was asked for
        problem = f"no answer within {timeout_seconds:g} s"
    answers = dict(json.loads(line) for line in lines.splitlines(True) if line.endswith("\n"))
    nothing = {"uris": [], "is_absent": False}
    return {
        pattern: answers.get(pattern)
        or nothing | {"problem": without_credentials(f"{pattern}: {problem}")}
        for pattern in patterns
    }


def expand(pattern: str) -> dict[str, Any]:
    """Name the files that a pattern stands for: ``uris``, or the ``problem``.

    ``is_absent``: there is none, for certain.
    """
    try:
        return {"uris": filesystem.expand([pattern]), "problem": "", "is_absent": False}
    except (UserError, OSError) as error:
        trouble = errors.find_store_trouble(str(error))
        said = f"{pattern}: {trouble.what}" if trouble else str(error).splitlines()[0]
        problem = without_credentials(said)
        return {"uris": [], "problem": problem, "is_absent": isinstance(error, UserError)}


def _answer() -> None:
    """Expand the patterns of standard input; a line for each as soon as it is known."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:

        def tell(pattern: str) -> None:
            sys.stdout.write(json.dumps([pattern, expand(pattern)]) + "\n")
            sys.stdout.flush()

        list(pool.map(tell, json.load(sys.stdin)))


def estimate_need(config: Config, read: "Sequence[NodeAnswer]") -> int | None:
    """Estimate the bytes of all results; None if nobody could tell the size of the input."""
    sizes: dict[str, int] = {}
    for answer in read:
        for uri, found in answer.result.items():
            if not uri.endswith(manifest.MANIFEST):
                packed = split_member(uri)[1] or uri.endswith((".gz", ".zst", ".zip"))
                size = found["bytes"] * (_UNPACKED if packed else 1)
                sizes[uri] = max(size, sizes.get(uri, 0))  # some nodes may not have read it
    if not any(sizes.values()):
        return None
    return int(_NEED * sum(sizes.values()) / config.prepare.every_nth) + _NEED_AT_LEAST


if __name__ == "__main__":
    _answer()
