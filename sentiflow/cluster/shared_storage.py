"""Location -> whether each node of the cluster reads what this one writes, and can write there."""

import secrets

from sentiflow.cluster import nodes
from sentiflow.errors import UserError
from sentiflow.storage import filesystem
from sentiflow.storage.uris import is_local, join, without_credentials


def check(setting: str, uri: str) -> str:
    """Have each node read a small file that this one writes, and write one of its own beside it.

    Where the directory does not exist, the files are in the nearest one above.

    Args:
        setting: Name of the setting, for the message.
        uri: The directory, which is not created.

    Returns:
        That it is shared, for the user.

    Raises:
        UserError: A node cannot write there, or does not see the file.
    """
    folder = filesystem.find_existing(uri) if is_local(uri) else uri
    file = join(folder, f".sentiflow-{secrets.token_hex(6)}")
    filesystem.write_bytes(file, b"")
    try:
        answers = nodes.on_each(_read_and_write, file)
    finally:
        filesystem.delete(file)
    bad = [f"{answer.node} ({answer.problem})" for answer in answers if answer.problem]
    if bad:
        raise UserError(
            f"{setting}={without_credentials(uri)} is not shared with node {', '.join(bad)}",
            hint="set a location that all nodes can read and write, such as NFS or s3://bucket/run",
        )
    return f"{uri} can be read and written by {len(answers)} nodes"


def _read_and_write(file: str) -> None:
    filesystem.read_bytes(file)
    own = f"{file}-{secrets.token_hex(6)}"
    filesystem.write_bytes(own, b"")
    filesystem.delete(own)
