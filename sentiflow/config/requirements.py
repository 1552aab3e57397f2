"""Settings as a whole -> what a command needs of them, and what one section needs of another."""

from sentiflow.config.sections import Config
from sentiflow.errors import UserError

PREDICTED = (
    *("row_id", "tweet_id", "split", "label", "prediction", "predicted_label"),
    *("probability", "num_tokens"),
)
"""Columns of all predictions; those of a class begin with ``probability_``."""


def check_given(config: Config, command: str, *, source: str) -> None:
    """Check that the settings without which a command cannot run are given.

    Raises:
        UserError: Some are missing.
    """
    missing = []
    if command in ("prepare", "run") and not config.prepare.csv:
        missing = ["prepare.csv"]
    if command == "score" and not config.prepare.csv:
        names_prepared = config.score.prepared_uri or config.prepare.output_uri
        if config.score.corpus == ("prepared",) and not names_prepared:
            missing.append("score.corpus")
        if not config.score.model_uri and "train" not in config.model_fields_set:
            missing.append("score.model_uri")
    if missing:
        raise UserError(
            f"{source}: sentiflow {command} needs {' and '.join(missing)}",
            hint=f"add what is missing, or give {' '.join(f'{name}=VALUE' for name in missing)}",
        )


def check_slices(config: Config, *, source: str) -> None:
    """Check that predictions will have what ``evaluate.slices`` needs.

    Raises:
        UserError: These settings make the predictions, and keep another choice of columns.
    """
    prepare, score, evaluate = config.prepare, config.score, config.evaluate
    there = [*score.keep_columns, *PREDICTED]
    is_known = evaluate.scored_uri == score.output_uri
    if from_prepared := score.corpus == ("prepared",):
        there[:0] = prepare.keep_columns
        is_known &= bool(prepare.csv) and score.prepared_uri == prepare.output_uri
    missing = [
        name
        for name in evaluate.slices.columns
        if name not in there and not name.startswith("probability_")
    ]
    if missing and is_known:
        raise UserError(
            f"{source}: evaluate.slices.columns: predictions will have no column "
            f"{', '.join(missing)}; their columns are {', '.join(dict.fromkeys(there))}",
            hint=f"name the column in {'prepare' if from_prepared else 'score'}.keep_columns, too",
        )
    has_texts = {"text", score.text_column} & {*score.keep_columns}
    if evaluate.slices.patterns and is_known and not (from_prepared or has_texts):
        raise UserError(
            f"{source}: evaluate.slices.patterns need the texts, which predictions will not have",
            hint="name text in score.keep_columns, too",
        )
