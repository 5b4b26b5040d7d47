"""`tallyboard import` and `tallyboard watch`: the client's own commands, beside the service's."""

from typing import Annotated

import typer

from tallyboard.logdir.command import Asked, run_import, run_watch

Logdir = Annotated[str, typer.Argument(help="What `tensorboard --logdir` would be given.")]
Project = Annotated[
    str | None, typer.Option(help="What the runs' names begin with.  [default: the logdir's name]", show_default=False)
]
Counters = Annotated[
    list[str] | None,
    typer.Option(
        "--counter",
        metavar="PATTERN=NAME",
        help="Tags like PATTERN count on the shared counter NAME: '*=global_step'. Else each tag counts on its own.",
    ),
]
Url = Annotated[str | None, typer.Option(help="The service.  [default: TALLYBOARD_URL]", show_default=False)]


def import_logdir(
    logdir: Logdir,
    project: Project = None,
    counter: Counters = None,
    url: Url = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only read, and say what would be mended.")] = False,
) -> None:
    """Bring what TensorBoard's writers have left in a logdir to the service. Can be stopped and repeated.

    Exits with 1 if something of the logdir could not be brought; the last lines say what, and what else was mended.
    """
    raise typer.Exit(run_import(Asked(logdir, project, counter or (), url, dry_run=dry_run)))


def watch(logdir: Logdir, project: Project = None, counter: Counters = None, url: Url = None) -> None:
    """Bring a logdir to the service as it grows, until stopped. Needs the client only: run it where the files are."""
    raise typer.Exit(run_watch(Asked(logdir, project, counter or (), url)))
