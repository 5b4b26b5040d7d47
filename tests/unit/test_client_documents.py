"""Config and summary become plain JSON, and hand on what changed."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tallyboard.documents import Config, as_document, plain
from tallyboard_server.contract import merge_patch as merge_patch_of_the_server


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


def document(fits: bool = True) -> tuple[Config, list[dict[str, Any]]]:
    sent: list[dict[str, Any]] = []
    return Config(lambda _: fits, sent.append), sent


def test_each_change_is_sent_once() -> None:
    config, sent = document()
    config["lr"] = np.float64(0.1)
    config.update({"a": 1}, b=2)
    config.update({})
    del config["a"]
    assert sent == [{"lr": 0.1}, {"a": 1, "b": 2}, {"a": None}]
    assert dict(config) == {"lr": 0.1, "b": 2}


def test_a_nested_value_is_replaced_not_merged() -> None:
    config, sent = document()
    config["optimiser"] = {"name": "sgd", "args": {"momentum": 0.9, "nesterov": True}}
    config["optimiser"] = {"name": "adam", "args": {"momentum": 0.8}}
    config["optimiser"] = "none"
    assert sent[1:] == [
        {"optimiser": {"name": "adam", "args": {"momentum": 0.8, "nesterov": None}}},
        {"optimiser": "none"},
    ]
    server: dict[str, Any] = {}
    for patch in sent[:2]:
        server = merge_patch_of_the_server(server, patch)
    assert server == {"optimiser": {"name": "adam", "args": {"momentum": 0.8}}}


def test_none_is_a_value_and_no_removal() -> None:
    config, sent = document()
    config.update(dropout=None, layers=[None, 1])
    assert sent == [{"dropout": "None", "layers": [None, 1]}]
    assert config["dropout"] is None


def test_what_does_not_fit_is_left_out() -> None:
    config, sent = document(fits=False)
    config["blob"] = "x"
    assert (dict(config), sent) == ({}, [])
