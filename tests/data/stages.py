"""What a stage does with its output directory, for tests."""

import json

from sentiflow.data import manifest
from sentiflow.data.output_status import State, Status, find_status
from sentiflow.data.outputs import Output, open_output
from sentiflow.storage import filesystem


def look(spec, *, overwrite=False):
    """Look at the output of a stage that nobody else writes."""
    return Output(spec, find_status(spec), overwrite=overwrite)


def begin(spec, *, overwrite=False):
    """Begin to write, or resume; return the output."""
    output = look(spec, overwrite=overwrite)
    output.begin()
    return output


def publish(spec, *, files=(), inputs=None, counts=(), seconds=0, **details):
    """Complete what was begun, in place or in ``_next``, or files that are just there."""
    status = find_status(spec)
    if not status.next_started:
        status = Status(State.ABSENT)
    output = Output(spec, status, overwrite=True)
    counts = dict(counts)
    return output.publish(counts=counts, files=files, seconds=seconds, inputs=inputs, **details)


def run_stage(stage, config, recorder, *, overwrite=False, **options):
    """Run the module of a stage as the pipeline does, without a run in MLflow."""
    with open_output(stage.describe_output(config), overwrite=overwrite) as output:
        if output.is_complete:
            return output.status.record
        return stage.run(config, output, recorder, **options)


def mark_unfinished(spec, **details):
    """Make a finished output look like one that was killed right before its manifest."""
    started = {"stage": spec.stage, "format_version": manifest.FORMAT_VERSION, "overwrite": False}
    started |= {"settings": spec.settings, "inputs": spec.inputs, "details": details}
    content = json.dumps(started | {"owns": list(spec.owns)}).encode()
    filesystem.write_bytes(f"{spec.uri}/started.json", content)
    filesystem.delete(f"{spec.uri}/manifest.json")


def refresh_sizes(folder):
    """Make a finished output whole again whose files a test has changed."""
    record = json.loads((folder / "manifest.json").read_text())
    for item in record["files"]:
        item["bytes"] = (folder / item["path"]).stat().st_size
    (folder / "manifest.json").write_text(json.dumps(record))
