"""What an integration says if its framework is not installed."""


def missing(extra: str, package: str, error: ImportError) -> ImportError:
    """The error to raise in place of `error`: `package` can't be imported, and `tallyboard[extra]` brings it."""
    return ImportError(
        f"tallyboard.integrations.{extra} takes {package}: pip install 'tallyboard[{extra}]' ({error})",
        name=error.name,
        path=error.path,
    )
