"""`tallyboard backup` and `restore`: everything that was acknowledged in one file, and back."""

from pathlib import Path
from typing import Annotated

import typer

from tallyboard_server.cli.output import fail, stderr, stdout
from tallyboard_server.cli.sources import default_backup_name, source
from tallyboard_server.cli.verifying import DatabaseUrl, DataDir
from tallyboard_server.durable import sync_file
from tallyboard_server.store.protocol import StoreError
from tallyboard_server.store.sqlite.backup import check_backup
from tallyboard_server.store.sqlite.backup import restore as restore_store


def backup(
    target: Annotated[Path, typer.Argument(help="The file to write, or a directory to write a dated one into.")],
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Copy everything into one file while the service goes on; read it back, and say how large it is.

    Event files are not in it: they are written anew after `tallyboard restore`.
    """
    if database_url is not None:
        fail("a store on PostgreSQL is copied with pg_dump: docs/postgresql.md has the commands")
    path = target / default_backup_name() if target.is_dir() else target
    if path.exists():
        fail(f"{path} exists already; name another file")
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        with source(data_dir, None) as where, stderr.status("copying …"):
            unfinished.unlink(missing_ok=True)
            where.backup(unfinished)
        check_backup(unfinished)
        sync_file(unfinished)
        unfinished.rename(path)
        sync_file(path)
    except OSError as error:
        fail(f"{path}: {error.strerror or error}")
    except StoreError as error:
        fail(str(error))
    finally:
        unfinished.unlink(missing_ok=True)
    stdout.print(f"{path}: {path.stat().st_size:,} bytes, read back and found whole", markup=False)


def restore(
    backup_file: Annotated[Path, typer.Argument(help="What `tallyboard backup` wrote.")],
    data_dir: Annotated[Path, typer.Option(help="Where to; empty or absent.")],
) -> None:
    """Make a data directory of a backup; `tallyboard serve` on it then writes all event files anew.

    Jobs that reported after the backup was taken are told (409) that batches are missing.
    """
    try:
        restore_store(backup_file, data_dir)
    except StoreError as error:
        fail(str(error))
    stdout.print(
        f"restored into {data_dir}; serve it with an empty --logdir (or none): tallyboard serve --data-dir {data_dir}",
        markup=False,
    )
