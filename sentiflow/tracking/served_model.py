"""Texts -> labels and probabilities, by an MLflow model from code.

``registry`` logs this file with a model package; MLflow runs it to load the model.
"""

from typing import Any

import mlflow
import pyarrow as pa
import torch
from pydantic import BaseModel

from sentiflow.data.schema import LABEL_NAMES
from sentiflow.models.package import ModelPackage


class Answer(BaseModel):
    """The prediction for one text; its fields are the outputs of the MLflow signature."""

    label: str
    """``negative`` or ``positive``."""
    probability: float
    """Probability of positive."""
    num_tokens: int
    """Words in the vocabulary; with 0, the probability is the class prior."""


class ServedModel(mlflow.pyfunc.PythonModel):
    """A model package with MLflow's interface, on a GPU if there is one."""

    def load_context(self, context: Any) -> None:
        """Load the package that was logged with the model."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.package = ModelPackage.load(context.artifacts["package"]).to(device)

    def predict(self, context: Any, model_input: list[str]) -> list[Answer]:
        """Predict the label of each text, in the same order."""
        scores = self.package.score(pa.array(model_input, pa.string()))
        assert scores.probability is not None
        rows = zip(scores.prediction, scores.probability, scores.num_tokens, strict=True)
        return [
            Answer(label=LABEL_NAMES[label], probability=float(probability), num_tokens=int(known))
            for label, probability, known in rows
        ]


mlflow.models.set_model(ServedModel())
