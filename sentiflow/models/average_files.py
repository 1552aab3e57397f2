"""Model packages of the same classes -> one directory that holds them as one model, their average.

The average is an ensemble: its probabilities are the mean of the models' probabilities. No weights
are averaged. The directory has the packages in ``members/0``, ``members/1``, ... and a manifest of
the stage ``model``. This module does not import torch.
"""

from collections.abc import Sequence

from sentiflow.data import manifest
from sentiflow.data.manifest_types import Manifest, ModelInput
from sentiflow.errors import UserError, few
from sentiflow.models import package_files
from sentiflow.models.package_files import MEMBERS
from sentiflow.storage import filesystem
from sentiflow.storage.uris import display_uri, join


def describe(members: Sequence[ModelInput], *, uri: str = "", setting: str) -> ModelInput:
    """Describe the average of several models as one model.

    The settings and the statistics for drift are the first model's. The setting ``unsure`` is
    dropped: its threshold was chosen for the probabilities of one model.

    Args:
        members: The models, at least one.
        uri: The directory that the average will have.
        setting: The setting that names the models, for error messages.

    Raises:
        UserError: The classes of two models differ, or one of the models is an average itself.
    """
    first = members[0]
    for model in members:
        package_files.reject_average(model, setting=setting)
        _check_same_classes(first, model, setting=setting)
    settings = dict(first["settings"] or {})
    settings.pop("unsure", None)
    settings[MEMBERS] = [model["settings"] for model in members]
    # save() writes this input with more keys, but a fingerprint is made from "fingerprint" only.
    inputs = {MEMBERS: {"fingerprint": _identify(members)}}
    return {
        "uri": uri,
        "fingerprint": manifest.identify("model", settings, inputs),
        "reference": first["reference"],
        "calibration": None,
        "settings": settings,
        "training": None,
        "members": [
            {
                "uri": model["uri"],
                "fingerprint": model["fingerprint"],
                "training": model["training"],
            }
            for model in members
        ],
    }


def _check_same_classes(first: ModelInput, other: ModelInput, *, setting: str) -> None:
    """Raise ``UserError`` if the classes of two models differ; their order may differ."""
    classes = package_files.classes_of(first)
    other_classes = package_files.classes_of(other)
    if set(classes) != set(other_classes):
        raise UserError(
            f"{setting}: {display_uri(first['uri'])} has the classes "
            f"{', '.join(few(classes))}, but {display_uri(other['uri'])} has "
            f"{', '.join(few(other_classes))}",
            hint="only models of the same classes have an average",
        )


def save(model: ModelInput, packages: Sequence[str], *, to: str) -> Manifest:
    """Copy packages into one directory, and write its manifest.

    Args:
        model: The average of the packages, as :func:`describe` describes it.
        packages: The directories of the packages, in the order of the members.
        to: The directory to write.
    """
    assert model["settings"] is not None, "a package has settings"
    files = []
    for folder, package in zip(_name_folders(len(packages)), packages, strict=True):
        record = manifest.require(package, stage="model", setting="a member")
        for name in (*package_files.list_files(record), manifest.MANIFEST):
            content = filesystem.read_bytes(join(package, name))
            files.append(filesystem.write_file(to, join(folder, name), content))
    members = {
        "uri": model["uri"],
        "fingerprint": _identify(model["members"]),
        "models": model["members"],
    }
    record = manifest.make(
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


def list_files(record: Manifest) -> list[str]:
    """List the files that a package or an average must have in addition to its manifest."""
    folders = _list_folders(record)
    if not folders:
        return package_files.list_files(record)
    names = []
    for folder in folders:
        names += package_files.list_files(record, folder=folder)
        names.append(join(folder, manifest.MANIFEST))
    return names


def list_packages(uri: str, *, setting: str = "the model") -> list[str]:
    """List the packages of a model: the directory itself, or the packages of an average.

    Args:
        uri: The directory.
        setting: The setting that names ``uri``, for error messages.

    Raises:
        UserError: The directory is no finished package, or holds packages that its manifest does
            not list.
    """
    record = manifest.require(uri, stage="model", setting=setting)
    packages = [join(uri, folder) for folder in _list_folders(record)]
    if not packages:
        return [uri]
    members = []
    for package in packages:
        member = manifest.require(package, stage="model", setting=setting)
        members.append(package_files.to_input(package, member))
    average = describe(members, setting=setting)
    described = package_files.to_input(uri, record)
    expected = manifest.identify(
        "model",
        record["settings"],
        {MEMBERS: {"fingerprint": _identify(members)}},
        format_version=record["format_version"],
    )
    listed = {item["path"] for item in record["files"]}
    is_complete = listed == set(list_files(record))
    is_of_members = average["settings"] == described["settings"]
    if not is_complete or not is_of_members or expected != record["fingerprint"]:
        raise UserError(
            f"{uri} holds other models than its manifest says", hint=package_files.COPY_AGAIN
        )
    return packages


def _list_folders(record: Manifest) -> list[str]:
    """List the folders of an average's packages; none for a single package.

    There are at most as many as the manifest has files, whatever its settings say.
    """
    members = record["settings"].get(MEMBERS)
    if not isinstance(members, list):
        return []
    return _name_folders(min(len(members), len(record["files"])))


def _name_folders(num_packages: int) -> list[str]:
    """Name the folders of an average's packages, in the order of the members."""
    return [join(MEMBERS, str(member)) for member in range(num_packages)]


def _identify(members: Sequence[ModelInput]) -> str:
    """Compute a common fingerprint of the members from their fingerprints."""
    return manifest.fingerprint([model["fingerprint"] for model in members])
