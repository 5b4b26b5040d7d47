"""What a run is called when nobody, or only a project, says so."""

import random
import re
from pathlib import PurePath
from typing import Final

from tallyboard.errors import ConfigurationError
from tallyboard.parameters import text
from tallyboard.settings import Ranks
from tallyboard.wire import InvalidNameError, check_run

_ADJECTIVES: Final = (
    "amber ancient azure bold brave bright brisk calm clear clever coastal copper crisp daring deep distant early"
    " eager fair fast gentle golden grand green happy hidden humble jolly keen kind lively lucky mellow merry mild"
    " misty noble northern patient plain proud quick quiet rapid rare royal silent silver smooth snowy solid steady"
    " sunny swift tidy warm wild wise"
)
_NOUNS: Final = (
    "acorn anchor badger beacon birch bison bridge brook canyon cedar cliff comet condor coral crane delta dolphin"
    " dune eagle falcon fern fjord forest fox garden glacier harbor hawk heron hill island juniper lagoon lake lark"
    " lynx maple marten meadow moose moss oak orchard otter owl peak pine prairie raven reef ridge river robin"
    " sparrow spruce stream summit tiger tundra valley walrus willow wren"
)
_UNSAFE: Final = re.compile(r"[^\w.-]+")


def run_name(name: str | None, project: str | None, fallback: str | None, script: str, rng: random.Random) -> str:
    """`project/name`; what is missing comes from `fallback` (TALLYBOARD_RUN), else is made up.

    Without a project, a made-up name goes below the script's own (`train/quiet-otter-4821`).
    Raises ConfigurationError if it can't name a run.
    """
    name = None if name is None else text("name", name, "mnist/try1")
    project = None if project is None else text("project", project, "mnist")
    if name is None and project is None and fallback is not None:
        chosen = fallback
    elif name is not None:
        chosen = name if project is None else f"{project}/{name}"
    else:
        chosen = f"{project or script_project(script)}/{made_up(rng)}"
    return checked(chosen)


def made_up(rng: random.Random) -> str:
    """A readable name: 60 adjectives × 60 nouns × 9,000 numbers, about 30 million."""
    return f"{rng.choice(_ADJECTIVES.split())}-{rng.choice(_NOUNS.split())}-{rng.randrange(1000, 10_000)}"


def for_rank(name: str, rank: int | None, ranks: Ranks) -> str | None:
    """The run that a process of that rank reports to; None if it reports nothing."""
    if rank is None:
        return name
    if ranks == "all":
        return checked(f"{name}/rank{rank:02d}")
    return name if rank == 0 else None


def checked(name: str) -> str:
    """`name`, if it can name a run; else raises ConfigurationError."""
    try:
        return check_run(name)
    except InvalidNameError as error:
        raise ConfigurationError(str(error)) from error


def script_project(script: str) -> str:
    """The script's file name without its ending; `runs` where there is no script (a notebook, `-c`)."""
    stem = _UNSAFE.sub("-", PurePath(script).stem).strip(".-")
    return stem[:100] if stem and not stem.startswith("ipykernel") and stem != "c" else "runs"
