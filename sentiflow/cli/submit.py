"""`submit` command -> a job on a cluster, followed to its end."""

import json
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sentiflow.cli.exits import reporting
from sentiflow.cli.options import AsJson, Overrides, Overwrite, Verbose
from sentiflow.cli.terminal import fill, print_json
from sentiflow.cluster import submission
from sentiflow.cluster.submission import Submission
from sentiflow.errors import UserError
from sentiflow.progress import say

if TYPE_CHECKING:
    from sentiflow.cluster.job_client import JobClient, JobState


Verb = Annotated[
    str | None,
    typer.Argument(
        metavar="VERB", help="Name of a job: run, prepare, train, score, evaluate, sweep, doctor."
    ),
]
ConfigOrNone = Annotated[Path | None, typer.Argument(metavar="CONFIG", help="A settings file.")]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="The cluster's dashboard. Default: RAY_API_SERVER_ADDRESS, RAY_ADDRESS, or "
        "http://127.0.0.1:8265.",
    ),
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Print the job's id and do not wait.")]
Attach = Annotated[
    str | None,
    typer.Option("--attach", metavar="JOB", help="Follow a job that was submitted before."),
]
Variables = Annotated[
    list[str] | None,
    typer.Option(
        "--env", metavar="NAME", help="Pass this variable on; all users of the cluster can read it."
    ),
]
Install = Annotated[
    bool,
    typer.Option("--install", help="Install constraints.txt for this job on nodes that lack it."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be submitted, and submit nothing.")
]


def submit(
    verb: Verb = None,
    config: ConfigOrNone = None,
    overrides: Overrides = None,
    address: Address = None,
    no_wait: NoWait = False,
    attach: Attach = None,
    variables: Variables = None,
    install: Install = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Run a job on a Ray cluster: check it, upload this directory, follow it to its end.

    Ray mixes the job's standard output and error into one log. It goes to standard output, with
    --json to standard error. The exit code is the job's own.

    Example: sentiflow submit train configs/sentiment140.yaml output_uri=s3://bucket/run

    Example: sentiflow submit --attach sentiflow-train-sentiment140-1a2b3c
    """
    with reporting(verbose):
        if attach is not None:
            if verb or dry_run or no_wait:
                raise UserError(
                    "--attach follows a job that was submitted before",
                    hint="leave out VERB, --dry-run and --no-wait",
                )
            code = _follow(_connect(address, verbose), attach, as_json)
        else:
            if verb is None or config is None:
                hint = "such as: sentiflow submit run configs/my.yaml"
                raise UserError("VERB and CONFIG are missing", hint=hint)
            flags = {"--overwrite": overwrite, "--verbose": verbose}
            job = submission.prepare(
                verb,
                config,
                overrides or (),
                folder=Path.cwd(),
                options=[flag for flag, is_given in flags.items() if is_given],
                variables=variables or (),
                installs=install,
            )
            if dry_run:
                _show(job, as_json)
                return
            client = _connect(address, verbose)
            _submit(client, job)
            if no_wait:
                _print_id(client, job, as_json)
                return
            code = _follow(client, job.submission_id, as_json)
    if code:
        raise typer.Exit(code)


def _connect(address: str | None, verbose: bool) -> "JobClient":
    from sentiflow.cluster import job_client

    return job_client.connect(job_client.choose_address(address), verbose=verbose)


def _submit(client: "JobClient", job: Submission) -> None:
    client.submit(job)
    size = submission.to_text(sum(job.sizes.values()))
    say("submit", f"{job.submission_id} at {client.address}: {len(job.files)} files, {size}")
    if job.named:
        say("submit", f"all users of the cluster can read {', '.join(job.named)} of this job")


def _print_id(client: "JobClient", submitted: Submission, as_json: bool) -> None:
    job = submitted.submission_id
    say("submit", f"follow it: {_attach_command(client, job)}")
    if as_json:
        print_json({"job": job, "address": client.address})
    else:
        typer.echo(job)


def _follow(client: "JobClient", job: str, as_json: bool) -> int:
    """Follow a job to its end; give its exit code."""
    from sentiflow.cluster import log_streaming

    stream = sys.stderr if as_json else sys.stdout

    def write(text: str) -> None:
        stream.write(text)
        stream.flush()

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt(number)

    signal.signal(signal.SIGTERM, interrupt)  # it detaches as Ctrl-C does
    began = time.monotonic()
    try:
        state = log_streaming.follow(client, job, write)
    except KeyboardInterrupt as interruption:
        say("submit", f"detached; the job continues. Follow it: {_attach_command(client, job)}")
        mode = "RAY_AUTH_MODE=token " if client.has_token else ""  # the token's file is not enough
        say("submit", f"stop it: {mode}ray job stop {job} --address {client.address}")
        return 128 + (interruption.args[0] if interruption.args else signal.SIGINT)
    return _report_end(state, job, as_json, seconds=time.monotonic() - began)


def _report_end(state: "JobState", job: str, as_json: bool, *, seconds: float) -> int:
    """Say how a job has ended, and where its results are; return its exit code."""
    code, reason = state.explain_end()
    uris = json.loads(state.metadata.get(submission.RESULTS_KEY, "{}"))
    if as_json:
        record = {"job": job, "status": state.status, "exit_code": code, "reason": reason}
        print_json(record | {"results": {} if code else uris})
    if code:
        say("submit", f"{job} failed: {reason}")
        return code
    say("submit", f"{job} is done ({seconds:,.0f} s)")
    for name, uri in uris.items():
        say("", f"{name:<11} {uri}")
    return 0


def _attach_command(client: "JobClient", job: str) -> str:
    return f"sentiflow submit --attach {job} --address {client.address}"


def _show(job: Submission, as_json: bool) -> None:
    """Print what would be submitted."""
    if as_json:
        record: dict[str, object] = {
            "job": job.submission_id,
            "entrypoint": job.entrypoint,
            "env": job.shown_variables,
            "upload": {"bytes": sum(job.sizes.values()), "files": job.sizes},
            "results": dict(job.results),
        }
        print_json(record)
        return
    size = submission.to_text(sum(job.sizes.values()))
    typer.echo(fill("submission.txt.j2", job=job, size=size))
