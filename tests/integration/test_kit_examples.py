"""The examples of the training kit against a live service: every curve is there, on exactly the axes that it says."""

import re
from typing import Any

import pytest

import tallyboard
from tallyboard.schedules import cosine_decay, exponential_decay
from tallyboard_server.cli.demo.trainings import load_example
from tests.service import RunningService

pytestmark = pytest.mark.timeout(240)
GENERATOR_STEPS = 25


def series(service: RunningService, run: str, tag: str, x: str) -> Any:
    """The one curve of a tag over an x axis."""
    (found,) = service.get(f"/scalars?run={run}&tag={tag}&x={x}").json()["series"]
    return found


def axis(service: RunningService, run: str, tag: str, x: str) -> list[int]:
    """The places of a tag's points on an axis, which their reports themselves told."""
    found = series(service, run, tag, x)
    assert found["x_source"] == "recorded"
    places = found["points"]["x"]
    assert isinstance(places, list)
    return places


@pytest.fixture(scope="module")
def wgan(service: RunningService) -> str:
    """The name of a run in which a short WGAN was trained."""
    example = load_example("digits_wgan")
    with tallyboard.init("test/wgan", url=service.url, strict=True) as run:
        before, after = example.train(run, generator_steps=GENERATOR_STEPS)
        assert 0.0 < after < before
    assert (run.stats().refused, run.stats().dropped_reports, run.stats().dropped_scalars) == (0, 0, 0)
    return run.name


def test_either_loss_is_drawn_over_either_counter(service: RunningService, wgan: str) -> None:
    critic_steps = [25] * 11 + [5] * (GENERATOR_STEPS - 11)
    total = sum(critic_steps)
    before_each = [g for g, steps in enumerate(critic_steps) for _ in range(steps)]
    until_each = [sum(critic_steps[: g + 1]) for g in range(GENERATOR_STEPS)]
    assert axis(service, wgan, "D/loss", "G_global_step") == before_each
    assert axis(service, wgan, "G/loss", "D_global_step") == until_each
    own = list(range(1, total + 1)), list(range(1, GENERATOR_STEPS + 1))
    assert [step for step, _ in service.points(wgan, "D/loss")] == own[0]
    assert [step for step, _ in service.points(wgan, "G/loss")] == own[1]
    assert series(service, wgan, "D/loss", "D_global_step")["points"]["x"] == own[0]
    assert series(service, wgan, "G/loss", "G_global_step")["points"]["x"] == own[1]


def test_the_lines_that_the_example_shows_are_these_axes(service: RunningService, wgan: str) -> None:
    shown = re.findall(r"curl 'localhost:6007(/\S+)'", load_example("digits_wgan").__doc__ or "")
    found = [service.request("GET", path.replace("digits/wgan", wgan)).json() for path in shown]
    over = [(series["tag"], answer["x"], series["x_source"]) for answer in found for series in answer["series"]]
    assert over == [("D/loss", "G_global_step", "recorded"), ("G/loss", "D_global_step", "recorded")]


def test_each_network_has_its_schedule_on_its_counter(service: RunningService, wgan: str) -> None:
    rate = exponential_decay(3e-3, decay_steps=2000, decay_rate=0.5)
    total = 25 * 11 + 5 * (GENERATOR_STEPS - 11)
    assert service.points(wgan, "D/learning_rate") == [(step, rate(step)) for step in range(1, total + 1)]
    assert service.points(wgan, "G/learning_rate") == [(step, rate(step)) for step in range(1, GENERATOR_STEPS + 1)]
    every_tenth = list(range(1, total + 1, 10))
    for tag in ("D/gradients/hidden/w/norm", "D/gradients/output/b/mean_norm", "D/gradients/global_norm"):
        assert [step for step, _ in service.points(wgan, tag)] == every_tenth
    assert [step for step, _ in service.points(wgan, "G/distance")] == [1, 21]


def test_a_scheduled_training_reports_rate_norms_and_epochs(service: RunningService) -> None:
    example = load_example("digits_schedule")
    with tallyboard.init("test/schedule", url=service.url, strict=True) as run:
        accuracy = example.train(run, epochs=4)
    assert accuracy > 0.9
    steps = range(1, 4 * 45 + 1)
    rate = cosine_decay(example.INITIAL, decay_steps=len(steps))
    assert service.points(run.name, "learning_rate") == [(step, rate(step)) for step in steps]
    losses = dict(service.points(run.name, "train/loss"))
    assert list(losses) == list(steps)
    norms = service.points(run.name, "gradients/global_norm")
    assert [step for step, _ in norms] == list(steps)[::10]
    epochs = service.points(run.name, "epoch/loss")
    # 1,437 images in 45 batches: 42 of 32, and 3 of 31.
    sizes = [32] * 42 + [31] * 3
    for epoch, mean in epochs:
        weighted = [size * losses[step] for size, step in zip(sizes, steps[(epoch - 1) * 45 : epoch * 45], strict=True)]
        assert mean == pytest.approx(sum(weighted) / 1437)
    assert [epoch for epoch, _ in epochs] == [1, 2, 3, 4]
    averaged = service.points(run.name, "val/accuracy_averaged")
    assert averaged[-1] == (4, accuracy)
    assert [epoch for epoch, _ in service.points(run.name, "val/accuracy")] == [1, 2, 3, 4]
    assert service.get(f"/runs/{run.name}").json()["summary"] == {"val/accuracy_averaged": accuracy}
