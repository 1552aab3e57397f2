"""Job to submit -> what it will take on its cluster, in a line."""

from typing import TYPE_CHECKING

from sentiflow.errors import JobError, UserError
from sentiflow.progress import Progress

if TYPE_CHECKING:
    from sentiflow.cluster.resources import Resources
    from sentiflow.config.sections import Config


def describe(verb: str, config: "Config", address: str | None, *, verbose: bool) -> str:
    """Estimate a job with the cores of its cluster, as if none of its stages were complete.

    Args:
        verb: The job.
        config: Its settings.
        address: The option ``--address``.
        verbose: Show the messages of Ray's client.

    Returns:
        A line. Without a cluster it has only the core hours of a single core, which are the fewest;
        without an estimate, it says why.
    """
    from sentiflow.pipeline import estimates

    verbs = config.run_stages if verb == "run" else (verb,)
    if not set(verbs) & set(estimates.ESTIMATED):
        return f"none for {verb}"
    with Progress("submit", what="estimating the job"):
        resources, problem = _count_resources(address, verbose=verbose)
        try:
            line = estimates.sum_up(verbs, config, resources)
        except (OSError, UserError, JobError) as error:
            first_line = str(error).partition("\n")[0]
            return f"none: the data cannot be seen from here ({first_line})"
    if not line:
        return "none: there is no rate for GPUs before a first run"
    return f"{line}; {problem}" if problem else line


def _count_resources(address: str | None, *, verbose: bool) -> tuple["Resources | None", str]:
    """Ask the cluster for its nodes; return them, or None and why there are none."""
    from sentiflow.cluster import cluster_size, job_client

    try:
        url = job_client.choose_address(address)
        job_client.connect(url, verbose=verbose)
        resources = cluster_size.count(url)
    except (UserError, JobError) as error:
        return None, str(error).partition("\n")[0]
    if not resources.num_cpus:
        return None, f"{url} has no node with cores now"
    return resources, ""
