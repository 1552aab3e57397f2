"""Config -> the plan of a preparation: its input files and decisive settings, looked up once.

The preparation works from this plan alone. An input file that changes after it is noticed when it
is divided into parts, or before the result is published.
"""

from dataclasses import dataclass
from typing import Any

from pyarrow.fs import FileType

from sentiflow.config import decisive, vector_names
from sentiflow.config.prepare_sections import PrepareSettings
from sentiflow.config.sections import Config
from sentiflow.config.text_units import TEMPLATE
from sentiflow.data import input_files, manifest, output_status
from sentiflow.data.manifest_types import Input
from sentiflow.data.output_spec import OutputSpec
from sentiflow.data.own_files import PART
from sentiflow.models import text_keys
from sentiflow.models.tokenizer import TOKENIZERS
from sentiflow.preparation import input_sources
from sentiflow.preparation.input_sources import STAGE, InputSource
from sentiflow.storage import filesystem
from sentiflow.words import word_vectors

OWNS = (
    f"(?:tweets|encoded)/split=[a-z]+/{PART}",
    f"unlabelled/{PART}",
    f"rejected/(?:unlabelled-)?{PART}",
)
"""Files that are written before the manifest, see ``OutputSpec.owns``."""
RULES_VERSION = 2
"""Increase it when a change of the code gives the same files other rows, splits or words."""

_NOT_DECISIVE = {
    # inputs, identified by their content
    "csv",
    "test",
    "validation",
    "unlabelled",
    "corrections",
    # without effect on the result
    "output_uri",
    "num_workers",
    "max_rejected_fraction",
}
"""Settings that are not compared with the settings of an earlier result."""


@dataclass(frozen=True, kw_only=True)
class PreparePlan:
    """A preparation as it will run."""

    config: Config
    """The experiment."""
    spec: OutputSpec
    """The output. Its inputs are the files below: ``csv`` and, where the settings name them,
    ``unlabelled``, ``corrections`` and ``vectors``."""
    labelled: InputSource
    """The files of labelled rows."""
    unlabelled: InputSource | None
    """The files of unlabelled texts, if there are any."""
    corrections: Input | None
    """The files of ``prepare.corrections``, if there are any."""
    vectors: Input | None
    """The file or the model of the word vectors; None: published vectors, which have a name."""

    @property
    def settings(self) -> PrepareSettings:
        """The section ``prepare``."""
        return self.config.prepare


def resolve(config: Config) -> PreparePlan:
    """Plan a preparation; an input file is read only if it has changed since last time.

    If there is a complete result, input files that were deleted since are described as they were
    then.

    Raises:
        UserError: An input file does not exist.
    """
    settings = config.prepare
    record = output_status.read_result(settings.output_uri)
    earlier = record["inputs"] if record else {}
    labelled = input_sources.find_labelled(config, earlier.get("csv"))
    unlabelled = input_sources.find_unlabelled(config, earlier.get("unlabelled"))
    corrections = input_sources.find_corrections(config, earlier.get("corrections"))
    vectors = _describe_vectors(settings.vocabulary.vectors, earlier.get("vectors"))

    inputs = {"csv": labelled.described}
    if unlabelled:
        inputs["unlabelled"] = unlabelled.described
    if corrections:
        inputs["corrections"] = corrections
    if vectors:
        inputs["vectors"] = vectors
    decisive_settings = _list_decisive(config, labelled, unlabelled, vectors)
    return PreparePlan(
        config=config,
        spec=OutputSpec(STAGE, settings.output_uri, decisive_settings, inputs, owns=OWNS),
        labelled=labelled,
        unlabelled=unlabelled,
        corrections=corrections,
        vectors=vectors,
    )


def _list_decisive(
    config: Config, labelled: InputSource, unlabelled: InputSource | None, vectors: Input | None
) -> dict[str, Any]:
    """List the settings and rules that decide the result."""
    settings = config.prepare
    tokenizer_version, _ = TOKENIZERS[settings.tokenizer]
    listed = decisive.dump(settings, exclude=_NOT_DECISIVE)
    listed["format"] = decisive.dump(config.format)
    listed["rules"] = {"preparation": RULES_VERSION, "tokenizer": tokenizer_version}
    if settings.duplicate_key == TEMPLATE:
        listed["rules"]["template"] = text_keys.TEMPLATE_VERSION
    # Only this kind has classes in its settings; their order decides the labels.
    if config.format.kind == "csv":
        listed["classes"] = config.format.classes
    if labelled.splits:  # of files whose split the settings fix
        listed["fixed_files"] = list(labelled.splits.values())
    if unlabelled:
        listed["unlabelled"] = {"format": decisive.dump(unlabelled.format)}
    if vectors:
        del listed["vocabulary"]["vectors"]  # its content counts, not its location
    return listed


def _describe_vectors(vectors: str, earlier: Input | None) -> Input | None:
    """Describe word vectors that are a file or a model package; None if they are published ones."""
    if vector_names.is_name(vectors):
        return None
    uri = str(word_vectors.locate(vectors))
    if filesystem.file_info(uri).type == FileType.Directory:
        model = manifest.require(uri, stage="model", setting="prepare.vocabulary.vectors")
        return manifest.reference(uri, model)
    return input_files.describe([uri], earlier=earlier)
