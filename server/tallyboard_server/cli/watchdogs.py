"""`tallyboard watchdogs`: what they do, what they found, and where people hear of it."""

import math
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal
from urllib.parse import quote

import msgspec
import typer

from tallyboard_server.api.watchmessages import IncidentsPage, TestAnswer, WatchAnswer
from tallyboard_server.cli.http import ApiProblemError, service_from
from tallyboard_server.cli.output import fail, printable, stderr, stdout, table, timestamp
from tallyboard_server.watch import KINDS, Bound, WatchRules, WebhookRule

watchdogs = typer.Typer(
    name="watchdogs", help="Show and change what watchdogs do, and what they found.", no_args_is_help=True
)

Project = Annotated[
    str | None, typer.Argument(help="What the runs' names begin with, up to a slash; all projects if absent.")
]
_BOUND: Final = re.compile(r"(?P<tag>.+):(?P<bounds>(?:min|max)=[^,=]+(?:,(?:min|max)=[^,=]+)?)")
_SECONDS: Final = "SECONDS"
_TRIES: Final = 10


@watchdogs.command("list")
def list_(
    project: Project = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1_000, help="At most so many, the newest.")] = 100,
) -> None:
    """List what is wrong with runs now: since when, of which run, and what."""
    page = service_from().get("/incidents", IncidentsPage, project=project, limit=limit)
    shown = table("since", "level", "run", "what", wrap=("what",))
    for incident in page.incidents:
        shown.add_row(timestamp(incident.since), incident.level, printable(incident.run), printable(incident.title))
    if page.incidents:
        stdout.print(shown)
    else:
        stderr.print("nothing is wrong, as far as watchdogs see")
    if page.more:
        stderr.print(f"and more: --limit {limit} left them out")


@watchdogs.command()
def show(project: Project = None) -> None:
    """Show what watchdogs do for a project, or for all; a * marks what is not by default or inherited."""
    answer = service_from().get(_path(project), WatchAnswer)
    own = answer.own.set_fields()
    shown = table("", "rule", "is")
    for name, value in answer.rules.set_fields().items():
        shown.add_row("*" if name in own else "", name, printable(_told(value)))
    stdout.print(shown)


@watchdogs.command("set")
def set_(
    project: Project = None,
    on: Annotated[list[str] | None, typer.Option(metavar="KIND", help=f"Watch: {', '.join(KINDS)}.")] = None,
    off: Annotated[list[str] | None, typer.Option(metavar="KIND", help="Don't watch; may be repeated.")] = None,
    bound: Annotated[
        list[str] | None,
        typer.Option(metavar="TAG:max=X", help="A tag's bounds: 'loss:max=10', 'val/*:min=0,max=1'; may be repeated."),
    ] = None,
    no_bounds: Annotated[bool, typer.Option("--no-bounds", help="Forget all bounds before.")] = False,
    lost_after: Annotated[float | None, typer.Option(metavar=_SECONDS, help="Silence that makes a run lost.")] = None,
    stalled_after: Annotated[
        float | None, typer.Option(metavar=_SECONDS, help="The least silence of a counter that is told.")
    ] = None,
    stalled_unlearned: Annotated[
        float | None, typer.Option(metavar=_SECONDS, help="The same while a run's cadence is not known.")
    ] = None,
    webhook: Annotated[str | None, typer.Option(metavar="URL", help="Where alerts are sent.")] = None,
    webhook_format: Annotated[
        Literal["json", "slack"] | None, typer.Option("--format", help="How they look there.")
    ] = None,
    no_webhook: Annotated[bool, typer.Option("--no-webhook", help="Send none, whatever others inherit.")] = False,
    inherit: Annotated[
        list[str] | None, typer.Option(metavar="RULE", help="Inherit a rule again, as `show` names it.")
    ] = None,
) -> None:
    """Change what watchdogs do for a project, or for all; what is not named stays as it is."""
    changes: dict[str, Any] = {**dict.fromkeys(_kinds(on), True), **dict.fromkeys(_kinds(off), False)}
    times = {"lost_after_s": lost_after, "stalled_after_s": stalled_after, "stalled_unlearned_s": stalled_unlearned}
    changes |= {name: seconds for name, seconds in times.items() if seconds is not None}
    for name in inherit or ():
        if name not in WatchRules.__struct_fields__:
            raise typer.BadParameter(f"there is no rule {name!r}; there are {', '.join(WatchRules.__struct_fields__)}")

    def changed(rules: WatchRules) -> WatchRules:
        more = dict(changes)
        if bound or no_bounds:
            more["limits"] = _with_bounds(rules, bound or [], anew=no_bounds)
        if webhook is not None or webhook_format is not None or no_webhook:
            more["webhook"] = None if no_webhook else _webhook(rules, webhook, webhook_format)
        more |= dict.fromkeys(inherit or (), msgspec.UNSET)
        if not more:
            raise typer.BadParameter("say what is to change: --off stalled, --bound loss:max=10, --webhook URL, …")
        return msgspec.structs.replace(rules, **more)

    _change(_path(project), changed)
    show(project)


def _change(path: str, changed: Callable[[WatchRules], WatchRules]) -> None:
    """Put what `changed` makes of the rules there; if somebody else changes them meanwhile, of theirs."""
    service = service_from()
    for _ in range(_TRIES):
        found, etag = service.get_tagged(path, WatchAnswer)
        try:
            service.put(path, changed(found.own), WatchAnswer, if_match=etag)
        except ApiProblemError as error:
            if error.problem.status != HTTPStatus.PRECONDITION_FAILED:
                raise
        else:
            return
    fail("others change these rules at the same time, again and again; try again")


@watchdogs.command()
def reset(project: Project = None) -> None:
    """Forget what was changed for a project, or for all."""
    service_from().delete(_path(project))
    show(project)


@watchdogs.command("test")
def try_(project: Project = None) -> None:
    """Send a test notice to the webhook that hears of a project, or of all, and say what it answered."""
    answer = service_from().post(f"{_path(project)}:test", {}, TestAnswer)
    said = printable(answer.detail.strip().replace("\n", " "))[:200]
    if not answer.taken:
        fail(f"the webhook did not take it: {said if answer.status is None else f'{answer.status} {said}'.strip()}")
    stdout.print(f"taken: {answer.status} {said}".rstrip(), markup=False)


def _path(project: str | None) -> str:
    return "/watch" if project is None else f"/watch/{quote(project, safe='/')}"


def _kinds(given: list[str] | None) -> list[str]:
    for kind in given or ():
        if kind not in KINDS:
            raise typer.BadParameter(f"there is no watchdog {kind!r}; there are {', '.join(KINDS)}")
    return given or []


def _with_bounds(rules: WatchRules, given: list[str], *, anew: bool) -> tuple[Bound, ...]:
    """The bounds there are, those given in their place or after them."""
    before = () if anew or rules.limits is msgspec.UNSET else rules.limits
    bounds = {bound.tag: bound for bound in before}
    for text in given:
        bound = parse_bound(text)
        bounds[bound.tag] = bound
    return tuple(bounds.values())


def parse_bound(text: str) -> Bound:
    """Bounds as `loss:max=10` or `val/*:min=0,max=1`; ends the command if they are none."""
    parts = _BOUND.fullmatch(text)
    if parts is None:
        raise typer.BadParameter(f"{text!r} are no bounds; write for example 'loss:max=10' or 'val/*:min=0,max=1'")
    found: dict[str, float] = {}
    for part in parts["bounds"].split(","):
        name, _, value = part.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            raise typer.BadParameter(f"{value!r} in {text!r} is no number") from None
        if not math.isfinite(found[name]):
            raise typer.BadParameter(f"{value!r} in {text!r} is not finite")
    return Bound(tag=parts["tag"], min=found.get("min"), max=found.get("max"))


def _webhook(rules: WatchRules, url: str | None, form: Literal["json", "slack"] | None) -> WebhookRule:
    own = rules.webhook if rules.webhook is not msgspec.UNSET else None
    if url is None and own is None:
        raise typer.BadParameter("--format needs --webhook URL: there is none of its own yet")
    if own is None:
        return WebhookRule(url=url or "", format=form or "json")
    return WebhookRule(url=url or own.url, format=form or own.format)


def _told(value: Any) -> str:
    match value:
        case bool():
            return "on" if value else "off"
        case float():
            return f"{value:g} s"
        case None:
            return "none"
        case WebhookRule():
            return f"{value.url} ({value.format})"
    return "; ".join(_bound_told(bound) for bound in value) or "none"


def _bound_told(bound: Bound) -> str:
    given = [f"{name}={value:g}" for name, value in (("min", bound.min), ("max", bound.max)) if value is not None]
    return f"{bound.tag}:{','.join(given)}"
