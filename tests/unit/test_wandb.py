"""`tallyboard.integrations.wandb`: steps, step metrics, values and arguments, each rule by itself."""

import argparse
import datetime
import math
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tallyboard
from tallyboard import lifecycle, start
from tallyboard.errors import InvalidReportError
from tallyboard.integrations import wandb
from tallyboard.integrations.wandb import telling
from tallyboard.integrations.wandb.media import Histogram, Image, Table
from tallyboard.integrations.wandb.metrics import Aggregate, Definitions, Metric, counter_of
from tallyboard.integrations.wandb.opening import keywords, run_name, with_environment
from tallyboard.integrations.wandb.rows import Row, Rows
from tallyboard.integrations.wandb.running import Run
from tallyboard.integrations.wandb.values import IMAGES_MAX, sort
from tallyboard.summaries.histograms import counted_blob
from tests.unit.client_kit import Clock, Ears, Recorded, ScriptedTransport, recorded


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the code is told, each test anew."""
    ears = Ears()
    monkeypatch.setattr(telling, "_notices", ears)
    monkeypatch.setattr(telling, "_said", set())
    return ears.heard


class Logging:
    """A run on a recorder, and what it has recorded."""

    def __init__(self, *, strict: bool = False, **asked: Any) -> None:
        self.recorded: Recorded = recorded(strict=strict)
        self.tallyboard = self.recorded.run
        self.clock = Clock()
        self.run = Run(self.tallyboard, asked=asked, clock=self.clock)

    def rows(self) -> list[tuple[str, int, dict[str, float]]]:
        return [(counter, step, scalars) for counter, step, scalars, _ in self.recorded.rows()]


# ── steps ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def all_of(rows: Rows, *calls: tuple[dict[str, Any], Any, bool | None]) -> list[tuple[Any, Mapping[str, Any]]]:
    found = [row for call in calls for row in rows.add(*call)]
    return [(row.step, row.values) for row in [*found, *rows.take()]]


def test_steps_begin_at_0_and_a_call_ends_one() -> None:
    rows = Rows(0)
    assert all_of(rows, ({"a": 1}, None, None), ({"a": 2}, None, None)) == [(0, {"a": 1}), (1, {"a": 2})]
    assert rows.step == 2
    assert all_of(Rows(7), ({"a": 1}, None, None)) == [(7, {"a": 1})]


def test_what_is_not_committed_is_filled_in() -> None:
    rows = Rows(0)
    calls = (({"a": 1, "b": 1}, None, False), ({"b": 2}, None, None), ({"c": 3}, None, True), ({"d": 4}, None, False))
    assert all_of(rows, *calls) == [(0, {"a": 1, "b": 2}), (1, {"c": 3}), (2, {"d": 4})]


def test_a_step_that_is_named_goes_on_until_a_later_one() -> None:
    rows = Rows(0)
    calls = (({"a": 1}, 5, None), ({"a": 2, "b": 1}, 5, None), ({"a": 3}, 6, True), ({"c": 1}, None, None))
    assert all_of(rows, *calls) == [(5, {"a": 2, "b": 1}), (6, {"a": 3}), (7, {"c": 1})]
    assert rows.step == 8
    assert rows.add({"a": 1}, np.int64(9), None) == []
    assert rows.add({"a": 1}, 10.0, None) == [Row(9, {"a": 1})]


def test_an_earlier_step_comes_out_for_the_contract_to_refuse() -> None:
    rows = Rows(0)
    rows.add({"a": 1}, 5, None)
    assert rows.add({"b": 1}, 3, None) == [Row(5, {"a": 1}), Row(3, {"b": 1})]
    assert rows.add({"c": 1}, "x", None) == [Row("x", {"c": 1})]
    assert (rows.step, rows.take()) == (5, [])


def test_the_contract_says_what_it_refuses_and_the_training_goes_on() -> None:
    logging = Logging()
    for step in (5, 3, 6):
        logging.run.log({"a": float(step)}, step=step)
    logging.run.log({"a": 1.0}, step="soon")  # type: ignore[arg-type]
    logging.run.log([1])  # type: ignore[arg-type]
    logging.run.log({"text": "x", "b": object(), 3: 4.0})  # type: ignore[dict-item]
    logging.run.finish()
    assert [row for row in logging.rows() if row[1] != 3] == [
        ("global_step", 5, {"a": 5.0}),
        ("global_step", 6, {"a": 6.0}),
    ]
    heard = " ".join(logging.recorded.ears.heard)
    for said in ("goes back: step 3 after step 5", "'soon' is not a step", "not list", "'b' is object", "tag 3 is no"):
        assert said in heard
    strict = Logging(strict=True)
    strict.run.log({"a": 1.0}, step=5)
    with pytest.raises(tallyboard.StepDecreasedError):
        strict.run.log({"a": 1.0}, step=3)


# ── step metrics ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_key_counts_on_its_step_metric_and_both_tell_of_each_other() -> None:
    logging = Logging()
    logging.run.define_metric("val/*", step_metric="epoch")
    for epoch in range(2):
        logging.run.log({"loss": 0.5})
        logging.run.log({"loss": 0.25, "epoch": epoch, "val/acc": 0.9})
    logging.run.log({"val/late": 1.0})  # the last epoch counts, as with wandb's step_sync
    assert sorted(logging.recorded.rows(), key=lambda row: (row[0], row[1], "val/late" in row[2])) == [
        ("epoch", 0, {"val/acc": 0.9}, {"global_step": 1}),
        ("epoch", 1, {"val/acc": 0.9}, {"global_step": 3}),
        ("epoch", 1, {"val/late": 1.0}, {"global_step": 4}),
        ("global_step", 0, {"loss": 0.5}, {}),
        ("global_step", 1, {"loss": 0.25, "epoch": 0.0}, {"epoch": 0}),
        ("global_step", 2, {"loss": 0.5}, {"epoch": 0}),
        ("global_step", 3, {"loss": 0.25, "epoch": 1.0}, {"epoch": 1}),
    ]


def test_before_its_first_value_a_step_metric_counts_as_0() -> None:
    logging = Logging()
    logging.run.define_metric("acc", step_metric="epoch")
    logging.run.log({"acc": 0.1})
    logging.run.log({"epoch": 1, "acc": 0.2})
    assert [row for row in logging.rows() if "acc" in row[2]] == [
        ("epoch", 0, {"acc": 0.1}),
        ("epoch", 1, {"acc": 0.2}),
    ]


def test_an_epoch_that_comes_again_or_goes_back_is_for_the_contract() -> None:
    logging = Logging()
    logging.run.define_metric("acc", step_metric="epoch")
    for epoch, acc in ((1, 0.5), (1, 0.5), (1, 0.75), (3, 0.9), (2, 0.8), (4, 1.0)):
        logging.run.log({"epoch": epoch, "acc": acc})
    heard = logging.recorded.ears.heard
    assert len(heard) == 2
    assert "'acc' was reported at epoch 1 already, with another value" in heard[0]
    assert "epoch goes back: step 2 after step 3" in heard[1]
    assert logging.tallyboard.stats().violations == 2
    assert [row[1] for row in logging.rows() if row[0] == "global_step"] == [0, 1, 2, 3, 4, 5]


def test_a_step_metric_that_is_no_whole_number_leaves_its_keys_on_wandbs_steps(told: list[str]) -> None:
    logging = Logging()
    logging.run.define_metric("*", step_metric="epoch")
    for epoch in (0.5, 1.0):
        logging.run.log({"epoch": epoch, "acc": epoch})
    logging.run.log({"epoch": 2, "new": 1.0})
    logging.run.log({"epoch": 2.5, "new": 2.0, "acc": 2.5})
    assert [row for row in logging.rows() if "acc" in row[2]] == [
        ("global_step", 0, {"epoch": 0.5, "acc": 0.5}),
        ("global_step", 1, {"epoch": 1.0, "acc": 1.0}),
        ("global_step", 3, {"epoch": 2.5, "acc": 2.5}),
    ]
    assert logging.tallyboard.stats().violations == 0
    assert any("'epoch' is not 0, 1, 2, …, so 'acc' counts on wandb's own steps" in said for said in told)
    assert any("so 'new' is left out" in said for said in told)


def test_a_key_goes_on_counting_as_it_began(told: list[str]) -> None:
    logging = Logging()
    logging.run.log({"acc": 0.5})
    logging.run.define_metric("acc", step_metric="epoch")
    logging.run.log({"epoch": 7, "acc": 0.6})
    assert [row[:2] for row in logging.rows()] == [("global_step", 0), ("global_step", 1)]
    assert "'acc' was logged before and goes on counting as it did" in told[0]


@pytest.mark.parametrize("name", ["global_step", "step", "wall_time", "system"])
def test_names_that_are_taken_get_another(name: str) -> None:
    logging = Logging()
    logging.run.define_metric("loss", step_metric=name)
    logging.run.log({name: 4096, "loss": 1.0})
    assert logging.rows() == [("global_step", 0, {name: 4096.0}), (f"metric:{name}", 4096, {"loss": 1.0})]


def test_a_step_metric_that_can_be_no_counter_is_none() -> None:
    assert counter_of("a=b") is None
    logging = Logging()
    logging.run.define_metric("loss", step_metric="a=b")
    logging.run.log({"a=b": 3, "loss": 1.0})
    assert logging.rows() == [("global_step", 0, {"a=b": 3.0, "loss": 1.0})]


def test_exact_names_count_before_patterns_and_the_longest_of_these() -> None:
    definitions = Definitions()
    everything = definitions.define("*", step_metric="step_metric")
    definitions.define("val/*", step_metric=Metric("epoch"))
    definitions.define("val/acc", summary="max")
    definitions.define("we[i]rd?*", step_metric="odd")
    assert definitions.of("train/loss/all") is everything
    assert definitions.of("val/a/b").step_metric == "epoch"
    assert definitions.of("val/acc").step_metric is None
    assert definitions.of("we[i]rd?x").step_metric == "odd"
    assert definitions.of("weirdyx").step_metric == "step_metric"
    assert definitions.of("epoch").step_metric is None  # what others count on counts on wandb's steps
    assert definitions.define("val/acc", step_metric="epoch") == Metric("val/acc", "epoch", ("max",))
    assert definitions.define("val/acc", anew=True) == Metric("val/acc")


def test_a_summary_that_is_none_is_told(told: list[str]) -> None:
    assert Definitions().define("a", summary="min, median").summary == ("min",)
    assert "summary 'median' is none of" in told[0]


def test_aggregates_pass_over_nan() -> None:
    aggregate = Aggregate(Metric("a", summary=("min", "max", "mean", "first", "last", "best", "none"), goal="maximize"))
    assert aggregate.told() == {}
    for value in (2.0, math.nan, -1.0, 5.0):
        aggregate.add(value)
    assert aggregate.told() == {"min": -1.0, "max": 5.0, "mean": 2.0, "first": 2.0, "last": 5.0, "best": 5.0}


def test_the_summary_is_sent_now_and_then_and_at_the_end() -> None:
    logging = Logging()
    logging.run.define_metric("loss", summary="min")
    logging.run.log({"loss": 2.0, "text": "a"})
    assert dict(logging.tallyboard.summary) == {"text": "a"}
    assert logging.run.summary["loss"] == {"min": 2.0}
    logging.clock.advance(10.0)
    logging.run.log({"loss": 1.0, "other": 3.0})
    assert logging.tallyboard.summary["loss"] == {"min": 1.0}
    logging.run.log({"loss": 0.5}, commit=False)
    logging.run.finish()
    assert logging.tallyboard.summary["loss"] == {"min": 0.5}
    assert dict(logging.run.summary) == {"loss": {"min": 0.5}, "text": "a", "other": 3.0}
    assert ("global_step", 2, {"loss": 0.5}) in logging.rows()


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_numbers_of_any_kind_and_of_any_depth() -> None:
    data = {"a": {"b": {"c": 1}, 2: np.float32(0.5)}, "t": True, "one": np.array([3.0]), "n": None, "s": "x", "e": {}}
    found = sort(data)
    assert found.values == {"a.b.c": 1.0, "a.2": 0.5, "t": 1.0, "one": 3.0, "s": "x"}
    assert found.odd == {}


def test_what_changes_afterwards_was_read_before() -> None:
    logging, loss, weights = Logging(), np.array([1.0]), np.zeros(100)
    image = np.zeros((4, 4), dtype=np.uint8)
    logging.run.log({"loss": loss, "weights": weights, "image": wandb.Image(image)}, commit=False)
    loss[0], weights[:], image[:] = 2.0, 1.0, 255
    (row,) = logging.run._counting().take()
    assert row.values["loss"] == 1.0
    assert sum(row.values["weights"].histogram[16:17]) == 100  # all in the middle, where 0 is
    assert row.values["image"].pixels.max() == 0


def test_large_arrays_become_histograms_and_the_rest_is_told(told: list[str]) -> None:
    found = sort(
        {"big": np.arange(33.0), "small": np.arange(32.0), "list": [1, 2], "table": Table(), "x": wandb.Video(1)}
    )
    assert [len(value.bins) for value in found.values.values() if isinstance(value, Histogram)] == [33]
    assert found.odd.keys() == {"small"}
    assert [said.split(" (")[0] for said in told] == [
        "wandb.Video does nothing here",
        "wandb.log: 'list' is left out: list is not kept here",
        "wandb.log: 'table' is left out: Table is not kept here",
        "wandb.log: 'x' is left out: wandb.Video is not kept here",
    ]


def test_a_list_of_images_is_bounded(told: list[str]) -> None:
    found = sort({"many": [Image(np.zeros((2, 2)))] * (IMAGES_MAX + 1)})
    assert len(found.values) == IMAGES_MAX
    assert "the first 108 images are kept" in told[0]


class Tensor:
    """What torch's tensors have of arrays."""

    def __init__(self, array: Any) -> None:
        self._array = array
        self.shape, self.dtype = array.shape, array.dtype

    def permute(self, *axes: int) -> "Tensor":
        return Tensor(self._array.transpose(*axes))

    def __array__(self, *_: Any, **__: Any) -> Any:
        return self._array


def test_images_of_every_origin(tmp_path: Path, told: list[str]) -> None:
    from matplotlib.figure import Figure
    from PIL import Image as pillow  # noqa: N813 - a module named as a class

    pillow.new("P", (3, 2)).save(tmp_path / "a.png")
    figure = Figure(figsize=(0.2, 0.1), dpi=100)
    images = {
        "CHW": Image(Tensor(np.zeros((3, 4, 5)))), "HWC": Image(np.zeros((4, 5, 3, 1))), "HW": Image([[0, 1], [2, 3]]),
        "figure": Image(figure), "file": Image(tmp_path / "a.png"), "pil": Image(pillow.new("CMYK", (3, 2)), mode="L"),
        "again": Image(Image(np.zeros((2, 2)))),
    }  # fmt: skip
    shapes = {name: (image.layout, image.pixels.shape) for name, image in images.items() if image.pixels is not None}
    assert shapes == {
        "CHW": ("CHW", (3, 4, 5)), "HWC": ("HWC", (4, 5, 3)), "HW": ("HW", (2, 2)), "figure": ("HWC", (10, 20, 4)),
        "file": ("HWC", (2, 3, 3)), "pil": ("HW", (2, 3)), "again": ("HW", (2, 2)),
    }  # fmt: skip
    for image in images.values():
        assert image.blob().kind == "images"
    assert told == []
    assert Image(np.array([[0.0, 255.0]])).pixels.max() == 1.0  # type: ignore[union-attr]
    lost = Image(tmp_path / "none.png", boxes={})
    assert "wandb.Image: boxes not kept" in told[0]
    assert "wandb.Image: can't be read and is left out" in told[1]
    with pytest.raises(InvalidReportError):
        lost.blob()


def test_histograms_are_counted_at_once_or_already(told: list[str]) -> None:
    counted = Histogram([1.0, 2.0, math.nan, math.inf, 4.0], num_bins=3)
    assert (counted.histogram, counted.bins) == ([1, 1, 1], [1.0, 2.0, 3.0, 4.0])
    assert len(Histogram(range(10_000), num_bins=10_000).histogram) == 512
    ready = Histogram(np_histogram=np.histogram([0, 1, 1], bins=2))
    assert (ready.histogram, ready.bins) == ([1, 2], [0.0, 0.5, 1.0])
    assert ready.blob().kind == "histograms"
    assert told == []
    with pytest.raises(InvalidReportError):
        Histogram("nonsense").blob()
    assert "can't be counted and is left out" in told[0]
    for counts, edges in (([1], [0.0]), ([1, 2], [0.0, 1.0]), ([-1], [0.0, 1.0])):
        with pytest.raises(InvalidReportError):
            counted_blob(counts, edges)


def test_a_table_is_filled_as_ever() -> None:
    table = Table(columns=["a"], data=[[1], [2]])
    table.add_data(3)
    table.add_column("b", [4, 5, 6])
    assert (table.columns, table.data, table.get_column("b")) == (["a", "b"], [[1, 4], [2, 5], [3, 6]], [4, 5, 6])
    frame = SimpleNamespace(columns=["x"], to_numpy=lambda: np.array([[1], [2]]))
    assert Table(dataframe=frame).data == [[1], [2]]


class Hostile:
    """A foreign object that can't even be asked."""

    def __getattr__(self, name: str) -> Any:
        raise ZeroDivisionError(name)


def test_a_foreign_value_never_stops_the_training(told: list[str]) -> None:
    logging = Logging()
    logging.run.log({"loss": 1.0, "odd": Hostile()})
    logging.run.log({"loss": 2.0})
    assert [row[2] for row in logging.rows()] == [{"loss": 2.0}]
    assert "left out by an error inside the client: ZeroDivisionError" in told[0]


# ── config and summary ───────────────────────────────────────────────────────────────────────────────────────────────


def test_config_by_key_and_by_attribute() -> None:
    config = Logging().run.config
    config.lr = 0.1
    config["net"] = {"depth": 3}
    config.update(argparse.Namespace(lr=0.2), allow_val_change=True)
    config.update(SimpleNamespace(flag_values_dict=lambda: {"seed": 1}))
    config.update(config)
    config.setdefaults({"lr": 9, "new": 2})
    assert config.as_dict() == {"lr": 0.2, "net": {"depth": 3}, "seed": 1, "new": 2}
    assert (config.lr, config.net["depth"], config.get("none"), "seed" in config) == (0.2, 3, None, True)
    del config.seed
    with pytest.raises(AttributeError, match="seed"):
        _ = config.seed
    assert repr(config) == "{'lr': 0.2, 'net': {'depth': 3}, 'new': 2}"


# ── arguments ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("project", "name", "expected"),
    [
        ("pets", "try 1", "pets/try 1"),
        ("pets", "a/b\\c", "pets/a/b/c"),
        ("pets", "../.hidden/ x\n", "pets/hidden/x_"),
        ("p", "x" * 600, "p/" + "x" * 200),
        (None, "try1", "train/try1"),
        ("pets", None, r"pets/[a-z]+-[a-z]+-\d{4}"),
        (None, None, None),
    ],
)
def test_names_become_names_of_runs(
    project: str | None, name: str | None, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py"])
    found = run_name(project, name)
    assert found is None if expected is None else found == expected or re.fullmatch(expected, found or "") is not None


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"id": "x7", "name": "nice", "resume": "allow"}, {"name": "p/x7", "notes": "nice", "resume": "continue"}),
        ({"id": "x7", "name": "nice", "notes": "mine"}, {"name": "p/x7", "notes": "mine", "resume": "new"}),
        ({"name": "nice", "resume": "allow"}, {"name": "p/nice", "notes": None, "resume": "new"}),
        ({"name": "nice", "resume": "must"}, {"name": "p/nice", "resume": "must"}),
        ({"id": "x7", "resume": True}, {"resume": "continue"}),
        ({"id": "x7", "resume": "auto"}, {"resume": "continue"}),
        ({"id": "x7", "resume": "never"}, {"resume": "new"}),
        ({"resume": "x7"}, {"name": "p/x7", "resume": "continue"}),
        (
            {"name": "a", "mode": "shared", "tags": "x,y", "job_type": "eval"},
            {"mode": "online", "tags": ("x", "y", "job_type:eval")},
        ),
        (
            {"name": "a", "mode": "dryrun", "tags": ["x"], "group": "g"},
            {"mode": "offline", "tags": ("x",), "group": "g"},
        ),
        ({"name": "a"}, {"mode": None, "config": {}}),
        ({"name": "a", "config": {"a": 1, "b": 2}, "config_exclude_keys": ["a"]}, {"config": {"b": 2}}),
        ({"name": "a", "config": {"a": 1, "b": 2}, "config_include_keys": ["a"]}, {"config": {"a": 1}}),
    ],
)
def test_arguments_become_those_of_init(asked: dict[str, Any], expected: dict[str, Any]) -> None:
    found = keywords({"project": "p", **asked})
    assert {name: found[name] for name in expected} == expected


def test_a_config_may_be_a_file_and_what_is_none_is_told(tmp_path: Path, told: list[str]) -> None:
    (tmp_path / "good.yaml").write_text("wandb_version: 1\nlr:\n  value: 0.1\n  desc: rate\nplain: 3\n")
    (tmp_path / "bad.yaml").write_text("a: [1")
    (tmp_path / "list.yaml").write_text("- 1")
    assert keywords({"config": tmp_path / "good.yaml"})["config"] == {"lr": 0.1, "plain": 3}
    for nothing in (tmp_path / "bad.yaml", tmp_path / "list.yaml", tmp_path / "none.yaml", 3):
        assert keywords({"config": nothing})["config"] == {}
    assert len(told) == 4
    assert all("config is left out" in said for said in told)


def test_the_environment_stands_in_for_what_is_not_said() -> None:
    environ = {"WANDB_PROJECT": "p", "WANDB_NAME": "n", "WANDB_TAGS": "a,b", "WANDB_MODE": "", "WANDB_RUN_ID": "i"}
    asked = with_environment({"project": None, "name": "mine", "tags": None, "mode": None, "id": None}, environ)
    assert asked == {"project": "p", "name": "mine", "tags": "a,b", "mode": None, "id": "i"}


# ── the module ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def transport(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedTransport]:
    monkeypatch.delenv("RANK", raising=False)
    scripted = ScriptedTransport()
    monkeypatch.setattr(start, "HttpTransport", lambda *_, **_options: scripted)
    yield scripted
    wandb.finish()
    lifecycle.finish_active()


def test_before_init_and_after_finish_there_is_no_run(transport: ScriptedTransport, told: list[str]) -> None:
    for use in (lambda: wandb.log({}), lambda: wandb.config.lr, lambda: wandb.summary["a"], lambda: wandb.alert("a")):
        with pytest.raises(wandb.Error, match=r"must call wandb\.init\(\) before wandb\."):
            use()
    wandb.finish()
    run = wandb.init(project="digits", name="try1", config={"lr": 0.1}, settings={}, force=True)
    assert (wandb.run, wandb.config.lr, run.project, run.path) == (run, 0.1, "digits", "digits/try1")
    assert "not used here: force, settings" in told[0]
    assert wandb.init(project="q") is run
    assert wandb.init(project="q", name="m", reinit=True) is not run
    assert run.tallyboard.finished
    wandb.define_metric("a", step_metric="epoch", summary="max")
    wandb.finish(1)
    run.log({"late": 1.0})
    assert wandb.run is None
    assert [batch.status for batch in transport.batches if batch.status] == ["finished", "failed"]


def test_an_exception_fails_the_run(transport: ScriptedTransport) -> None:
    def train() -> None:
        with wandb.init(project="p", name="n") as run:
            run.log({"a": 1.0}, commit=False)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()
    assert [batch.status for batch in transport.batches if batch.status] == ["failed"]
    assert sum(len(columns) for batch in transport.batches for columns in batch.columns) == 1


def test_what_is_absent_does_nothing_and_is_told_once(told: list[str]) -> None:
    with wandb.Artifact("a", type="model").new_file("x") as file:
        file.write("text")
    wandb.run_anything.at.all = 3
    assert list(wandb.plot.line([1], title="t")) == []
    assert wandb.login() is True
    wandb.watch(object())
    wandb.unwatch(object())
    assert len(wandb.util.generate_id()) == 8
    assert [said.split(" (")[0] for said in told] == [
        "wandb.Artifact does nothing here", "wandb.Artifact.new_file does nothing here",
        "wandb.Artifact.new_file.write does nothing here", "wandb.run_anything.at does nothing here",
        "wandb.plot.line does nothing here",
        "wandb.watch does nothing here; log what you want to see of gradients, as numbers or wandb.Histogram",
    ]  # fmt: skip
    with pytest.raises(AttributeError):
        _ = wandb.__wrapped__


@pytest.mark.parametrize("name", ["agent", "sweep", "use_artifact", "Api", "restore"])
def test_what_a_script_cant_go_on_without_is_refused(name: str) -> None:
    with pytest.raises(wandb.Error, match=f"wandb.{name}: "):
        getattr(wandb, name)("x")


def test_a_run_answers_what_scripts_ask(tmp_path: Path, told: list[str]) -> None:
    logging = Logging(id="x7", dir=tmp_path, entity="team", group="g", job_type="t", mode="offline", resume="allow")
    run = logging.run
    assert (run.id, run.name, run.entity, run.group, run.job_type, run.url) == ("x7", "try1", "team", "g", "t", "")
    assert (run.offline, run.disabled, run.resumed) == (True, False, False)
    run.log({"a": 1.0})
    assert (run.step, run.resumed) == (1, False)
    run.name = "other"
    assert "keeps its name" in told[0]
    assert Path(run.dir).is_dir()
    assert Path(run.dir).is_relative_to(tmp_path)
    assert run.dir == run.dir
    run.log_artifact("a")
    assert "wandb.run.log_artifact does nothing here" in told[1]
    with pytest.raises(wandb.Error, match="artifacts"):
        run.use_artifact("a")


def test_alerts_of_one_title_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, str, str]] = []

    def alert(_: tallyboard.Run, title: str, text: str = "", *, level: str = "warn") -> None:
        sent.append((title, text, level))

    monkeypatch.setattr(tallyboard.Run, "alert", alert, raising=False)
    logging = Logging()
    logging.run.alert("low", "acc 0.1", level=wandb.AlertLevel.ERROR)
    logging.run.alert("low", "acc 0.2")
    logging.run.alert("other", "x", "warn")
    logging.clock.advance(60.0)
    logging.run.alert("low", "acc 0.3", "nonsense", wait_duration=datetime.timedelta(minutes=5))
    logging.clock.advance(299.0)
    logging.run.alert("low", "acc 0.4")
    logging.clock.advance(1.0)
    logging.run.alert("low", "acc 0.5", wait_duration=0)
    logging.run.alert("low", "acc 0.6")
    assert [text for _, text, _ in sent] == ["acc 0.1", "x", "acc 0.3", "acc 0.5", "acc 0.6"]
    assert [level for _, _, level in sent] == ["error", "warn", "warn", "info", "info"]


def test_the_package_imports_no_framework() -> None:
    code = (
        "import sys, tallyboard; before = set(sys.modules); import tallyboard.integrations;"
        "print(sorted(set(sys.modules) - before)); from tallyboard.integrations import wandb;"
        "heavy = {'PIL', 'matplotlib', 'yaml', 'wandb', 'torch'};"
        "print(sorted({name.split('.')[0] for name in set(sys.modules) - before} & heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "['tallyboard.integrations']\n[]\n"
