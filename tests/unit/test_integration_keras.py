"""The Keras integration without Keras: what it says."""

import importlib
import sys

import pytest


def test_without_keras_it_says_which_extra_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keras", None)
    monkeypatch.delitem(sys.modules, "tallyboard.integrations.keras", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'tallyboard\[keras\]'"):
        importlib.import_module("tallyboard.integrations.keras")
