"""What can keep a command from being carried out, apart from the step contract and the store."""


class IngestError(Exception):
    """Base of what `Ingest.submit` and the byte budget raise of their own."""


class RunNotFoundError(IngestError):
    """There is no such run, and the command does not create one."""


class RunForbiddenError(IngestError):
    """The run is none of those that whoever asks may touch."""


class RunExistsError(IngestError):
    """A run of that name exists, and the command wanted a new one (or no free name was found)."""


class ProjectFullError(IngestError):
    """The project has as many runs as it may have, and the command would make one more."""


class RunDeletedError(IngestError):
    """The run was deleted; only an explicit PUT creates it again."""


class RunChangedError(IngestError):
    """The run was to be deleted only if it had not changed any more, and it has."""


class OverloadedError(IngestError):
    """Too many bytes wait, here or for the event files; try again after `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
