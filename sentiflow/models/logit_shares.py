"""Calibration of a model -> a sentence on what its network and its linear model decide."""

from collections.abc import Mapping
from typing import Any

from sentiflow.data.manifest_types import Manifest, ModelInput
from sentiflow.models import package_files

_SMALL_SHARE = 0.1
"""Share of the network in the logits up to which its gain and its cost are told."""
_SMALL_GAIN = 0.005
"""Gain of the network, in nats a row, below which they are told whatever its share."""
_UNSEEN = "texts that the models have not seen"
"""What the log loss is measured on, for messages."""


def describe(calibration: Mapping[str, Any], costs: Mapping[str, Any] | None = None) -> str:
    """Say the shares of network and linear model in the logits; empty without a linear model.

    A small share or gain of the network is told with its reason, and with what the network has
    cost.

    Args:
        calibration: The calibration of the model, as in the manifest of its package.
        costs: The key ``costs`` of the training's manifest, if the training is known.

    Example:
        >>> describe({"linear_weight": 0.75})
        'network 25%, linear model 75%'
        >>> import textwrap
        >>> costs = {"num_networks": 2, "network_seconds": 60.04, "linear_seconds": 4}
        >>> costs["num_folds_trained"] = 5
        >>> text = describe({"linear_weight": 0.97, "network_gain": 0.0004}, costs)
        >>> print(textwrap.fill(text, 80))
        network 3%, linear model 97%: the network lowers the log loss by 0.0004 on texts
        that the models have not seen. Training the networks (2) took 60.0 s, the linear
        models 4.0 s
    """
    weight = calibration.get("linear_weight")
    if weight is None:
        return ""
    text = f"network {1 - weight:.0%}, linear model {weight:.0%}"
    gain = calibration.get("network_gain")
    has_small_gain = gain is not None and gain < _SMALL_GAIN
    if 1 - weight > _SMALL_SHARE and not has_small_gain:
        return text
    if gain is not None:
        text += f": {_describe_gain(gain, is_used=weight < 1)} {_UNSEEN}"
    if costs:
        text += f". {_describe_costs(costs)}"
    return text


def _describe_gain(gain: float, *, is_used: bool) -> str:
    """Say what the network gains over the linear model, up to the texts that tell it.

    Args:
        gain: The gain, in nats a row.
        is_used: Whether the network has a share in the logits.
    """
    if gain > 0:
        return f"the network lowers the log loss by {gain:.4f} on"
    if is_used:
        return "the linear model alone would have as low a log loss on"
    return "the network does not lower the log loss of"


def has_network(calibration: Mapping[str, Any] | None) -> bool:
    """Say whether the network has a share in the logits.

    Args:
        calibration: The calibration of a model; None: it has none, as without a linear model.
    """
    return not calibration or calibration.get("linear_weight") != 1


def advise(calibration: Mapping[str, Any], *, has_teacher: bool) -> str:
    """Say what may give the network a share in the logits; empty if it has one.

    Args:
        calibration: The calibration of the model, as in the manifest of its package.
        has_teacher: Whether the network was distilled.

    Example:
        >>> advise({"linear_weight": 1.0}, has_teacher=True)
        'the network has no share: more labelled rows may help it'
        >>> advise({"linear_weight": 0.9}, has_teacher=True)
        ''
    """
    if has_network(calibration):
        return ""
    what = "more labelled rows"
    if not has_teacher:
        what = f"a teacher (train.distill, docs/distilling.md) or {what}"
    return f"the network has no share: {what} may help it"


def describe_model(model: ModelInput, trained: Manifest | None) -> str:
    """Say the shares of a model and what may help; empty for an average of models.

    Args:
        model: The model.
        trained: Manifest of its training, if there is one.
    """
    if package_files.is_average(model):
        return ""
    calibration = model.get("calibration") or {}
    if trained is None:
        return describe(calibration)
    text = describe(calibration, trained.get("costs"))
    advice = advise(calibration, has_teacher="distill" in trained["settings"])
    return f"{text}. {advice[0].upper()}{advice[1:]}" if advice else text


def _describe_costs(costs: Mapping[str, Any]) -> str:
    """Say how long network and linear model have been trained, in folds and in the end."""
    num_networks = int(costs["num_networks"])
    # An earlier version has not counted the folds: then at least as many as networks.
    num_models = 1 + costs["num_folds_trained"] if "num_folds_trained" in costs else num_networks
    if not num_networks:
        return f"No network was trained; the linear model took {costs['linear_seconds']:.1f} s"
    networks = "network" if num_networks == 1 else f"networks ({num_networks})"
    models = "model" if num_models == 1 else "models"
    return (
        f"Training the {networks} took {costs['network_seconds']:.1f} s, "
        f"the linear {models} {costs['linear_seconds']:.1f} s"
    )
