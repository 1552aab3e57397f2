"""What a user got wrong -> one clear line with the way out."""


class UserError(Exception):
    """Input or settings that only the user can put right: exit code 2, no traceback.

    The message is one line for each thing that is wrong: what, where (file, row, key), and what
    to do about it.

    Example:
        >>> str(UserError("no such file: tweets.csv", hint="set prepare.csv"))
        'no such file: tweets.csv: set prepare.csv'
    """

    def __init__(self, problem: str, *, hint: str = "") -> None:
        """Join ``problem`` and ``hint`` into the one line that the user reads."""
        super().__init__(f"{problem}: {hint}" if hint else problem)


class StorageError(UserError):
    """A place that is not there or must not be used; another node may see it, or be let in."""


class JobError(Exception):
    """A job that failed for a reason outside the user's input: exit code 1, one line."""


class WorkerError(JobError):
    """A process of a job that died, or failed where another try may do."""


class UnavailableError(JobError):
    """A server that does not answer, or not properly; a later try may succeed."""
