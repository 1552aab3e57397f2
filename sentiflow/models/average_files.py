"""Model packages of the same classes -> one directory that holds them, as one model: their average.

The directory has the packages in ``members/0``, ``members/1``, ... and a manifest of the stage
``model``. This module does not import torch.
"""

from collections.abc import Sequence

from sentiflow.data import manifest
from sentiflow.data.manifest_types import Manifest, ModelInput
from sentiflow.errors import UserError, few
from sentiflow.models import package_files
from sentiflow.storage import filesystem
from sentiflow.storage.uris import display_uri, join

MEMBERS = "members"


def describe(members: Sequence[ModelInput], *, uri: str = "", setting: str) -> ModelInput:
    """Describe the average of several models as one model.

    The lengths of texts, unknown words and the statistics for drift are those of the first. No
    prediction is unsure: what each model promises of its own confidence holds for no mean of them.

    Args:
        members: The models.
        uri: The directory that it will have.
        setting: The setting that names the models, for error messages.

    Raises:
        UserError: The classes of two models differ, or one is an average itself.
    """
    first = members[0]
    for model in members:
        package_files.reject_average(model, setting=setting)
        classes, others = package_files.classes_of(first), package_files.classes_of(model)
        if set(classes) != set(others):
            raise UserError(
                f"{setting}: {display_uri(first['uri'])} has the classes "
                f"{', '.join(few(classes))}, but {display_uri(model['uri'])} has "
                f"{', '.join(few(others))}",
                hint="only models of the same classes have an average",
            )
    settings = {**(first["settings"] or {}), MEMBERS: [model["settings"] for model in members]}
    settings.pop("unsure", None)
    inputs = {MEMBERS: {"fingerprint": _identify(members)}}
    return {
        "uri": uri,
        "fingerprint": manifest.identify("model", settings, inputs),
        "reference": first["reference"],
        "calibration": None,
        "settings": settings,
        "training": None,
        "members": [
            {"uri": m["uri"], "fingerprint": m["fingerprint"], "training": m["training"]}
            for m in members
        ],
    }


def save(model: ModelInput, packages: Sequence[str], *, to: str) -> Manifest:
    """Copy packages into one directory, and write its manifest.

    Args:
        model: Their average, as :func:`describe` describes it.
        packages: Their directories, in the order of its members.
        to: The directory to write.
    """
    assert model["settings"] is not None, "a package has settings"
    members = {
        "uri": model["uri"], "fingerprint": _identify(model["members"]), "models": model["members"]
    }  # fmt: skip
    files = [
        filesystem.write_file(
            to, join(MEMBERS, str(number), name), filesystem.read_bytes(join(package, name))
        )
        for number, package in enumerate(packages)
        for name in (*package_files.FILES, manifest.MANIFEST)
    ]
    record = manifest.describe(
        "model",
        model["settings"],
        {MEMBERS: members},
        counts={"models": len(packages)},
        files=files,
        reference=model["reference"],
        calibration=model["calibration"],
    )
    filesystem.write_bytes(join(to, manifest.MANIFEST), manifest.to_json(record))
    return record


def list_names(record: Manifest) -> list[str]:
    """List the files that a package or an average must have beside its manifest."""
    names = (*package_files.FILES, manifest.MANIFEST)
    of_members = [join(folder, name) for folder in _list_folders(record) for name in names]
    return of_members or [*package_files.FILES]


def list_packages(uri: str, *, setting: str = "the model") -> list[str]:
    """List the packages of a model: the directory itself, or those that an average holds.

    Args:
        uri: The directory.
        setting: The setting that names ``uri``, for error messages.

    Raises:
        UserError: The directory is no finished package, or holds others than it says.
    """
    record = manifest.require(uri, stage="model", setting=setting)
    places = [join(uri, folder) for folder in _list_folders(record)]
    if not places:
        return [uri]
    records = [manifest.require(place, stage="model", setting=setting) for place in places]
    members = [package_files.to_input(*each) for each in zip(places, records, strict=True)]
    is_listed = {item["path"] for item in record["files"]} == {*list_names(record)}
    if not is_listed or describe(members, setting=setting)["fingerprint"] != record["fingerprint"]:
        raise UserError(
            f"{uri} holds other models than its manifest says", hint=package_files.COPY_AGAIN
        )
    return places


def _list_folders(record: Manifest) -> list[str]:
    """List the folders of an average's packages; none for a single package."""
    members = record["settings"].get(MEMBERS)
    number = len(members) if isinstance(members, list) else 0
    return [join(MEMBERS, str(n)) for n in range(number)]


def _identify(members: Sequence[ModelInput]) -> str:
    return manifest.fingerprint([model["fingerprint"] for model in members])
