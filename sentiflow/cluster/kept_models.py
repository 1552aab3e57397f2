"""Model packages that a worker process keeps for its next part."""

import functools

import torch

from sentiflow.cluster import memory
from sentiflow.data import manifest
from sentiflow.errors import JobError
from sentiflow.models.package import ModelPackage


@functools.lru_cache(maxsize=1)
def load(
    *models: tuple[str, str], on_gpu: bool, setting: str = "score.model_uri"
) -> tuple[ModelPackage, ...]:
    """Load the models of a job once for each worker process.

    Tasks without a share of a GPU see the GPUs, too, so ``on_gpu`` decides whether one is used.

    Args:
        models: The directory of each package, and the fingerprint that it must still have.
        on_gpu: Whether tasks have a share of a GPU.
        setting: The setting that names them, for messages.

    Raises:
        JobError: A package was replaced since the job began.
    """
    torch.set_num_threads(1)
    memory.keep_freed()
    return tuple(_load(*model, on_gpu=on_gpu, setting=setting) for model in models)


def _load(uri: str, fingerprint: str, *, on_gpu: bool, setting: str) -> ModelPackage:
    device = "cuda" if on_gpu and torch.cuda.is_available() else "cpu"
    package = ModelPackage.load(uri, setting=setting).to(device)
    # after reading, as it may also have been replaced meanwhile
    if manifest.require(uri, stage="model", setting=setting)["fingerprint"] != fingerprint:
        raise JobError(
            f"the model in {uri} has been replaced since the job began: run the command again"
        )
    return package
