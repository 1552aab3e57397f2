"""A stage of two parts and a file with a name, which all say which settings they were made for."""

from stages import list_owned, look

from sentiflow.cluster.markers import read_markers, write_marker
from sentiflow.cluster.parts_on_ray import PartId
from sentiflow.data import manifest
from sentiflow.data.output_status import Status, find_status
from sentiflow.errors import UserError
from sentiflow.storage import filesystem

TABLES = (0, 1)
NAMED = "words.parquet"


def name_plot(spec):
    """Name a file by its settings, so that another result has a file of another name."""
    return f"plots/{spec.settings['seed']}.png"


def work(output):
    """Make the parts that have no marker yet, and yield them; return the files of the result."""
    key = output.spec.fingerprint
    output.begin()
    markers = read_markers(output.spec.uri, output.uri, "ingest") if output.resumes else {}
    files = []
    for number in TABLES:
        if number in markers:
            assert markers[number]["key"] == key, "a part of other settings was adopted"
            files.append(markers[number]["result"])
            continue
        path = f"tables/{PartId(number, key).name_file()}"
        filesystem.write_bytes(f"{output.parts_uri}/{path}", key.encode())
        entry = {"path": path, "rows": 1, "bytes": len(key)}
        written = f"{output.parts_uri}/{path}".removeprefix(f"{output.spec.uri}/")
        marker = {"key": key, "files": {written: len(key)}, "result": entry}
        write_marker(output.uri, "ingest", number, marker)
        files.append(entry)
        yield number
    return files


def run(spec, output=None):
    """Do what the pipeline does with a stage; yield the parts that are made.

    ``output`` is that of a job that holds the directory; without one nobody else writes there.
    """
    output = output or look(spec, overwrite=True)
    if output.is_complete:
        output.roll_back()
        return
    files = yield from work(output)
    content = output.spec.fingerprint.encode()
    files += [output.write(name, content) for name in (NAMED, name_plot(spec))]
    output.publish(counts={}, files=files, seconds=0)


def refuse(spec):
    """Do what a stage does that finds, after some work, that it cannot succeed."""
    output = look(spec, overwrite=True)
    yield from work(output)
    output.roll_back()


def read(spec):
    """Read what is called complete; return the settings' fingerprint, or why it is refused."""
    try:
        record = manifest.require(spec.uri, stage="prepare", setting="")
        named = manifest.read_file(spec.uri, record, NAMED)
    except UserError as error:
        return str(error)
    paths = [item["path"] for item in record["files"] if item["path"] != NAMED]
    marks = {named, *(filesystem.read_bytes(f"{spec.uri}/{path}") for path in paths)}
    assert len(paths) == len(TABLES) + 1
    assert marks == {record["fingerprint"].encode()}, "two results are mixed"
    return record["fingerprint"]


def check_honest(spec):
    """If the directory is called complete, all its files are there and were made for it."""
    if manifest.read(spec.uri):
        read(spec)


def check_whole(spec, *, guests=()):
    """The directory is complete, and holds what its manifest lists and no more.

    But what was begun for other settings stays, for the command that began it.
    """
    assert read(spec) == spec.fingerprint
    assert find_status(spec) == Status("complete")
    assert find_status(spec).is_tidy
    listed = [item["path"] for item in manifest.read(spec.uri)["files"]]
    assert list_owned(spec.uri) == sorted(["manifest.json", *guests, *listed])
