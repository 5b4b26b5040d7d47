"""The rules of all projects, as the store keeps them and as they hold for each run."""

import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from tallyboard_server.notify import Webhook
from tallyboard_server.store.protocol import Record, Store, Transaction
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
        self._changing = threading.Lock()
        """Held from before a change is durable until it holds, so that the store and this end with the same one."""
        self._lock = threading.Lock()
        self._own: Mapping[str, WatchRules] = MappingProxyType({})
        self._known: dict[str, Rules] = {}
        self._changes = 0

    def load(self, store: Store) -> None:
        """Take over what the store keeps, unless a change was faster, which has read all of it. Raises StoreError."""
        changes = self._changes
        with store.snapshot() as view:
            own = _decoded(view.rules())
        self._take_over(own, unless_after=changes)

    def change(
        self,
        record: Record,
        project: str,
        change: Callable[[WatchRules], WatchRules | None],
        note: Callable[[Transaction, WatchRules | None], None],
    ) -> None:
        """Have a project's own rules be what `change` makes of those that it has by then; None: it has none any more.

        note: what else belongs into the transaction. Nobody else changes rules meanwhile, whichever service on the
        store it comes to. Raises what `change` raises, ProjectsTooManyError, StoreError.
        """
        outcome: list[dict[str, WatchRules] | Exception] = []

        def work(transaction: Transaction) -> None:
            own = _decoded(transaction.lock_rules())
            try:
                rules = change(own.get(project, WatchRules()))
                _check_room(project, rules, own)
            except Exception as error:  # noqa: BLE001 - an answer: for the writer an error would be one of the store's
                outcome[:] = [error]
                return
            transaction.save_rules(project, None if rules is None else msgspec.json.encode(rules).decode())
            note(transaction, rules)
            outcome[:] = [_with(own, project, rules)]

        with self._changing:
            record(work)
            if isinstance(outcome[0], Exception):
                raise outcome[0]
            self._take_over(outcome[0])

    def own(self, project: str) -> WatchRules | None:
        """What a project itself changes; None: nothing."""
        return self._own.get(project)

    def put(self, project: str, rules: WatchRules | None) -> None:
        """A project's rules are these from now on, and in the store already; None: it has none of its own."""
        self._take_over(_with(self._own, project, rules))

    def _take_over(self, own: Mapping[str, WatchRules], *, unless_after: int | None = None) -> None:
        """These hold; unless others have been taken over since so many were."""
        with self._lock:
            if unless_after is None or unless_after == self._changes:
                self._own, self._known = MappingProxyType({**own}), {}
                self._changes += 1

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


def _decoded(found: Mapping[str, str]) -> dict[str, WatchRules]:
    return {project: msgspec.json.decode(text, type=WatchRules) for project, text in found.items()}


def _with(own: Mapping[str, WatchRules], project: str, rules: WatchRules | None) -> dict[str, WatchRules]:
    rest = {other: kept for other, kept in own.items() if other != project}
    return rest if rules is None else rest | {project: rules}


def _check_room(project: str, rules: WatchRules | None, own: Mapping[str, WatchRules]) -> None:
    if rules is not None and project not in own and len(own) >= PROJECTS_MAX:
        raise ProjectsTooManyError(f"{PROJECTS_MAX} projects have rules of their own; reset some")


def around(project: str) -> list[str]:
    """ALL, and a project with those that it lies in, the widest first."""
    parts = project.split("/") if project else []
    return [ALL, *("/".join(parts[:count]) for count in range(1, len(parts) + 1))]
