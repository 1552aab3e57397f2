"""Model of a stage -> a version in MLflow's registry, or why it is not registered."""

import logging
from typing import TYPE_CHECKING, Any

from sentiflow.data import manifest
from sentiflow.errors import PermissionDeniedError, UnavailableError
from sentiflow.progress import say
from sentiflow.storage.uris import names_model
from sentiflow.tracking import runs
from sentiflow.tracking.artifact_sources import ForeignSourceError

if TYPE_CHECKING:
    from sentiflow.tracking.recorder import Recorder

log = logging.getLogger(__name__)


def register(
    recorder: "Recorder",
    package_uri: str,
    fingerprint: str,
    *,
    run_id: str,
    text: str,
    tags: dict[str, str],
    card: bytes = b"",
) -> dict[str, Any] | None:
    """Register a model if this stage does so, and describe its version.

    If the store is unavailable, or MLflow's user may not register the model, this is said, and
    ``sentiflow tracking import`` registers it later.

    Args:
        recorder: The run of the stage.
        package_uri: The model's package.
        fingerprint: Fingerprint of the package, by which a registered model is found.
        run_id: The run that has logged the model; empty if it is unknown.
        text: The description of the version; empty: the version is not described.
        tags: Tags of the version.
        card: The model card, for the files of the version.

    Returns:
        Name and version for the manifest, if the model was registered now. If the stage should
        register the model, but could not, ``recorder.unregistered`` says why.

    Raises:
        UserError: The package is damaged.
        JobError: The store refuses.
    """
    store = recorder.store
    if not store or not run_id or not recorder.run_id or not store.flush():
        recorder.note_unregistered("the training has no run in this MLflow store")
        return None
    from sentiflow.tracking import model_registry  # a second to import

    name = store.experiment
    uri = store.uri
    version = None
    registered = None
    try:
        if recorder.registers_model and not names_model(package_uri):
            version = model_registry.register(
                package_uri, name=name, run_id=run_id, tracking_uri=uri, tags=tags
            )
            registered = {"name": version.name, "version": version.number}
            stage = recorder.tags[runs.STAGE_TAG]
            say(stage, f"registered: {version} ({model_registry.CANDIDATE})")
        elif fingerprint:
            version = model_registry.find(name, fingerprint, tracking_uri=uri)
        if version and text:
            files = {manifest.CARD: card} if card else {}
            model_registry.describe(version, text=text, tags=tags, files=files, tracking_uri=uri)
    except UnavailableError as error:
        store.fail(str(error))
        if not registered:
            recorder.note_unregistered(str(error))
    except (PermissionDeniedError, ForeignSourceError) as error:
        log.warning("%s%s", error, store.describe_repair("it"))
        if not registered:
            recorder.note_unregistered(str(error))
    return registered
