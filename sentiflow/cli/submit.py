"""`submit` command -> a job on a cluster, followed to its end."""

import contextlib
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sentiflow.cli.exits import reporting
from sentiflow.cli.options import AsJson
from sentiflow.errors import UserError

if TYPE_CHECKING:
    from sentiflow.cluster.job_client import JobClient
    from sentiflow.cluster.log_streaming import JobResult
    from sentiflow.cluster.submission import Submission

Verb = Annotated[
    str | None,
    typer.Argument(
        metavar="VERB", help="Name of a job: run, prepare, train, score, evaluate, sweep, doctor."
    ),
]
ConfigPath = Annotated[Path | None, typer.Argument(metavar="CONFIG", help="A settings file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings to change: train.num_epochs=2"),
]
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
        "--env", metavar="NAME[=VALUE]", help="Environment variable for the job; no secrets."
    ),
]
Install = Annotated[
    bool,
    typer.Option("--install", help="Install constraints.txt for this job on nodes that lack it."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be submitted, and submit nothing.")
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace results of other settings or inputs.")
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show Ray's and MLflow's own messages.")]


def submit(
    verb: Verb = None,
    config: ConfigPath = None,
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
        from sentiflow.cluster import submission as submissions

        if attach is None:
            if verb is None or config is None:
                hint = "such as: sentiflow submit run configs/my.yaml"
                raise UserError("VERB and CONFIG are missing", hint=hint)
            words = {"--overwrite": overwrite, "--verbose": verbose}
            submission = submissions.prepare(
                verb,
                config,
                overrides or (),
                folder=Path.cwd(),
                options=[word for word, is_given in words.items() if is_given],
                variables=variables or (),
                installs=install,
            )
            if dry_run:
                _show(submission, as_json)
                return
        elif verb or dry_run or no_wait:
            raise UserError(
                "--attach follows a job that was submitted before",
                hint="leave out VERB, --dry-run and --no-wait",
            )
        from sentiflow.cluster import job_client
        from sentiflow.progress import say

        client = job_client.connect(job_client.choose_address(address), verbose=verbose)
        if attach is None:
            _submit(client, submission)
        job = attach or submission.submission_id
        if no_wait:
            say("submit", f"follow it: {_attach_command(client, job)}")
            typer.echo(json.dumps({"job": job, "address": client.address}) if as_json else job)
            return
        code = _follow(client, job, as_json)
    if code:
        raise typer.Exit(code)


def _submit(client: "JobClient", job: "Submission") -> None:
    from sentiflow.cluster import submission, upload
    from sentiflow.progress import say

    names = submission.find_loopback(job)
    for name in names if names and not client.is_this_machine() else ():
        meaning = "on each node of the cluster it means that node, and overrides what is set there"
        say("submit", f"note: {name} is an address of this machine; {meaning}")
    client.submit(job, folder=Path.cwd())
    size = upload.to_text(job.upload.num_bytes)
    say("submit", f"{job.submission_id} at {client.address}: {len(job.upload.sizes)} files, {size}")


def _follow(client: "JobClient", job: str, as_json: bool) -> int:
    """Follow a job to its end; give its exit code."""
    from sentiflow.cluster import log_streaming, submission
    from sentiflow.progress import say

    stream = sys.stderr if as_json else sys.stdout

    def write(text: str) -> None:
        stream.write(text)
        stream.flush()

    began = time.monotonic()
    try:
        with _sigterm_interrupts():
            result = log_streaming.follow(client, job, write)
    except KeyboardInterrupt as interruption:
        say("submit", f"detached; the job continues. Follow it: {_attach_command(client, job)}")
        say("submit", f"stop it: {_stop_command(client, job)}")
        return 128 + (interruption.args[0] if interruption.args else signal.SIGINT)
    uris = json.loads(result.metadata.get(submission.RESULTS_KEY, "{}"))
    if as_json:
        record = {"job": job, "status": result.status, "exit_code": result.exit_code}
        made = {} if result.exit_code else uris
        typer.echo(json.dumps(record | {"reason": result.reason, "results": made}))
    _report_end(job, result, uris, time.monotonic() - began)
    return result.exit_code


def _report_end(job: str, result: "JobResult", uris: Mapping[str, str], seconds: float) -> None:
    """Say how a job has ended, and where its results are."""
    from sentiflow.progress import say

    if result.exit_code:
        say("submit", f"{job} failed: {result.reason}")
        return
    say("submit", f"{job} is done ({seconds:,.0f} s)")
    for name, uri in uris.items():
        say("", f"{name:<11} {uri}")


def _attach_command(client: "JobClient", job: str) -> str:
    return f"sentiflow submit --attach {job} --address {client.address}"


def _stop_command(client: "JobClient", job: str) -> str:
    mode = "RAY_AUTH_MODE=token " if client.has_token else ""  # the token's file is not enough
    return f"{mode}ray job stop {job} --address {client.address}"


def _show(job: "Submission", as_json: bool) -> None:
    """Print what would be submitted."""
    from sentiflow.cluster import upload

    if as_json:
        record: dict[str, object] = {
            "job": job.submission_id,
            "entrypoint": job.entrypoint,
            "env": dict(job.variables),
            "upload": {"bytes": job.upload.num_bytes, "files": dict(job.upload.sizes)},
            "results": dict(job.results),
        }
        typer.echo(json.dumps(record, ensure_ascii=False))
        return
    typer.echo(f"entrypoint  {job.entrypoint}")
    for name, value in job.variables.items():
        typer.echo(f"env         {name}={value}")
    size = upload.to_text(job.upload.num_bytes)
    typer.echo(f"upload      {len(job.upload.sizes)} files, {size}")
    for name, count in job.upload.largest(5):
        typer.echo(f"            {name} {upload.to_text(count)}")
    for name, uri in job.results.items():
        typer.echo(f"{name:<11} {uri}")


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM leave the block as Ctrl-C does."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt(number)

    before: Callable[..., object] | int | None = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
