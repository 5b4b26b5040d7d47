"""Which tokens may be made and revoked, by whom."""

from collections.abc import Iterable
from dataclasses import replace

from tallyboard_server.access.errors import BeyondOwnError, LastAdminTokenError, TokensTooManyError
from tallyboard_server.access.tokens import PROJECT_TOKENS_MAX, TOKENS_MAX, TokenWanted, is_usable
from tallyboard_server.principal import Principal, Token


def is_for_all(token: Token) -> bool:
    """Whether it is an admin's, for all projects."""
    return token.scope == "admin" and token.project is None


def may_see(by: Principal, token: Token) -> bool:
    """Whether a token is of somebody's own project, or within it."""
    return by.project is None or (token.project is not None and f"{token.project}/".startswith(by.prefix))


def within_own(wanted: TokenWanted, by: Principal, own: Token | None, now: float) -> TokenWanted:
    """What is wanted, within what whoever makes it may do itself. own: the token of a project's admin.

    Raises BeyondOwnError.
    """
    if not by.may(wanted.scope):
        raise BeyondOwnError(f"a token of scope {by.scope} can't make one of scope {wanted.scope}")
    if by.project is None:
        return wanted
    if wanted.project is None or not f"{wanted.project}/".startswith(by.prefix):
        raise BeyondOwnError(f"this token can make others for project {by.project!r} only; name it, or one within it")
    if own is None:
        return wanted
    rate, expires_s = wanted.rate, wanted.expires_s
    if own.rate is not None:
        rate = own.rate if rate is None else rate
        if rate > own.rate:
            raise BeyondOwnError(f"a token of {own.rate:g} requests a second can't make one of {rate:g}")
    if own.expires_at is not None:
        left_s = own.expires_at - now
        expires_s = left_s if expires_s is None else expires_s
        if expires_s > left_s:
            raise BeyondOwnError(f"a token that expires in {left_s:.0f} s can't make one that expires later")
    return replace(wanted, rate=rate, expires_s=expires_s)


def check_room(tokens: Iterable[Token], by: Principal, now: float) -> None:
    """Raise TokensTooManyError if as many are in use as may be, in all or of the project of whoever makes another."""
    in_use = [token for token in tokens if is_usable(token, now)]
    if by.project is not None:
        first = by.project.partition("/")[0]
        if sum((token.project or "").partition("/")[0] == first for token in in_use) >= PROJECT_TOKENS_MAX:
            raise TokensTooManyError(f"{PROJECT_TOKENS_MAX} tokens of project {first!r} are in use; revoke some")
    if len(in_use) >= TOKENS_MAX:
        raise TokensTooManyError(f"{TOKENS_MAX} tokens are in use; revoke some (tallyboard token list shows their use)")


def check_not_last(token: Token, tokens: Iterable[Token], now: float) -> None:
    """Raise LastAdminTokenError if without this token nobody could make another one for all projects."""
    if not (is_for_all(token) and is_usable(token, now)):
        return
    if any(is_for_all(other) and is_usable(other, now) for other in tokens if other.id != token.id):
        return
    raise LastAdminTokenError(
        f"{token.id} is the last admin token for all projects: without it nobody could make another. Make one first "
        "(tallyboard token create --scope admin), or start the service with TALLYBOARD_TOKEN, then revoke this one"
    )
