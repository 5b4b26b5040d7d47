"""From the arguments of `wandb.init`, and wandb's environment variables, to those of `tallyboard.init`."""

import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tallyboard.documents import as_document
from tallyboard.integrations.wandb.documents import plain_config
from tallyboard.integrations.wandb.telling import tell
from tallyboard.naming import made_up, script_project
from tallyboard.summary_writer.logdirs import clean_part
from tallyboard.wire import limits

_MODES: Final = {"dryrun": "offline", "run": "online", "shared": "online"}
"""Names of wandb's for modes, old and experimental ones, that have another here."""
_CONTINUES: Final = frozenset({"allow", "auto", "True"})
_KNOWN_RESUMES: Final = frozenset({"allow", "auto", "must", "never", "True", "False", "None"})
_VARIABLES: Final = {
    "project": "WANDB_PROJECT", "name": "WANDB_NAME", "mode": "WANDB_MODE", "id": "WANDB_RUN_ID",
    "resume": "WANDB_RESUME", "group": "WANDB_RUN_GROUP", "job_type": "WANDB_JOB_TYPE", "notes": "WANDB_NOTES",
    "tags": "WANDB_TAGS", "dir": "WANDB_DIR",
}  # fmt: skip


def with_environment(asked: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """The arguments, with wandb's variables for those that are None."""
    told = {name: environ.get(variable) or None for name, variable in _VARIABLES.items()}
    return {name: told.get(name) if value is None else value for name, value in asked.items()}


def keywords(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What `tallyboard.init` is called with; `asked` has the names of `wandb.init`.

    The run is `project/id`, or `project/name` if no id is given: whoever resumes a run names its id, and may give it
    another name each time. A name that is not the run's becomes its notes.
    """
    project, name, key, resume = (asked.get(what) for what in ("project", "name", "id", "resume"))
    if key is None and isinstance(resume, str) and resume not in _KNOWN_RESUMES:
        key, resume = resume, "allow"  # an old way to name the id
    tags = asked.get("tags") or ()
    tags = tags.split(",") if isinstance(tags, str) else list(tags)
    if asked.get("job_type"):
        tags.append(f"job_type:{asked['job_type']}")
    notes = asked.get("notes")
    return {
        "name": run_name(project, key or name),
        "config": chosen_config(asked),
        "group": asked.get("group"),
        "tags": tuple(str(tag) for tag in tags),
        "notes": str(name) if notes is None and key and name and name != key else notes,
        "resume": _resume(resume, named=key is not None),
        "mode": _MODES.get(str(asked.get("mode")), asked.get("mode")),
    }


def run_name(project: Any, name: Any) -> str | None:
    """`project/name`, without what no name may hold; None if neither is given, for `tallyboard.init` to choose."""
    if project is None and name is None:
        return None
    whole = f"{project or script_project(sys.argv[0] if sys.argv else '')}/{name or made_up(random.Random())}"
    parts = [part for part in map(clean_part, whole.replace("\\", "/").split("/")) if part][-limits.RUN_DEPTH_MAX :]
    while len("/".join(parts).encode()) > limits.RUN_NAME_BYTES_MAX:
        del parts[0]
    return "/".join(parts) or None


def chosen_config(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The config, without the keys that are not to be in it."""
    source = asked.get("config")
    try:
        config = as_document(_from_file(source) if isinstance(source, str | Path) else plain_config(source))
    except (TypeError, OSError, ImportError, ValueError) as error:
        tell(f"wandb.init: config is left out: {error}")
        return {}
    include, exclude = asked.get("config_include_keys"), asked.get("config_exclude_keys") or ()
    return {key: value for key, value in config.items() if key not in exclude and (not include or key in include)}


def _from_file(path: str | Path) -> dict[str, Any]:
    """A config as wandb's YAML files have it: `lr: {value: 0.1}`, or plain. Needs PyYAML."""
    import yaml

    try:
        read = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML file: {error}") from error
    if not isinstance(read, dict):
        raise TypeError(f"{path} holds no mapping")
    return {
        str(key): value["value"] if isinstance(value, dict) and "value" in value else value
        for key, value in read.items()
        if key != "wandb_version"
    }


def _resume(resume: Any, *, named: bool) -> str:
    if str(resume) == "must":
        return "must"
    return "continue" if str(resume) in _CONTINUES and named else "new"
