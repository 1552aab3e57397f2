"""A saved model package, and ways to damage it."""

import contextlib
import hashlib
import json

import pytest
import safetensors.torch
from conftest import new_package

from sentiflow.data import manifest
from sentiflow.models.package import ModelPackage
from sentiflow.models.package_files import FILES
from sentiflow.models.package_settings import PackageSettings
from sentiflow.storage import filesystem


@pytest.fixture
def package() -> ModelPackage:
    return new_package()


@pytest.fixture
def saved(package, tmp_path) -> str:
    package.save(str(tmp_path / "model"), lineage={})
    return str(tmp_path / "model")


def flip_a_byte(path):
    """Change one byte of a file."""
    with open(path, "r+b") as file:
        file.seek(40)
        byte = file.read(1)
        file.seek(40)
        file.write(bytes([byte[0] ^ 1]))


def forge(saved, **contents):
    """Replace files of a package, and write the checksums that fit."""
    with open(f"{saved}/manifest.json") as file:
        record = json.load(file)
    for item in record["files"]:
        stem = item["path"].split(".")[0]
        if stem in contents:
            filesystem.write_bytes(f"{saved}/{item['path']}", contents[stem])
            item["sha256"] = hashlib.sha256(contents[stem]).hexdigest()
            item["bytes"] = len(contents[stem])
    with contextlib.suppress(ValueError):
        PackageSettings.model_validate_json(contents.get("settings", b""))
        record["settings"] = json.loads(contents["settings"])
    hashes = {item["path"]: item["sha256"] for item in record["files"]}
    content = {"fingerprint": manifest.fingerprint([hashes[name] for name in FILES])}
    record["inputs"]["content"] = content
    record["fingerprint"] = manifest.identify(
        "model", record["settings"], record["inputs"], format_version=record["format_version"]
    )
    filesystem.write_bytes(f"{saved}/manifest.json", json.dumps(record).encode())


def weights_with(package, **changes):
    """Write the weights, with some replaced; None leaves one out."""
    weights = package.network.state_dict() | {k.replace("__", "."): v for k, v in changes.items()}
    return safetensors.torch.save({k: v for k, v in weights.items() if v is not None})
