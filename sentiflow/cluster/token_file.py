"""The file with the token of this user, which Ray reads when it starts or joins a cluster."""

import os
import secrets
from contextlib import suppress
from pathlib import Path


def find() -> Path:
    """Return the file in which Ray looks for this user's token."""
    return Path.home() / ".ray" / "auth_token"


def make_private() -> None:
    """Make the token of a local cluster if it is missing, and let only its owner read the file.

    Ray would make a token that everybody can read.
    """
    if os.environ.get("RAY_AUTH_MODE", "token") != "token" or "RAY_AUTH_TOKEN" in os.environ:
        return
    path = find()
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        suppress(FileExistsError),
        open(path, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file,
    ):
        file.write(secrets.token_hex(32))
    path.chmod(0o600)
