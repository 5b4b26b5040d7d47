"""`tallyboard runs` with columns, filter and sort, against a real service."""

import pytest

from tests.cli_process import Cli
from tests.service import RunningService


@pytest.fixture(scope="module")
def library(service: RunningService) -> RunningService:
    """Four runs that differ in learning rate and loss; the last has neither."""
    for name, lr, losses in (("a", 0.1, [3.0, 2.5]), ("b", 0.01, [3.0, 0.5]), ("c", 0.001, [3.0, 1.25])):
        service.send("PUT", f"/runs/cli/{name}", {"config": {"lr": lr, "note": "[bold]x"}})
        reports = [{"step": step, "scalars": {"loss": loss}} for step, loss in enumerate(losses)]
        assert service.report(f"cli/{name}", {"reports": reports}).status == 200
    service.send("PUT", "/runs/cli/d", {})
    return service


def lines(out: str) -> list[list[str]]:
    return [line.split() for line in out.splitlines()]


def test_columns_make_a_table_in_any_order(library: RunningService, cli: Cli) -> None:
    outcome = cli("runs", "cli/*", "--columns", "config.lr,last.loss", "--sort", "-last.loss")
    assert outcome.code == 0
    assert lines(outcome.out) == [
        ["run", "config.lr", "last.loss"],
        ["cli/a", "0.1", "2.5"],
        ["cli/c", "0.001", "1.25"],
        ["cli/b", "0.01", "0.5"],
        ["cli/d", "–", "–"],
    ]


def test_a_filter_narrows_tables_and_lists(library: RunningService, cli: Cli) -> None:
    where = "config.lr < 0.1 and last.loss < 1"
    assert lines(cli("runs", "--filter", where, "--columns", "last.loss").out)[1:] == [["cli/b", "0.5"]]
    listed = lines(cli("runs", "cli/*", "--filter", where).out)
    assert [line[0] for line in listed] == ["run", "cli/b"]
    assert "global_step" in listed[1]


def test_a_list_can_be_sorted(library: RunningService, cli: Cli) -> None:
    listed = lines(cli("runs", "cli/[abc]", "--sort", "config.lr").out)
    assert [line[0] for line in listed[1:]] == ["cli/c", "cli/b", "cli/a"]


def test_cells_are_for_people_and_never_markup(library: RunningService, cli: Cli) -> None:
    outcome = cli("runs", "cli/a", "--columns", "created_at,age,config.note,tags,at_min(loss, loss)")
    head, row = lines(outcome.out)
    assert head == ["run", "created_at", "age", "config.note", "tags", "at_min(loss,", "loss)"]
    assert row[1].startswith("20")
    assert row[3:5] == [row[3], "s"]
    assert row[5:] == ["[bold]x", "[]", "2.5"]


def test_a_limit_and_nothing_found_are_said(library: RunningService, cli: Cli) -> None:
    outcome = cli("runs", "cli/*", "--columns", "name", "--limit", "3")
    assert len(lines(outcome.out)) == 4
    assert outcome.err == "… and more; --limit 3 reached\n"
    assert cli("runs", "cli/*", "--columns", "name", "--limit", "4").err == ""
    nothing = cli("runs", "cli/*", "--filter", "config.lr > 1")
    assert nothing.err == "no run matches 'cli/*' and passes 'config.lr > 1'\n"


def test_a_mistake_is_pointed_at(library: RunningService, cli: Cli) -> None:
    outcome = cli("runs", "--filter", "config.lr <")
    assert outcome.code == 1
    assert "at character 12: expected a column or a value, found the end" in outcome.err
