"""The public surface: what `import tallyboard` gives, and what it costs."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tallyboard
from tallyboard import errors

ROOT = Path(__file__).parents[2]


def test_the_public_names_are_these() -> None:
    assert sorted(tallyboard.__all__) == [
        "Config", "ConfigurationError", "ContractError", "Counter", "CounterStats", "CounterTakenError",
        "InvalidReportError", "ReadError", "Run", "RunLimitError", "RunNotFoundError", "Stats", "StepDecreasedError",
        "Summary", "SummaryWriter", "Synced", "TagOfOtherCounterError", "TagOfOtherKindError",
        "TagRepeatedError", "TallyboardError", "__version__", "init", "read", "sync",
    ]  # fmt: skip
    for name in tallyboard.__all__:
        assert getattr(tallyboard, name) is not None


def test_the_version_is_the_distributions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert tallyboard.__version__ == project["version"]


def test_each_error_is_in_the_tree_that_its_module_draws() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert errors.__doc__ is not None
    for kind in kinds:
        assert kind.__name__ in errors.__doc__
        assert issubclass(kind, errors.TallyboardError)
    reasons = [kind.reason for kind in kinds if issubclass(kind, errors.ContractError)]
    assert len(set(reasons)) == len(reasons)


@pytest.mark.parametrize(
    "heavy",
    [
        "tensorboardX",
        "google.protobuf",
        "PIL",
        "asyncio",
        "tqdm",
        "urllib3",
        "http.client",
        "ssl",
        "fastapi",
        "tallyboard_server",
        "email",
    ],
)
def test_importing_it_loads_no(heavy: str) -> None:
    code = (
        "import sys, numpy, msgspec; before = set(sys.modules); import tallyboard;"
        f"print({heavy!r} in set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"
