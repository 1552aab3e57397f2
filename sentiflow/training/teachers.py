"""Names of teachers -> models, and files of answers, where all nodes of the cluster find them.

A model is asked later, in the tasks that write the rows. The answers of files and of sentence
encoders are written here, to files in which those tasks look texts up.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sentiflow.cluster.map_stages import MapStages
from sentiflow.data import input_files
from sentiflow.data.answers import read_answers
from sentiflow.data.outputs import Output
from sentiflow.storage.uris import join, names_encoder
from sentiflow.tracking import model_sources
from sentiflow.training import encoder_teacher
from sentiflow.training.train_plan import TrainPlan


@dataclass
class Teachers:
    """The teachers, where every node finds them."""

    models: list[tuple[str, str]] = field(default_factory=list)
    """Directory and fingerprint of each model package."""
    answer_files: list[str] = field(default_factory=list)
    """For each other teacher the file of its answers, see :meth:`Answers.save`."""
    fold_answer_files: list[list[str]] = field(default_factory=list)
    """For each sentence encoder such a file of each fold's teacher, in the order of the folds."""


def fetch(
    plan: TrainPlan, output: Output, excerpts: Mapping[str, int], maps: MapStages
) -> Teachers:
    """Bring the teachers to where all nodes find them; sentence encoders answer at once.

    Args:
        plan: The training.
        output: The output of the answers.
        excerpts: Files of excerpts for sentence encoders, with the rows of each.
        maps: The map stages of the job.

    Raises:
        UserError: The answers in a file cannot be used.
        JobError: A task failed.
    """
    found = Teachers()
    for name, teacher in plan.teachers.items():
        to = join(output.uri, f"{name}_{teacher['fingerprint']}")
        if "files" in teacher:
            uris = [item["uri"] for item in teacher["files"]]
            read_answers(uris, plan.learned.names).save(to)
            input_files.check_unchanged(teacher)
            found.answer_files.append(to)
        elif names_encoder(teacher["uri"]):
            all_rows, *of_folds = encoder_teacher.answer(
                plan, output, maps, name=name, uri=teacher["uri"], excerpts=excerpts
            )
            found.answer_files.append(all_rows)
            found.fold_answer_files.append(of_folds)
        else:
            uri = model_sources.download(teacher, to=to, tracking=plan.config.tracking.uri)
            found.models.append((uri, teacher["fingerprint"]))
    return found
