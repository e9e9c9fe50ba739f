"""Progress of a run on stderr: bars on a terminal, a line for each job elsewhere."""

import sys
import time

from inklab.cli.console import info
from inklab.format import format_duration, format_number, pluralize
from inklab.study.jobs import (
    Done,
    EpochEnded,
    Event,
    Failed,
    Lost,
    Planned,
    Probing,
    Retried,
    Started,
    Warned,
)
from inklab.study.resources import Cost

PROBING = "measuring the speed of this machine (once, about 40 s)"


class ProgressDisplay:
    """Shows events while it is entered: a line when a job ends."""

    def __enter__(self) -> "ProgressDisplay":
        self._started_at = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, event: Event) -> None:
        """Show an event."""
        match event:
            case Probing():
                info(PROBING)
            case Planned():
                info(_describe_plan(event.estimate))
            case Warned():
                info(f"{event.job.label}: {event.message}")
            case Done() | Failed() | Lost() | Retried():
                elapsed = format_duration(time.monotonic() - self._started_at)
                info(f"[{elapsed:>8}] {_describe_end(event)}")


class _RichProgress(ProgressDisplay):
    """A bar for all of it and one for each job that runs."""

    def __enter__(self) -> "_RichProgress":
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

        self._bars = Progress(
            TextColumn("{task.description}"), BarColumn(24),
            TextColumn("{task.fields[note]}"), TimeElapsedColumn(),
            console=Console(stderr=True), transient=False,
        )  # fmt: skip
        self._bars.start()
        self._total = self._bars.add_task("[bold]planning", total=None, note="")
        self._tasks: dict[str, TaskID] = {}
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def __call__(self, event: Event) -> None:
        match event:
            case Probing():
                self._print(PROBING)
            case Planned():
                self._set_total(event.estimate)
            case Started():
                self._tasks[event.job.name] = self._bars.add_task(f"  {event.job.label}", total=None, note="")
            case EpochEnded():
                loss = format_number(event.train_loss)
                note = f"epoch {event.epoch} of {event.epochs}, loss {loss}"
                task = self._tasks[event.job.name]
                self._bars.update(task, total=event.epochs, completed=event.epoch, note=note)
            case Warned():
                self._print(f"{event.job.label}: {event.message}")
            case Done() | Failed() | Lost() | Retried():
                self._end(event)

    def _print(self, text: str) -> None:
        self._bars.console.print(text, markup=False)

    def _set_total(self, cost: Cost) -> None:
        self._print(_describe_plan(cost))
        n = cost.trials + cost.evaluations
        completed = 0 if n else 1
        self._bars.update(
            self._total, description="[bold]all", total=max(n, 1), completed=completed, note=f"0 of {n}"
        )

    def _end(self, event: Done | Failed | Lost | Retried) -> None:
        if (bar := self._tasks.pop(event.job.name, None)) is not None:  # a blocked job never started
            self._bars.remove_task(bar)
        if not isinstance(event, Done):
            self._print(_describe_end(event))
        if event.is_terminal:
            self._bars.advance(self._total, len(event.job.ids))
            task = next(task for task in self._bars.tasks if task.id == self._total)
            note = f"{task.completed:.0f} of {task.total:.0f}" if task.total else ""
            self._bars.update(self._total, note=note)


def progress_display() -> ProgressDisplay:
    """Bars if stderr is a terminal, else plain lines."""
    return _RichProgress() if sys.stderr.isatty() else ProgressDisplay()


def describe_cost(cost: Cost) -> str:
    """What is still to be done, in words.

    Example:
        >>> describe_cost(Cost(trials=1, evaluations=2, populations=1, seconds=3.0, bytes=4.0))
        '1 trial in 1 group, 2 evaluations'
    """
    groups = f"{pluralize(cost.trials, 'trial')} in {pluralize(cost.populations, 'group')}"
    return f"{groups}, {pluralize(cost.evaluations, 'evaluation')}"


def _describe_plan(cost: Cost) -> str:
    if not cost.trials + cost.evaluations:
        return "everything is done already"
    return f"to do: {describe_cost(cost)}; about {format_duration(cost.seconds)}"


def _describe_end(event: Done | Failed | Lost | Retried) -> str:
    state = type(event).__name__.lower()
    reason = "" if isinstance(event, Done) else f": {event.reason.strip().splitlines()[-1]}"
    return f"{state} {event.job.label}{reason}"
