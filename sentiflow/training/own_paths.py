r"""Names of the files that trainings and sweeps write before their manifest: regular expressions.

A user's file beside them, such as ``folds/notes.txt``, has another name and is never deleted (see
:mod:`sentiflow.data.own_files`).
"""

from sentiflow.data.own_files import KEY, PART

_PACKAGE = r"(?:weights\.safetensors|vocabulary\.parquet|settings\.json|manifest\.json)"
"""A file of a model package."""
_CHECKPOINT = r"step-[0-9]+-[0-9a-f]+/(?:tensors\.safetensors|state\.json)"
"""A file of a checkpoint, in the directory of the checkpoints."""
_RUN = r"_work/[0-9a-f]+/.+"
"""A file of an unfinished run in an output within the output."""

_FOLD = (
    r"(?:encoded|tweets)/split=[a-z]+/rows\.parquet",
    r"unlabelled/rows\.parquet",
    r"(?:vocabulary|taught|excerpts)\.parquet",
    r"logits-[0-9]+\.parquet",
    r"linear/[0-9.e+-]+",
    f"model/{_PACKAGE}",
    f"checkpoints/{_CHECKPOINT}",
)
"""A file in the directory of a fold."""

OF_TEACHERS = (
    f"split=[a-z]+/{PART}",
    r"answers/fold-[0-9]+\.parquet",
    f"vectors/[^/]+/{PART}",
)
"""Files in a directory of teachers' answers."""

_IN_TAUGHT = (*OF_TEACHERS, r"manifest\.json", _RUN)

OF_TRAINING = (
    f"checkpoints/{KEY}/{_CHECKPOINT}",
    rf"folds/{KEY}/fold-[0-9]+\.parquet",
    f"folds/{KEY}/[0-9]+/(?:{'|'.join(_FOLD)})",
    f"taught/{KEY}/(?:{'|'.join(_IN_TAUGHT)})",
)
"""Files in the output of a training."""

_IN_TRIAL = (
    *OF_TRAINING,
    f"model/{_PACKAGE}",
    r"plots/training_curve\.png",
    r"manifest\.json",
    _RUN,
)

OF_SWEEP = (
    f"trials/[0-9]{{4,}}-[0-9a-f]{{8}}/(?:{'|'.join(_IN_TRIAL)})",
    f"taught/{KEY}/(?:{'|'.join(_IN_TAUGHT)})",
)
"""Files in the output of a sweep."""
