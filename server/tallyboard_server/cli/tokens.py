"""`tallyboard token`: make tokens for jobs and people, list them, revoke them."""

import time
from typing import Annotated
from urllib.parse import quote

import msgspec
import typer
from rich.markup import escape

from tallyboard_server.api.tokenmessages import TokenBody, TokenMade, TokensPage, TokenView
from tallyboard_server.cli.http import service_from
from tallyboard_server.cli.output import ago, printable, stderr, stdout, table, timestamp
from tallyboard_server.cli.pruning import parse_age
from tallyboard_server.principal import SCOPES

tokens = typer.Typer(no_args_is_help=True, help="Make, list and revoke tokens; TALLYBOARD_TOKEN has to be an admin's.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, as the API answers it.")]


@tokens.command()
def create(
    scope: Annotated[str, typer.Option(metavar="|".join(SCOPES), help="read: look. write: also report. admin: all.")],
    project: Annotated[
        str | None, typer.Option(help="Only runs whose names begin with this, up to a slash.", show_default="all")
    ] = None,
    name: Annotated[str, typer.Option(help="What people know it by.", show_default="its id")] = "",
    expires: Annotated[
        str | None, typer.Option(metavar="SPAN", help="For how long it is good: 90d, 12h.", show_default="for ever")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Requests a second that it may make.", show_default="the service's setting")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and print it, alone, on stdout; it is not shown again. TOKEN=$(tallyboard token create --scope read)

    The first token of a service has to be an admin's for all projects; from then on nobody gets in without one.
    """
    if scope not in SCOPES:
        raise typer.BadParameter(f"{scope!r} is none of {', '.join(SCOPES)}", param_hint="--scope")
    expires_s = None if expires is None else parse_age(expires)
    body = TokenBody(scope=scope, name=name, project=project, expires_s=expires_s, rate=rate)
    made = service_from().post("/tokens", body, TokenMade)
    if as_json:
        _print_json(made)
        return
    until = "" if made.expires_at is None else f", good until {timestamp(made.expires_at)} UTC"
    reach = "all projects" if made.project is None else f"project {made.project}"
    stderr.print(f"token {made.id}: {made.scope}, {reach}{until}; it is shown this once:", markup=False)
    typer.echo(made.token)


@tokens.command(name="list")
def list_tokens(as_json: AsJson = False) -> None:
    """List the tokens that there are, with when each was last used."""
    page = service_from().get("/tokens", TokensPage)
    if as_json:
        _print_json(page)
        return
    now = time.time()
    made = table("id", "name", "scope", "project", "state", "last used", "made by", wrap=("name",))
    for token in page.tokens:
        used = "never" if token.last_used_at is None else f"{ago(now - token.last_used_at)} ago"
        made.add_row(
            token.id, escape(printable(token.name)), token.scope, escape(token.project or "all"), _state(token, now),
            used, escape(printable(token.created_by)),
        )  # fmt: skip
    if page.tokens:
        stdout.print(made)
    else:
        stderr.print("no token was made yet")
    if page.environment:
        stderr.print("besides, the service's TALLYBOARD_TOKEN is an admin's, for all projects")


@tokens.command()
def revoke(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="The token's id, as `tallyboard token list` shows it.")],
) -> None:
    """Revoke a token: nobody gets in with it any more, nor browsers that gave it."""
    service_from().delete(f"/tokens/{quote(token_id, safe='')}")
    stderr.print(f"revoked {token_id}", markup=False)


def _state(token: TokenView, now: float) -> str:
    if token.revoked_at is not None:
        return "revoked"
    if token.expires_at is None:
        return "good"
    left_s = token.expires_at - now
    return "expired" if left_s <= 0 else f"good for {ago(left_s)}"


def _print_json(message: msgspec.Struct) -> None:
    typer.echo(msgspec.json.format(msgspec.json.encode(message)).decode())
