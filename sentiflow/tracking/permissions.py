"""Error of MLflow -> the permission that MLflow's user lacks, in a line.

A server with users (``mlflow server --app-name basic-auth``) answers 403 without a permission. To
users who are not administrators it also answers 403 if there is no such run or model.
docs/tracking_servers.md lists the permissions.
"""

import os
import re
from typing import Literal

Permission = Literal["READ", "EDIT"]
"""A permission of MLflow. A user who has MANAGE, as the creator has, has all others, too."""

_PAGE = "docs/tracking_servers.md#permissions"
_DENIED = re.compile(
    r"/mlflow/(?P<resource>[\w-]+)\S* failed with error code 403"
    r"|403 Client Error.*/(?P<files>mlflow-artifacts)/"
)
"""The answer 403 to a call of MLflow's interface, or to a request for artifacts."""
_OF_MODELS = ("registered-models", "model-versions")
"""Parts of MLflow's interface for which a permission on a registered model counts. For all other
parts one on the experiment counts."""
_OTHER_REASON = "Invalid Host header"
"""Part of another answer with the same code: the server does not know its name."""


def explain(error: BaseException, needed: Permission) -> str:
    """Say which permission MLflow's user lacks; empty if an error is no lack of a permission.

    Args:
        error: The error of a call.
        needed: The permission that the call needs.
    """
    text = str(error)
    match = _DENIED.search(text)
    is_denied = match or getattr(error, "error_code", "") == "PERMISSION_DENIED"
    if not is_denied or _OTHER_REASON in text:
        return ""
    resource = "experiment"
    if not match:  # an answer of another kind of log-in
        resource = "experiment or registered model"
    elif match["resource"] in _OF_MODELS:
        resource = "registered model"
    name = os.environ.get("MLFLOW_TRACKING_USERNAME")
    user = f"MLflow's user {name}" if name else "this user of MLflow"
    problem = f"{user} lacks the permission {needed} on the {resource}"
    if needed == "READ":
        problem += ", or there is none"
    return f"{problem}; its creator or an administrator can grant it ({_PAGE})"
