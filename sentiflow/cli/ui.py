"""``sentiflow ui``: a store -> MLflow's web interface, open on the runs of an experiment."""

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from sentiflow.cli.exits import reporting
from sentiflow.cli.options import Overrides, Verbose
from sentiflow.config import settings
from sentiflow.progress import say

_HOST = "127.0.0.1"


def ui(
    config: Annotated[
        Path | None,
        typer.Argument(metavar="CONFIG", help="A settings file (YAML): its store and its runs."),
    ] = None,
    overrides: Overrides = None,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="The port of the web interface.")
    ] = 5000,
    tracking_uri: Annotated[
        str | None, typer.Option("--tracking-uri", metavar="URI", help="Another MLflow store.")
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Show the runs in MLflow's web interface, on this machine only, until Ctrl-C.

    Prints the address to open. The store is that of CONFIG, else MLFLOW_TRACKING_URI, else
    mlflow.db; of a server only the address is printed.
    """
    with reporting(verbose):
        resolved = settings.load(config, overrides or ()) if config else None
        from sentiflow.tracking import mlflow_store, recording

        uri = tracking_uri or (resolved.tracking.uri if resolved else None)
        store = mlflow_store.default_uri(uri)
        page = recording.find_page(store, resolved.name if resolved else None)
        if store.startswith("http"):
            typer.echo(f"{store}{page}")
            return
        say("ui", f"MLflow shows {store}; Ctrl-C ends it")
        typer.echo(f"http://{_HOST}:{port}{page}")
        sys.stdout.flush()
        _become_server(mlflow_store.with_password(store), port, verbose=verbose)


def _become_server(store: str, port: int, *, verbose: bool) -> NoReturn:
    """Replace this process by the one that ``mlflow server`` would start.

    ``mlflow server`` itself watches a process that serves: killed, it would leave that behind,
    listening without a password.
    """
    # Variables keep a password out of the list of processes.
    os.environ |= {"MLFLOW_TRACKING_URI": store, "MLFLOW_REGISTRY_URI": store}
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # no job of ours runs on it
    quiet = [] if verbose else ["--no-access-log"]
    command = [sys.executable, "-W", "ignore", "-m", "uvicorn", "mlflow.server.fastapi_app:app"]
    command += ["--workers", "1", "--host", _HOST, "--port", str(port), *quiet]
    os.execv(sys.executable, command)  # noqa: S606
