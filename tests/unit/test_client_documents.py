"""Config and summary become plain JSON, and hand on what changed."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tallyboard.documents import Config, as_document, plain


@dataclass
class Options:
    lr: float
    layers: tuple[int, ...]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True),
        (None, None),
        (3, 3),
        (2**63, str(2**63)),
        (0.5, 0.5),
        (float("nan"), "NaN"),
        (float("-inf"), "-Infinity"),
        ("text", "text"),
        ("lone \ud800", "lone ?"),
        (np.float32(0.5), 0.5),
        (np.int64(7), 7),
        (np.bool_(True), True),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array(np.inf), "Infinity"),
        (Path("/data"), "/data"),
        ({1: (2, {3})}, {"1": [2, [3]]}),
        (Options(0.1, (8, 8)), {"lr": 0.1, "layers": [8, 8]}),
        (int, "<class 'int'>"),
    ],
)
def test_any_value_becomes_plain_json(value: Any, expected: Any) -> None:
    found = plain(value)
    assert found == expected
    assert type(found) is type(expected)


def test_a_document_that_holds_itself_ends() -> None:
    loop: dict[str, Any] = {}
    loop["self"] = loop
    assert "self" in plain(loop)


def test_mappings_namespaces_and_dataclasses_are_documents() -> None:
    assert as_document({"lr": 0.1}) == {"lr": 0.1}
    assert as_document(argparse.Namespace(lr=0.1)) == {"lr": 0.1}
    assert as_document(Options(0.1, (8,))) == {"lr": 0.1, "layers": [8]}
    with pytest.raises(TypeError, match="int"):
        as_document(3)


def test_each_change_is_handed_on_once() -> None:
    changes: list[dict[str, Any]] = []
    config = Config(changes.append)
    config["lr"] = np.float64(0.1)
    config.update({"a": 1}, b=2)
    config.update({})
    del config["a"]
    assert changes == [{"lr": 0.1}, {"a": 1, "b": 2}, {"a": None}]
    assert dict(config) == {"lr": 0.1, "b": 2}
