"""Option that several commands have -> how it is typed and explained."""

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Write the result for programs.")]
