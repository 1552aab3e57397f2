"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Write the result as JSON.")]
ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="A settings file (YAML).")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings to change: train.num_epochs=2"),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace results of other settings or inputs.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show the resolved settings and what would run.")
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show Ray's and MLflow's own messages.")]
