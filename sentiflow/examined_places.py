"""Config -> the files that its jobs would read, where they would write, and about how much."""

from collections.abc import Sequence

from sentiflow import manifest, storage
from sentiflow.diagnosis import Finding
from sentiflow.errors import UserError
from sentiflow.nodes import NodeAnswer
from sentiflow.sections import Config
from sentiflow.uris import join, split_member, without_credentials

_NEED = 1.5
"""Bytes of results for each byte of CSV: 1.2 were seen at most, while real tweets are prepared."""
_NEED_AT_LEAST = 500_000_000
"""For checkpoints, which do not grow with the corpus."""
_UNPACKED = 4
"""Bytes of CSV in a byte of a compressed one."""


def find_outputs(config: Config) -> list[str]:
    """Name the directory of the whole run, and those of stages that lie elsewhere."""
    stages = (config.prepare, config.train, config.score, config.evaluate, config.sweep)
    elsewhere = [
        stage.output_uri
        for stage in stages
        if not f"{stage.output_uri}/".startswith(f"{config.output_uri}/")
    ]
    return list(dict.fromkeys([config.output_uri, *elsewhere]))


def find_inputs(config: Config) -> tuple[list[str], list[Finding]]:
    """Name the files that the jobs would read, and say which cannot even be named."""
    uris, findings = [], []
    patterns = {"prepare.csv": config.prepare.csv, "score.corpus": config.score.corpus}
    for setting, values in patterns.items():
        for value in values:
            if value == "prepared":
                continue
            try:
                uris += storage.expand([value])
            except (UserError, OSError) as error:
                problem = without_credentials(str(error).splitlines()[0])
                findings.append(
                    Finding(
                        "input",
                        "error",
                        f"{setting}: {problem}",
                        why="the job would stop at once",
                        do="check the setting, and that the file is visible from this node",
                    )
                )
    record = join(config.train.prepared_uri, manifest.MANIFEST)
    if config.train.prepared_uri != config.prepare.output_uri or _may_be(record):
        uris.append(record)
    return list(dict.fromkeys(uris)), findings


def _may_be(uri: str) -> bool:
    """Say whether there is a file, or at least no way to know it; the nodes will say why."""
    try:
        return storage.exists(uri)
    except OSError:
        return True


def estimate_need(config: Config, read: Sequence[NodeAnswer]) -> int | None:
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
