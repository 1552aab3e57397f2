"""What a stage does with its output directory, for tests."""

import hashlib
import json
import secrets
from dataclasses import replace

from sentiflow.data import manifest
from sentiflow.data.output_status import Status, find_status
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


def fill(folder, *names):
    """Write files that hold their name."""
    for name in names:
        filesystem.write_bytes(f"{folder}/{name}", name.encode())


def add_part(output, content="rows", *, key="0a1b"):
    """Write a part and its completion marker, as a task does; return the entry of the part."""
    path = f"tables/part-00000-{key}-{secrets.token_hex(4)}.parquet"
    filesystem.write_bytes(f"{output.parts_uri}/{path}", content.encode())
    filesystem.write_bytes(f"{output.uri}/receipts/ingest-000000.json", b"{}")
    return {"path": path, "rows": 1, "bytes": len(content)}


def finish(spec, *, words="words", files=(), **details):
    """Do what a stage does from its beginning to its manifest: a part and a file with a name."""
    output = begin(spec, overwrite=True)
    listed = [add_part(output), output.write("words.parquet", words.encode(), rows=1), *files]
    return output.publish(counts={"rows": 1}, files=listed, seconds=1.23456, **details)


def publish(spec, *, files=(), counts=(), seconds=0, **details):
    """Write the manifest of files that are just there; those without rows get their SHA-256."""
    files = [dict(item) for item in files]
    for item in files:
        if item["rows"] is None and filesystem.exists(f"{spec.uri}/{item['path']}"):
            content = filesystem.read_bytes(f"{spec.uri}/{item['path']}")
            item["sha256"] = hashlib.sha256(content).hexdigest()
    output = Output(spec, Status("new"), overwrite=True)
    return output.publish(counts=dict(counts), files=files, seconds=seconds, **details)


def grow(spec, *names, time=1, tree=None):
    """Make a spec to files of these names, whose content is their name, that may grow."""
    files = [
        {"uri": f"/in/{name}", "bytes": 1, "modified_ns": time,
         "tree_sha256": name if tree is None else tree}
        for name in names
    ]  # fmt: skip
    corpus = {"fingerprint": f"{names}{time}", "files": files}
    return replace(spec(), inputs={"corpus": corpus}, grows="corpus")


def list_owned(uri):
    """List the files of a directory but those of unfinished runs and of the lease."""
    return [name for name in filesystem.listing(str(uri)) if not name.startswith("_")]


def run_stage(stage, config, recorder, *, overwrite=False, **options):
    """Run the module of a stage as the pipeline does, without a run in MLflow."""
    plan = stage.resolve(config)
    with open_output(plan.spec, overwrite=overwrite) as output:
        if output.is_complete:
            return output.status.record
        return stage.run(plan, output, recorder, **options)


def mark_unfinished(spec):
    """Make a finished output look like one that was killed right before its manifest."""
    output = look(spec, overwrite=True)
    output.begin()
    filesystem.move(f"{spec.uri}/manifest.json", f"{output.uri}/manifest.json")


def refresh_sizes(folder):
    """Make a finished output whole again whose files a test has changed."""
    record = json.loads((folder / "manifest.json").read_text())
    for item in record["files"]:
        content = (folder / item["path"]).read_bytes()
        item["bytes"] = len(content)
        if "sha256" in item:
            item["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "manifest.json").write_bytes(manifest.to_json(record))
