"""Model packages of a job -> models in a worker process, loaded once for all its parts."""

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from sentiflow.cluster import memory
from sentiflow.data import manifest
from sentiflow.errors import JobError
from sentiflow.models import device

if TYPE_CHECKING:
    from sentiflow.models.package import ModelPackage


@functools.lru_cache(maxsize=1)
def load_models(
    *models: tuple[str, str], on_gpu: bool, setting: str = "score.model_uri"
) -> "tuple[ModelPackage, ...]":
    """Load the models of a job once for each worker process.

    Tasks without a share of a GPU see the GPUs, too, so ``on_gpu`` decides whether one is used.

    Args:
        models: Directory and fingerprint of each package.
        on_gpu: Whether tasks have a share of a GPU.
        setting: The setting that names the models, for messages.

    Raises:
        JobError: A package was replaced since the job began.
    """
    from sentiflow.models.package import ModelPackage

    memory.keep_freed()
    chosen_device = _find_device() if on_gpu else "cpu"
    packages = []
    for uri, fingerprint in models:
        packages.append(ModelPackage.load(uri, setting=setting).to(chosen_device))
        # This check comes after the loading, as the package may have been replaced meanwhile.
        record = manifest.require(uri, stage="model", setting=setting)
        if record["fingerprint"] != fingerprint:
            raise JobError(
                f"the model in {uri} has been replaced since the job began: run the command again"
            )
    return tuple(packages)


def _find_device() -> str:
    """Return ``cuda`` if this process can use a GPU, else ``cpu``."""
    # If a part fails, Ray interrupts the main threads of the workers on other parts. An interrupted
    # import of PyTorch cannot be repeated, and the worker may get parts of the next job. So another
    # thread imports it.
    with ThreadPoolExecutor(1) as thread:
        chosen = thread.submit(device.choose).result()
    if chosen == "cuda":
        import torch

        torch.set_num_threads(1)
    return chosen
