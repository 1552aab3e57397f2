"""Calibration of a model -> a sentence on what its network and its linear model decide."""

from collections.abc import Mapping
from typing import Any

from sentiflow.data.manifest_types import Manifest, ModelInput

_SMALL_SHARE = 0.1
"""Share of the network in the logits up to which its reason and its cost are told."""


def describe(calibration: Mapping[str, Any], costs: Mapping[str, Any] | None = None) -> str:
    """Say the shares of network and linear model in the logits; empty without a linear model.

    A small share of the network is told with its reason, and with what the network has cost.

    Args:
        calibration: The calibration of the model, as in the manifest of its package.
        costs: The key ``costs`` of the training's manifest, if the training is known.

    Example:
        >>> describe({"linear_weight": 0.75})
        'network 25%, linear model 75%'
        >>> import textwrap
        >>> costs = {"num_networks": 2, "network_seconds": 60.04, "linear_seconds": 4}
        >>> text = describe({"linear_weight": 1.0, "num_rows": 1600}, costs)
        >>> print(textwrap.fill(text, 80))
        network 0%, linear model 100%: on 1,600 rows that the models have not seen, the
        network hardly makes the labels more probable. Training the networks (2) took
        60.0 s, the linear models 4.0 s
    """
    weight = calibration.get("linear_weight")
    if weight is None:
        return ""
    text = f"network {1 - weight:.0%}, linear model {weight:.0%}"
    if 1 - weight > _SMALL_SHARE:
        return text
    text += f": {_name_rows(calibration)}the network hardly makes the labels more probable"
    if costs:
        text += f". {_describe_costs(costs)}"
    return text


def describe_model(model: ModelInput, trained: Manifest | None) -> str:
    """Say the shares of a model, see :func:`describe`; empty for an average of models.

    Args:
        model: The model.
        trained: Manifest of its training, if there is one.
    """
    if "members" in model:
        return ""
    costs = trained.get("costs") if trained else None
    return describe(model.get("calibration") or {}, costs)


def _name_rows(calibration: Mapping[str, Any]) -> str:
    """Name the rows that have decided the shares, if their number is known."""
    num_rows = calibration.get("num_rows")
    return f"on {num_rows:,} rows that the models have not seen, " if num_rows else ""


def _describe_costs(costs: Mapping[str, Any]) -> str:
    """Say how long network and linear model have been trained, in folds and in the end."""
    num_networks = costs["num_networks"]
    networks = "network" if num_networks == 1 else f"networks ({num_networks})"
    models = "model" if num_networks == 1 else "models"
    return (
        f"Training the {networks} took {costs['network_seconds']:.1f} s, "
        f"the linear {models} {costs['linear_seconds']:.1f} s"
    )
