"""The `download` commands: download files, and print their paths as lines or JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from sentiflow.cli.exits import reporting
from sentiflow.cli.options import AsJson

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Download the real tweets or word vectors."
)

To = Annotated[Path, typer.Option("--to", metavar="DIR", help="Where the files go.")]
Mirror = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="Another address of the same archive."),
]
KeepArchive = Annotated[bool, typer.Option("--keep-archive", help="Keep the archive.")]
Replace = Annotated[
    bool, typer.Option("--overwrite", help="Replace other files that have these names.")
]


@app.command("sentiment140")
def sentiment140(
    to: To = Path("data"),
    url: Mirror = None,
    keep_archive: KeepArchive = False,
    overwrite: Replace = False,
    as_json: AsJson = False,
) -> None:
    """Download the 1.6 million tweets of Sentiment140 (81 MB)."""
    with reporting(verbose=False):
        from sentiflow.data import archives, download

        paths = download.download(
            archives.SENTIMENT140, to, url=url, keep_archive=keep_archive, overwrite=overwrite
        )
        _print_files(paths, as_json)


@app.command("glove")
def glove(
    name: Annotated[str, typer.Option(metavar="NAME", help="6B, twitter.27B, 42B or 840B.")] = "6B",
    dim: Annotated[
        int | None, typer.Option(help="Unpack only the vectors of this dimension.")
    ] = None,
    to: To = Path(".vector_cache"),
    url: Mirror = None,
    keep_archive: KeepArchive = False,
    overwrite: Replace = False,
    as_json: AsJson = False,
) -> None:
    """Download GloVe's word vectors (862 MB for 6B)."""
    with reporting(verbose=False):
        from sentiflow.data import archives, download

        archive, names = archives.choose_glove(name, dim)
        paths = download.download(
            archive, to, names=names, url=url, keep_archive=keep_archive, overwrite=overwrite
        )
        _print_files(paths, as_json)


def _print_files(paths: Sequence[Path], as_json: bool) -> None:
    """Print the paths of files."""
    if as_json:
        files = [{"path": str(path), "bytes": path.stat().st_size} for path in paths]
        typer.echo(json.dumps({"files": files}, ensure_ascii=False))
    else:
        typer.echo("\n".join(map(str, paths)))
