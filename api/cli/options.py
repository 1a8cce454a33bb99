"""Options and arguments that several commands share."""

from pathlib import Path
from typing import Annotated, Final

import typer

JOB_TYPE: Final = "sdxl_image_fast"
"""The default job type of a submission."""

Url = Annotated[str | None, typer.Option(help="The server. Default: DARKROOM_URL, else `url` in the data folder.")]
Token = Annotated[
    str | None, typer.Option(help="The token. Default: DARKROOM_TOKEN, else `admin.token` in the data folder.")
]
DataDir = Annotated[Path | None, typer.Option(help="The data folder. Default: DARKROOM_DATA_DIR.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="Maximum number, newest first.")]

JobName = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]
AssetName = Annotated[str, typer.Argument(metavar="ASSET", help="The asset: its id, or JOB/INDEX.")]
AssetNames = Annotated[list[str], typer.Argument(metavar="ASSET…", help="One or more assets: their ids, or JOB/INDEX.")]
