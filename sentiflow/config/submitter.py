"""Who runs a job: a setting, an environment variable, or the user of this machine."""

import os

from sentiflow.errors import UserError, is_printable, printable, shorten

VARIABLE = "SENTIFLOW_USER"
"""Variable with the name of the person who runs a job. ``sentiflow submit`` sets it for the job, as
the driver on a cluster is often root."""
MAX_LENGTH = 100
"""Maximum number of characters of a name."""


def find(setting: str | None) -> str:
    """Return the name of the person who runs this job.

    Args:
        setting: The setting ``tracking.user``. Default: the variable ``SENTIFLOW_USER``; without
            it the user of this machine, as a number if the user has no name.

    Raises:
        UserError: The variable holds no name.
    """
    if setting:
        return setting
    name = os.environ.get(VARIABLE, "").strip()
    if not name:
        # imported here: every command imports this module, but few need a name
        import psutil  # type: ignore[import-untyped]

        return str(psutil.Process().username())
    try:
        return check(name)
    except ValueError as error:
        raise UserError(
            f"{VARIABLE}={shorten(printable(name))!r}: {error}", hint="export a name, or unset it"
        ) from error


def check(name: str) -> str:
    """Check that a text can stand in a message and in MLflow as the name of a person; return it.

    Raises:
        ValueError: It is blank or too long, or has characters that are not printable.
    """
    if not name.strip() or len(name) > MAX_LENGTH or not is_printable(name):
        raise ValueError(f"must be a name of 1 to {MAX_LENGTH} printable characters")
    return name
