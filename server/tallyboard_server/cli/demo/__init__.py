"""`tallyboard demo`: the main job on real input, a service with trainings that report to it."""

import signal
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.table import Table

from tallyboard_server.cli.demo.compare import Line
from tallyboard_server.cli.demo.process import StartError, interrupt
from tallyboard_server.cli.demo.running import logdir_of, service, train_for_ever, train_once_and_compare
from tallyboard_server.cli.demo.trainings import ExamplesMissingError, check_examples
from tallyboard_server.cli.output import fail, stdout, table

_PAUSE_S: Final = 0.01
"""Wait after each report of the endless demo: about a hundred reports a second, slow enough to watch."""


def demo(
    once: Annotated[bool, typer.Option("--once", help="Train once, compare with TensorBoard, and end.")] = False,
    port: Annotated[int, typer.Option(help="Port; another is taken if it is in use.")] = 6007,
    data_dir: Annotated[Path, typer.Option(help="Where the store lives.")] = Path("tallyboard-data"),
) -> None:
    """Serve, and train on handwritten digits until Ctrl-C: classifiers, and a GAN with two step counters.

    With --once it trains each model once and shows, for each run and counter, how many scalars were sent, are
    stored, and are shown by a real TensorBoard that reads the event files. Exit code 1 if any point differs.
    """
    signal.signal(signal.SIGTERM, interrupt)
    try:
        check_examples()  # before the service says where to look
        with service(port, data_dir) as running:
            if not once:
                for name in train_for_ever(running, _PAUSE_S):
                    stdout.print(f"trained {name}", markup=False)
            lines = train_once_and_compare(running, logdir_of(data_dir))
    except (StartError, ExamplesMissingError) as error:
        fail(f"demo: {error}")
    except KeyboardInterrupt:
        stdout.print("stopped")
        return
    stdout.print(as_table(lines))
    if differing := [line for line in lines if line.difference]:
        first = differing[0]
        fail(f"demo: {len(differing)} of {len(lines)} differ; the first is {first.run}, {first.difference}")
    stdout.print("the same points everywhere: sent, stored, and shown by TensorBoard (there as float32)")


def as_table(lines: list[Line]) -> Table:
    """The comparison, one row per run and counter; numbers count scalars."""
    shown = table("run", "counter", "sent", "stored", "TensorBoard", "", right=("sent", "stored", "TensorBoard"))
    for line in lines:
        counts = (f"{number:,}" for number in (line.sent, line.stored, line.shown))
        shown.add_row(line.run, line.counter, *counts, "✗" if line.difference else "✓")
    return shown
