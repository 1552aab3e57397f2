"""Content of a model package -> its directory, whose manifest is written last.

:mod:`package_files` reads what this module writes. This module does not import torch.
"""

import json
from dataclasses import replace
from typing import Any

from sentiflow.config import decisive
from sentiflow.data import manifest
from sentiflow.data.manifest_types import Counts, Input, Manifest
from sentiflow.models import golden_texts, package_files
from sentiflow.models.package_files import PackageContent
from sentiflow.storage import filesystem, parquet
from sentiflow.storage.uris import join


def write(
    uri: str,
    content: PackageContent,
    *,
    lineage: dict[str, Input],
    counts: Counts,
    **details: Any,
) -> Manifest:
    """Write a package as a directory; return its manifest.

    Args:
        uri: The directory.
        content: Settings, words, weights and golden texts.
        lineage: Inputs of the model.
        counts: Numbers for the manifest.
        details: Further keys of the manifest.
    """
    settings = decisive.dump(content.settings)
    words = replace(content.vocabulary, vectors=None).to_table()
    deciding = {
        package_files.WEIGHTS: content.weights,
        package_files.VOCABULARY: parquet.to_bytes(words),
        package_files.SETTINGS: json.dumps(settings, indent=2).encode(),
    }
    assert content.golden is not None, "this version writes golden texts"
    golden = golden_texts.to_json(content.golden)
    # The manifest is written last: a package without a manifest is not finished.
    filesystem.delete(join(uri, manifest.MANIFEST))
    files = [filesystem.write_file(uri, name, written) for name, written in deciding.items()]
    content_input: Input = {"fingerprint": package_files.fingerprint(files)}
    files.append(filesystem.write_file(uri, golden_texts.GOLDEN, golden))
    record = manifest.make(
        "model",
        settings,
        lineage | {"content": content_input},
        counts=counts,
        files=files,
        **details,
    )
    filesystem.write_bytes(join(uri, manifest.MANIFEST), manifest.to_json(record))
    return record
