"""Cluster file for `ray up` -> what is wrong with it, as far as that shows without a network."""

import io
import logging
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import yaml

from sentiflow.cluster import ray_internals
from sentiflow.errors import UserError

_MAX_TEXT = 400


def check(path: Path) -> None:
    """Have Ray check a cluster file, and make sure that the files which it sends are there.

    Ray checks the keys, the types and the groups of machines. It leaves the keys of a cloud to the
    cloud, and the commands to the machines' shell.

    Raises:
        UserError: The file is wrong, in one line.
    """
    logging.getLogger("ray.autoscaler").setLevel(logging.ERROR)
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            ray_internals.validate_cluster_file(config)
        sources = [str(source) for source in (config.get("file_mounts") or {}).values()]
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # of YAML and Ray, of many kinds: the file is wrong
        raise UserError(f"{path} is not a valid cluster file: {_one_line(error)}") from error
    for source in sources:
        if not (path.parent / Path(source).expanduser()).exists():
            is_token = Path(source).name == "auth_token"  # without it the cluster would be open
            hint = "make the token first, as the head of ray_cluster.yaml says" if is_token else ""
            raise UserError(f"{path}: file_mounts: {source} does not exist", hint=hint)


def _one_line(error: Exception) -> str:
    """Return a message in one line; of an error of the schema, the key and the message alone."""
    key = ".".join(str(step) for step in getattr(error, "absolute_path", ()))
    text = getattr(error, "message", None) or str(error) or type(error).__name__
    return " ".join(f"{key}: {text}".removeprefix(": ").split())[:_MAX_TEXT]
