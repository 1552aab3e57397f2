"""A model for a Python program. This module is imported quickly, as it imports no stage."""

import os
from collections.abc import Sequence

from sentiflow.models import device as devices
from sentiflow.models.model import Model
from sentiflow.pipeline.reporting import reporting
from sentiflow.tracking import packages


@reporting()
def load_model(
    uri: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    tracking_uri: str | None = None,
    device: str | None = None,
) -> Model:
    """Load a model to label texts in this process; Ray is not needed.

    Args:
        uri: The ``output_uri`` of a run, a model package, or a model in MLflow:
            ``models:/NAME@champion``, ``models:/NAME/3``, ``runs:/ID/model``. Or a list of models
            of the same classes, whose probabilities are averaged.
        tracking_uri: MLflow's store; by default ``MLFLOW_TRACKING_URI``, else ``mlflow.db`` in the
            working directory.
        device: ``cpu`` or ``cuda``; by default a GPU if there is one.

    Raises:
        UserError: A model does not exist or is damaged, or the models of a list differ in classes.
        JobError: MLflow cannot be reached.

    Example:
        >>> model = sentiflow.load_model("runs/quickstart")  # doctest: +SKIP
        >>> model.predict(["I love this", "so sad"])["predicted_label"].tolist()  # doctest: +SKIP
        ['positive', 'negative']
    """
    uris = [uri] if isinstance(uri, str | os.PathLike) else uri
    models = packages.read_uris([os.fspath(each) for each in uris])
    return load(models, tracking_uri=tracking_uri, device=device)


def load(
    uri: str | tuple[str, ...], *, tracking_uri: str | None = None, device: str | None = None
) -> Model:
    """Load a model, or an average of models; see :func:`sentiflow.load_model`."""
    package = packages.load(uri, tracking=tracking_uri)
    return Model(package.to(device or devices.choose()), uri)
