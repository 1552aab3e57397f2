"""Address of a dashboard -> the cores and GPUs of its cluster, asked from outside."""

from ray.util.state import StateApiClient
from ray.util.state.common import ListApiOptions, StateResource
from ray.util.state.exception import RayStateApiException

from sentiflow.cluster.job_client import RAY_ERRORS, find_token
from sentiflow.cluster.resources import Resources
from sentiflow.errors import JobError

_TIMEOUT_SECONDS = 20
"""Maximum time that the dashboard waits for the state of its nodes."""
_MAX_NODES = 10_000
"""Maximum nodes that are asked for; Ray's default is 100."""


def count(address: str) -> Resources:
    """Count the resources of the nodes that are alive.

    Args:
        address: The dashboard, to which ``job_client.connect`` has connected: it checks that a
            token may travel there.

    Returns:
        The resources; with ``num_cpus`` 0 if no node has a core, as before an autoscaler adds one.

    Raises:
        JobError: The cluster does not say what it has.
    """
    token = find_token()
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    options = ListApiOptions(
        limit=_MAX_NODES, timeout=_TIMEOUT_SECONDS, filters=[("state", "=", "ALIVE")]
    )
    try:
        client = StateApiClient(address, headers=headers)
        nodes = client.list(StateResource.NODES, options, raise_on_missing_output=False)
    except (*RAY_ERRORS, RayStateApiException, ValueError) as error:
        line = str(error).strip().partition("\n")[0]
        raise JobError(f"{address} does not say which nodes it has: {line}") from error
    totals = [node.resources_total for node in nodes]
    cpus_by_node = [int(total.get("CPU", 0)) for total in totals if total.get("CPU", 0) >= 1]
    return Resources(
        num_cpus=sum(cpus_by_node),
        num_gpus=sum(int(total.get("GPU", 0)) for total in totals),
        num_nodes=len(cpus_by_node),
        min_node_cpus=min(cpus_by_node, default=0),
        is_one_machine=len(totals) == 1,
        may_grow=True,
    )
