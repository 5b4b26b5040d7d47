"""The page about watchdogs is true: its commands work, its bodies are those that are sent, its figures hold."""

import re
import shlex
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tallyboard.wire import Alert
from tallyboard_server.model import STALLED_FROM, KeptAlert
from tallyboard_server.notify import notifier, webhook
from tallyboard_server.notify.bodies import body, entry_of
from tallyboard_server.settings import Settings
from tallyboard_server.store.watching import NOTICES_MAX, Notice
from tallyboard_server.watch import KINDS, Rules, WatchRules, cadence, facts, findings, ledger, rules
from tests.cli_process import Cli
from tests.service import RunningService
from tests.webhooks import receiving

PAGE = (Path(__file__).parents[2] / "docs" / "watchdogs.md").read_text(encoding="utf-8")
TEXT = " ".join(PAGE.split())
HOOK = "https://hooks.example.org/runs"


def commands() -> list[str]:
    return [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


def test_its_commands_work(service: RunningService, cli: Cli) -> None:
    service.report("mnist/try1", {"step": 1, "scalars": {"loss": 1.0}})
    with receiving() as receiver:
        for command in commands():
            done = cli(*shlex.split(command.replace(HOOK, receiver.url))[1:])
            assert done.code == 0, (command, done.err)
            if "--off stalled" in command:
                assert set(service.get("/watch/mnist").json()["own"]) == {"limits", "stalled", "lost_after_s"}
        assert receiver.titles() == ["a test notice"]
    assert service.get("/watch/mnist").json()["own"] == {"webhook": {"url": receiver.url}}
    assert len(commands()) == 8


def test_its_tables_name_every_kind_and_every_rule() -> None:
    kinds, names = PAGE.split("| rule |")
    assert re.findall(r"^\| `(\w+)` \|", kinds, re.MULTILINE) == list(KINDS)
    rows = [re.findall(r"`(\w+)`", row) for row in re.findall(r"^\| ((?:`\w+` ?)+)\|", names, re.MULTILINE)]
    assert [name for row in rows for name in row] == list(WatchRules.__struct_fields__)
    defaults = dict(re.findall(r"^\| `(\w+_s)` \| (\d+) \|", names, re.MULTILINE))
    assert {name: float(value) for name, value in defaults.items()} == {
        name: getattr(Rules(), name) for name in ("lost_after_s", "stalled_after_s", "stalled_unlearned_s")
    }
    assert Settings(watchdogs=True).lost_after_s == Rules().lost_after_s
    assert Rules().off == frozenset()


@pytest.mark.parametrize(("index", "form"), [(0, "json"), (1, "slack")])
def test_its_bodies_are_those_that_are_sent(index: int, form: Any) -> None:
    told = [msgspec.json.decode(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
    alert = Alert(
        title="loss is NaN", text="The last such value stands at global_step 3,120.", level="error",
        at={"global_step": 3120},
    )  # fmt: skip
    notice = Notice(17, "mnist/try1", 1_760_000_000.5, 1, KeptAlert(1_760_000_000.5, "watchdog", alert))
    delivery, public = told[0]["delivery"], "https://tallyboard.example.org"
    assert msgspec.json.decode(body(form, delivery, [entry_of(notice)], public)) == told[index]


def test_its_settings_and_metrics_exist(service: RunningService) -> None:
    named = set(re.findall(r"TALLYBOARD_([A-Z_]+)", PAGE))
    assert named == {"LOST_AFTER_S", "WATCHDOGS", "WEBHOOK_URL", "WEBHOOK_FORMAT", "PUBLIC_URL"}
    assert named <= {name.upper() for name in Settings.model_fields}
    metrics = service.request("GET", "/metrics").body.decode()
    for name in ("dropped_total", "sent_total", "given_up_total", "waiting"):
        assert f"tallyboard_notices_{name} " in metrics


def test_its_figures_are_those_that_hold() -> None:
    for said in (
        f"{STALLED_FROM} reports in a row came",
        f"{facts.GOOD_POINTS} finite values in a row came, or only such for {facts.GOOD_S / 60:.0f} minutes",
        f"none was for {facts.REFUSED_S / 60:.0f} minutes",
        f"when it has seen {cadence.GAPS_MIN} gaps",
        f"the median of the newest {cadence.GAPS_KEPT})",
        f"begins again within {ledger.DAMP_S / 60:.0f} minutes",
        f"from {rules.SECONDS_MIN:.0f} s to {rules.SECONDS_MAX / 86_400:.0f} days, limits at most {rules.BOUNDS_MAX}",
        f"tried again within {notifier.BACKOFF_S:.0f} s, then twice as long each time, "
        f"{notifier.BACKOFF_MAX_S / 60:.0f} minutes at most",
        f"may take {webhook.DEADLINE_S:.0f} s, and only its first {webhook.ANSWER_BYTES_MAX:,} bytes",
        f"within {notifier.GATHER_S:.0f} seconds go together, {notifier.TOGETHER_MAX} at most",
        f"sent once in {notifier.COLLAPSE_S / 60:.0f} minutes",
        f"{NOTICES_MAX:,} titles may wait",
        webhook.DELIVERY_HEADER,
    ):
        assert said in TEXT, said
    assert (cadence.MEDIANS, cadence.LONGEST, findings.LONG_LOST_S) == (10.0, 2.0, 3_600.0)  # ten, twice, an hour
    assert (notifier.APART_S, notifier.GIVE_UP_S) == (1.0, 86_400.0)  # a second, a day
