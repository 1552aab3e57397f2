"""Finished stages -> their results for a Python program: tables, metrics, report, model."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, TypeVar

from sentiflow.data import manifest
from sentiflow.data.manifest_types import Counts, Manifest
from sentiflow.errors import UserError
from sentiflow.pipeline.tables import Table, read_current
from sentiflow.storage import filesystem, parquet
from sentiflow.storage.uris import absolute_uri, display_uri, is_local, join

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    from sentiflow.models.model import Model

R = TypeVar("R", bound="StageResult")


@dataclass(frozen=True, repr=False)
class Report:
    """The page of an evaluation or of trends; a notebook shows its headlines and a link."""

    uri: str
    """The page: ``report.html`` or ``trends.html``."""
    headlines: tuple[tuple[str, str], ...]
    """The most important results: a number, and what it means."""

    def read(self) -> str:
        """Read the page: HTML with all pictures in it, without scripts."""
        return filesystem.read_bytes(self.uri).decode()

    def __repr__(self) -> str:
        width = max((len(number) for number, _ in self.headlines), default=0)
        lines = [f"{number:>{width}}  {meaning}" for number, meaning in self.headlines]
        return "\n".join([*lines, display_uri(self.uri)])

    def _repr_html_(self) -> str:
        rows = ""
        for number, meaning in self.headlines:
            rows += f"<tr><th>{html.escape(number)}</th>"
            rows += f'<td style="text-align: left">{html.escape(meaning)}</td></tr>'
        page = html.escape(display_uri(self.uri))
        if is_local(self.uri):
            page = f'<a href="{page}" target="_blank">{page}</a>'
        return f"<table>{rows}</table><p>{page}</p>"


@dataclass(frozen=True, repr=False)
class StageResult:
    """The result of a stage: a directory with a manifest."""

    stage: ClassVar[str]
    folder: ClassVar[str]
    """Name of the directory, in the directory of a run."""

    uri: str
    """The directory."""
    manifest: Manifest
    """Settings, inputs, counts and files."""
    ran: bool
    """False if the result was complete before."""

    @classmethod
    def load(cls: type[R], uri: str) -> R:
        """Read the result in a directory.

        Raises:
            UserError: The result is not complete, or belongs to another stage.
        """
        location = absolute_uri(uri)
        # No setting names the directory, so an error begins with the command that makes it.
        record = manifest.require(location, stage=cls.stage, setting=f"sentiflow {cls.stage}")
        return cls(location, record, ran=False)

    @classmethod
    def find(cls: type[R], root: str) -> R | None:
        """Read the result in the directory of a run; None if it has none."""
        uri = join(root, cls.folder)
        record = manifest.read(uri)
        return cls(uri, record, ran=False) if record else None

    @property
    def counts(self) -> Counts:
        """Numbers of rows, as in the manifest."""
        return self.manifest["counts"]

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the stage, with the names that they have in MLflow."""
        run = self.manifest.get("run")
        return dict(run["metrics"]) if run else {}

    def renew(self: R) -> R | None:
        """Read the result that has replaced this one; None if there is none.

        A result of other classes does not count, as labels are positions among the classes.
        """
        record = manifest.read(self.uri, stage=self.stage)
        if record is None or record["files"] == self.manifest["files"]:
            return None
        if record.get("classes") != self.manifest.get("classes"):
            return None
        return replace(self, manifest=record)

    def _find_table(self, name: str) -> Table:
        """Return the table in a folder of the result, from the files that the manifest lists."""

        def renew() -> Table | None:
            renewed = self.renew()
            return renewed._find_table(name) if renewed else None

        folder = f"{name}/"
        paths = sorted(item["path"] for item in self.manifest["files"])
        files = [path.removeprefix(folder) for path in paths if path.startswith(folder)]
        return Table(join(self.uri, name), tuple(files), self._find_moved(name, files), renew)

    def _find_moved(self, name: str, files: Sequence[str]) -> dict[str, dict[str, str]]:
        """Find the files of a table that name files which were moved, see ``Table.moved``."""
        return {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({display_uri(self.uri)!r}): {self._summarize()}"

    def _summarize(self) -> str:
        """Say the result in a few words."""
        raise NotImplementedError


class _CorpusResult(StageResult):
    """The result of a stage that reads a corpus, and may reject some of its records."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; ``label`` and ``prediction`` are positions among them."""
        return manifest.find_classes(self.manifest)

    @property
    def class_values(self) -> tuple[float | None, ...] | None:
        """The numbers of ordered classes, in the order of ``classes``.

        None: the classes have no order. None in place of a number: it is unknown, of a class that
        only the corpus of predictions has.
        """
        return manifest.find_class_values(self.manifest)

    @property
    def rejected(self) -> Table:
        """The rejected records, with their ``reason``.

        ``source`` is the file as the manifest names it, also if the file was moved since the record
        was rejected.
        """
        return self._find_table("rejected")

    def _find_moved(self, name: str, files: Sequence[str]) -> dict[str, dict[str, str]]:
        from sentiflow.data import row_sources

        if name != "rejected":
            return {}
        return row_sources.find_moved(self.manifest, files)

    def find_sources(self, row_ids: "npt.ArrayLike") -> "pd.DataFrame":
        """Find the file of each row, and its number in the file.

        Args:
            row_ids: Values of ``row_id``.

        Returns:
            A row for each id, in the same order: ``source``, the URI of the file; ``source_row``,
            the number of the record in the file, counted from 0 without the header. Both are
            missing for a row that an earlier version has scored, if its file is unknown.

        Raises:
            UserError: No file of the corpus is known.
        """
        import numpy as np
        import pandas as pd
        import pyarrow as pa

        from sentiflow.data import row_sources

        ids = np.asarray(row_ids, np.int64)
        table = read_current(
            self,
            lambda result: row_sources.locate(result.manifest, result.uri, ids),
            self.renew,
            display_uri(self.uri),
        )
        types = {pa.int64(): pd.Int64Dtype()}  # a number may be missing
        frame: pd.DataFrame = table.to_pandas(types_mapper=types.get)
        return frame


class Prepared(_CorpusResult):
    """Checked, split and encoded rows, and a vocabulary."""

    stage = "prepare"
    folder = "prepared"

    @property
    def tweets(self) -> Table:
        """The accepted rows, with their ``split``."""
        return self._find_table("tweets")

    @property
    def unlabelled(self) -> Table:
        """The texts of ``prepare.unlabelled``."""
        return self._find_table("unlabelled")

    def _summarize(self) -> str:
        rows = self.counts
        return f"{rows['accepted']:,} rows accepted, {rows['rejected']:,} rejected"


class Trained(StageResult):
    """A trained model, and how the training went."""

    stage = "train"
    folder = "trained"

    @property
    def model(self) -> "Model":
        """The model, on a GPU if there is one. It is loaded each time."""
        from sentiflow.pipeline import loaded_model

        return loaded_model.load(join(self.uri, "model"))

    @property
    def history(self) -> "pd.DataFrame":
        """Loss, accuracy and speed of each epoch."""
        import pandas as pd

        return pd.DataFrame(self.manifest["history"])

    def _summarize(self) -> str:
        history = self.manifest["history"]
        chosen = self.manifest["chosen_epoch"]
        summary = f"epoch {chosen} of {len(history)}"
        if not history:
            summary = "the linear model alone"
        accuracies = {epoch["epoch"]: epoch.get("validation_accuracy") for epoch in history}
        of_network = accuracies.get(chosen)
        accuracy = self._read_validation_accuracy()
        if accuracy is None:
            return summary
        summary += f", validation accuracy {accuracy:.4f}"
        if of_network is not None and of_network != accuracy:
            summary += f" (the network alone {of_network:.4f})"
        return summary

    def _read_validation_accuracy(self) -> float | None:
        """Read the validation accuracy of the model, as its package names it; None if unknown."""
        metrics = self.manifest.get("metrics")
        if metrics is None:  # an earlier version
            package = manifest.read(join(self.uri, "model"))
            metrics = package.get("metrics", {}) if package else {}
        return metrics.get("validation/accuracy")


class Scored(_CorpusResult):
    """A prediction for each row of a corpus."""

    stage = "score"
    folder = "scored"

    @property
    def predictions(self) -> Table:
        """The predictions; join them with other tables on ``row_id``."""
        return self._find_table("predictions")

    def _summarize(self) -> str:
        return f"{self.counts['accepted']:,} rows scored"


class _ReportResult(StageResult):
    """The result of a stage that writes a page."""

    page: ClassVar[str]
    """Name of the page in the directory."""

    @property
    def report(self) -> Report:
        """The page, and the most important results."""
        # The third value is a section of the report.
        headlines = tuple((number, text) for number, text, _ in self.manifest["conclusions"])
        return Report(join(self.uri, self.page), headlines)

    def _summarize(self) -> str:
        number, meaning = self.report.headlines[0]
        return f"{number} {meaning}"


class Evaluated(_ReportResult):
    """Metrics and a report."""

    stage = "evaluate"
    folder = "report"
    page = "report.html"

    @property
    def mistakes(self) -> Table:
        """The mistakes that the report shows; without mistakes it has no columns."""
        return self._find_file("mistakes.parquet")

    @property
    def deciding_words(self) -> Table:
        """The words that decide for each class; it has no columns if the report shows none."""
        return self._find_file("deciding_words.parquet")

    def _find_file(self, name: str) -> Table:
        """Return a table that the report may lack; if it does, the table has no columns."""
        is_there = any(item["path"] == name for item in self.manifest["files"])
        return Table(self.uri, (name,) if is_there else ())


class Trends(_ReportResult):
    """Shares of the classes, with intervals."""

    stage = "trends"
    folder = "trends"
    page = "trends.html"

    @property
    def shares(self) -> "pd.DataFrame":
        """A row for each group, period and class; docs/outputs.md describes the columns."""
        return self._read("trends.parquet")

    @property
    def means(self) -> "pd.DataFrame | None":
        """The mean rating, a row for each group and period; None without ``format.ordered``."""
        name = "means.parquet"
        is_there = any(item["path"] == name for item in self.manifest["files"])
        return self._read(name) if is_there else None

    def _read(self, name: str) -> "pd.DataFrame":
        """Read a table of the result."""
        content = read_current(
            self,
            lambda result: manifest.read_file(result.uri, result.manifest, name),
            self.renew,
            display_uri(self.uri),
        )
        table: pd.DataFrame = parquet.from_bytes(content).to_pandas()
        return table


KINDS: Mapping[str, type[StageResult]] = {
    kind.stage: kind for kind in (Prepared, Trained, Scored, Evaluated, Trends)
}
"""The class of each stage's result, by the name of the stage."""


@dataclass(frozen=True, repr=False)
class Run:
    """A whole run: its stages and their results."""

    output_uri: str
    """The directory of the run."""
    stages: Mapping[str, StageResult]
    """The finished stages by their names: prepare, train, score, evaluate, trends."""

    @classmethod
    def load(cls, output_uri: str) -> "Run":
        """Read the stages that are complete in a directory.

        Raises:
            UserError: No stage is complete.
        """
        root = absolute_uri(output_uri)
        stages = {}
        for kind in KINDS.values():
            result = kind.find(root)
            if result:
                stages[kind.stage] = result
        if not stages:
            raise UserError(
                f"{display_uri(root)} has no finished stage of a run",
                hint="name the output_uri of a config, such as runs/quickstart",
            )
        return cls(root, stages)

    @property
    def prepared(self) -> Prepared:
        """The prepared rows."""
        return self._require(Prepared)

    @property
    def trained(self) -> Trained:
        """The training."""
        return self._require(Trained)

    @property
    def scored(self) -> Scored:
        """The scored corpus."""
        return self._require(Scored)

    @property
    def evaluated(self) -> Evaluated:
        """The evaluation."""
        return self._require(Evaluated)

    @property
    def trends(self) -> Trends:
        """The shares of the classes."""
        return self._require(Trends)

    @property
    def model(self) -> "Model":
        """The trained model; in a run without a training, the average of models that has scored.

        It is loaded each time.
        """
        if "train" in self.stages:
            return self.trained.model
        from sentiflow.pipeline import loaded_model

        return loaded_model.load(manifest.find_package(self.scored.uri))

    @property
    def predictions(self) -> Table:
        """A prediction for each row; join with other tables on ``row_id``."""
        return self.scored.predictions

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the evaluation, such as ``test/accuracy``."""
        return self.evaluated.metrics

    @property
    def report(self) -> Report:
        """The report of the evaluation."""
        return self.evaluated.report

    def _require(self, kind: type[R]) -> R:
        """Return the result of a stage, even if it has finished after the run was read."""
        result = self.stages.get(kind.stage) or kind.find(self.output_uri)
        if not isinstance(result, kind):
            raise UserError(
                f"{display_uri(self.output_uri)} has no finished output of sentiflow {kind.stage}",
                hint=f"call sentiflow.{kind.stage} with its config",
            )
        return result

    def __repr__(self) -> str:
        lines = [f"  {stage.folder:<9} {stage._summarize()}" for stage in self.stages.values()]
        return "\n".join([f"Run({display_uri(self.output_uri)!r})", *lines])
