"""`tallyboard sync`: the client's own command, beside the service's."""

from typing import Annotated

import typer

from tallyboard.syncing.command import run_sync


def sync(
    directory: Annotated[
        str | None,
        typer.Argument(
            help="A spool dir, or one stream's folder in it.  [default: ~/.local/state/tallyboard/spool]",
            show_default=False,
        ),
    ] = None,
    url: Annotated[str | None, typer.Option(help="The service, if not the one that the jobs were told of.")] = None,
    as_new: Annotated[
        bool, typer.Option("--as-new", help="Give runs of their own to what has to stay out of its run.")
    ] = False,
) -> None:
    """Send what jobs have left on this machine's disk. Can be stopped, repeated, and run while jobs write."""
    raise typer.Exit(run_sync(directory, url, None, as_new=as_new))
