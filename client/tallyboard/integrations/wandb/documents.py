"""`wandb.config` and `wandb.summary`: dictionaries whose keys are attributes, too."""

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from tallyboard.documents import Document, as_document


class View(MutableMapping[str, Any]):
    """A document of the run, by key and by attribute. `behind`: what is found where it has no such key."""

    def __init__(self, document: Document, behind: Callable[[], dict[str, Any]] = dict) -> None:
        object.__setattr__(self, "_document", document)
        object.__setattr__(self, "_behind", behind)

    def __getitem__(self, key: str) -> Any:
        return self._document[key] if key in self._document else self._behind()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._document[key] = value

    def __delitem__(self, key: str) -> None:
        del self._document[key]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._behind(), **self._document})

    def __len__(self) -> int:
        return len({**self._behind(), **self._document})

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"there is no {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        del self[name]

    def __repr__(self) -> str:
        return repr(dict(self))


class Config(View):
    """The run's config. A value may be changed at any time, with `allow_val_change` or without."""

    def update(self, other: Any = (), allow_val_change: bool | None = None, **values: Any) -> None:  # type: ignore[override]
        """Set several at once, from a mapping, an argparse.Namespace, flags of absl or a dataclass."""
        self._document.update(as_document(plain_config(other)) | as_document(values))

    def setdefaults(self, other: Any) -> None:
        """Set what is not set yet."""
        self.update({key: value for key, value in as_document(plain_config(other)).items() if key not in self})

    def as_dict(self) -> dict[str, Any]:
        """A copy."""
        return dict(self)

    def persist(self) -> None:
        """It is sent by itself."""


class Summary(View):
    """The run's summary; read, it also holds the last value that was logged of each key."""

    def update(self, other: Any = (), **values: Any) -> None:  # type: ignore[override]
        """Set several at once."""
        self._document.update(other, **values)


def plain_config(source: Any) -> Any:
    """What as_document understands: another run's config as a dictionary, absl's flags by name."""
    flags = getattr(source, "flag_values_dict", None)
    if isinstance(source, View):
        return dict(source)
    return flags() if callable(flags) else (() if source is None else source)
