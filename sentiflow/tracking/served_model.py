"""Texts -> classes and probabilities, by an MLflow model from code.

``logged_model`` logs this file with a model package; MLflow runs it to load the model. It imports
sentiflow only after the archive with the code is known.
"""

import sys
from typing import Any

import mlflow
import pyarrow as pa
from mlflow.models import ModelConfig
from pydantic import BaseModel, create_model

_POSITIVE = "positive"
_CONFIG = ModelConfig(
    development_config={
        "classes": ["negative", _POSITIVE],
        "has_unsure": False,
        "is_ordered": False,
    }
)
CLASSES: list[str] = _CONFIG.get("classes")
_UNSURE = {"unsure": bool} if _CONFIG.get("has_unsure") else {}
_RATING = {"expected_rating": float, "median_label": str} if _CONFIG.get("is_ordered") else {}
_PROBABILITY = {"probability": float} if _POSITIVE in CLASSES else {}

Answer: type[BaseModel] = create_model(  # type: ignore[call-overload]
    "Answer",
    label=str,
    confidence=float,
    **_PROBABILITY,
    **{f"probability_{name}": float for name in CLASSES},
    **_RATING,
    num_tokens=int,
    **_UNSURE,
)
"""The prediction for one text; its fields are the outputs of the MLflow signature.

``label`` is the predicted class and ``confidence`` its probability. ``probability`` is the
probability of positive, if there is such a class. ``num_tokens`` counts the words in the
vocabulary; if it is 0, the probabilities are the class priors. A model that leaves texts to people
says which are ``unsure``. A model of ordered classes adds ``expected_rating``, the mean of their
numbers by probability, and ``median_label``."""


class ServedModel(mlflow.pyfunc.PythonModel):
    """A model package with MLflow's interface, on a GPU if there is one."""

    def load_context(self, context: Any) -> None:
        """Load the package, by the code that was logged with it unless sentiflow is loaded."""
        if "sentiflow" not in sys.modules:
            sys.path.insert(0, context.artifacts["code"])
        from sentiflow.models import device
        from sentiflow.models.package import ModelPackage

        self.package = ModelPackage.load(context.artifacts["package"]).to(device.choose())

    def predict(self, context: Any, model_input: list[str]) -> list[Answer]:
        """Predict the class of each text, in the same order."""
        scores = self.package.score(pa.array(model_input, pa.string()))
        rows = pa.table(scores.columns).to_pylist()
        return [Answer(label=row.pop("predicted_label"), **row) for row in rows]


mlflow.models.set_model(ServedModel())
