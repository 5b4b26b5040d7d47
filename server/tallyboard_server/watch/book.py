"""The rules of all projects, as the store keeps them and as they hold for each run."""

import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from tallyboard_server.notify import Webhook
from tallyboard_server.store.protocol import Store
from tallyboard_server.watch.rules import Rules, WatchRules, joined

PROJECTS_MAX: Final = 1_000
"""Projects that may have rules of their own."""
_KNOWN_MAX: Final = 10_000
"""Projects of which is remembered what holds for them."""

ALL: Final = ""
"""In the place of a project: the rules of all."""


class ProjectsTooManyError(ValueError):
    """Another project with rules of its own would be one too many."""


class RuleBook:
    """Rules by project. A project is what the names of its runs begin with, up to a slash; a deeper one inherits from
    those around it, all inherit from ALL, and that from the defaults. Any thread may ask."""

    def __init__(self, defaults: Rules) -> None:
        self._defaults = defaults
        self.changing = threading.Lock()
        """Held from before a change is durable until it holds, so that the store and this end with the same one."""
        self._lock = threading.Lock()
        self._own: Mapping[str, WatchRules] = MappingProxyType({})
        self._known: dict[str, Rules] = {}

    def load(self, store: Store) -> None:
        """Take over what the store keeps. Raises StoreError."""
        with store.snapshot() as view:
            found = view.rules()
        own = {project: msgspec.json.decode(text, type=WatchRules) for project, text in found.items()}
        with self._lock:
            self._own, self._known = MappingProxyType(own), {}

    def own(self, project: str) -> WatchRules | None:
        """What a project itself changes; None: nothing."""
        return self._own.get(project)

    def check_room(self, project: str) -> None:
        """Raise ProjectsTooManyError if a project can't be given rules."""
        if project not in self._own and len(self._own) >= PROJECTS_MAX:
            raise ProjectsTooManyError(f"{PROJECTS_MAX} projects have rules of their own; reset some")

    def put(self, project: str, rules: WatchRules | None) -> None:
        """A project's rules are these from now on, and in the store already; None: it has none of its own."""
        with self._lock:
            own = {**self._own}
            if rules is None:
                own.pop(project, None)
            else:
                own[project] = rules
            self._own, self._known = MappingProxyType(own), {}

    def of_run(self, run: str) -> Rules:
        """What holds for a run."""
        return self.of_project(run.rpartition("/")[0])

    def of_project(self, project: str) -> Rules:
        """What holds for the runs of a project."""
        known, own = self._known, self._own
        if (rules := known.get(project)) is not None:
            return rules
        rules = joined(self._defaults, [own[one] for one in around(project) if one in own])
        if len(known) < _KNOWN_MAX:
            known[project] = rules
        return rules

    def owner_of(self, run: str) -> str | None:
        """The project whose webhook hears of a run, ALL for that of all; None: nobody does."""
        owner = ALL
        for project in around(run.rpartition("/")[0]):
            own = self._own.get(project)
            if own is not None and own.webhook is not msgspec.UNSET:
                owner = project
        return owner if self.webhook_at(owner) is not None else None

    def webhook_at(self, project: str) -> Webhook | None:
        """The webhook that a project names itself (ALL: or that the settings name)."""
        own = self._own.get(project)
        if own is not None and own.webhook is not msgspec.UNSET:
            return None if own.webhook is None else Webhook(own.webhook.url, own.webhook.format)
        return self._defaults.webhook if project == ALL else None


def around(project: str) -> list[str]:
    """ALL, and a project with those that it lies in, the widest first."""
    parts = project.split("/") if project else []
    return [ALL, *("/".join(parts[:count]) for count in range(1, len(parts) + 1))]
