"""Progress of a run: bars on a terminal, an updating display in a notebook, a line for each job elsewhere."""

import html
import importlib
import sys
import time
from typing import Any

from inklab.format import format_duration, format_number, pluralize, printable
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

NOTEBOOK_SECONDS = 0.5
"""Between two updates of a notebook's display: each is a message that the notebook stores and draws."""


class ProgressDisplay:
    """Shows events while it is entered: a line on stderr when a job ends."""

    def __init__(self) -> None:
        self._diagnoses: set[tuple[str, str]] = set()

    def __enter__(self) -> "ProgressDisplay":
        self._started_at = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, event: Event) -> None:
        """Show an event."""
        match event:
            case Probing():
                self.note(PROBING)
            case Planned():
                self.note(_describe_plan(event.estimate))
            case Warned():
                self._warn(event)
            case Done() | Failed() | Lost() | Retried():
                elapsed = format_duration(time.monotonic() - self._started_at)
                self.note(f"[{elapsed:>8}] {_describe_end(event)}")

    def _warn(self, event: Warned) -> None:
        """Show a warning; a diagnosis once for each experiment, since the report counts them."""
        experiment, name = event.job.label.partition(":")[0], event.message.partition(":")[0]
        if name.startswith("diagnosis "):
            if (experiment, name) in self._diagnoses:
                return
            self._diagnoses.add((experiment, name))
        self.note(f"{event.job.label}: {event.message}")

    def note(self, text: str) -> None:
        """Show a line."""
        sys.stderr.write(f"{printable(text)}\n")
        sys.stderr.flush()


class SilentProgress(ProgressDisplay):
    """Shows nothing."""

    def __call__(self, event: Event) -> None:
        """Ignore an event."""

    def note(self, text: str) -> None:
        """Ignore a line."""


class TerminalProgress(ProgressDisplay):
    """A bar for all of the run and one for each job that runs."""

    def __enter__(self) -> "TerminalProgress":
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
        """Show an event."""
        match event:
            case Planned():
                self._set_total(event.estimate)
            case Started():
                self._tasks[event.job.name] = self._bars.add_task(f"  {event.job.label}", total=None, note="")
            case EpochEnded():
                task = self._tasks[event.job.name]
                self._bars.update(
                    task, total=event.epochs, completed=event.epoch, note=_describe_epoch(event)
                )
            case Done() | Failed() | Lost() | Retried():
                self._end(event)
            case _:
                super().__call__(event)

    def note(self, text: str) -> None:
        """Show a line above the bars."""
        self._bars.console.print(printable(text), markup=False)

    def _set_total(self, cost: Cost) -> None:
        self.note(_describe_plan(cost))
        n = cost.trials + cost.evaluations
        completed = 0 if n else 1
        self._bars.update(
            self._total, description="[bold]all", total=max(n, 1), completed=completed, note=f"0 of {n}"
        )

    def _end(self, event: Done | Failed | Lost | Retried) -> None:
        if (bar := self._tasks.pop(event.job.name, None)) is not None:  # a blocked job never started
            self._bars.remove_task(bar)
        if not isinstance(event, Done):
            self.note(_describe_end(event))
        if event.is_terminal:
            self._bars.advance(self._total, len(event.job.ids))
            task = next(task for task in self._bars.tasks if task.id == self._total)
            note = f"{task.completed:.0f} of {task.total:.0f}" if task.total else ""
            self._bars.update(self._total, note=note)


class NotebookProgress(ProgressDisplay):
    """One display in a notebook, updated at most twice a second: a bar, the jobs that run, and notes."""

    def __enter__(self) -> "NotebookProgress":
        super().__enter__()
        self._notes: list[str] = []
        self._jobs: dict[str, tuple[str, EpochEnded | None]] = {}
        self._n = self._completed = 0
        self._drawn_at = 0.0
        self._handle = _ipython_display().display(self._html(), display_id=True)
        return self

    def __exit__(self, *error: object) -> None:
        if KeyboardInterrupt in error:
            self._notes.append("interrupted; what is finished is kept. Run the same cell again to continue")
        self._jobs.clear()
        self._draw(now=True)

    def __call__(self, event: Event) -> None:
        """Show an event."""
        match event:
            case Planned():
                self._n = event.estimate.trials + event.estimate.evaluations
                self._notes.append(_describe_plan(event.estimate))
            case Started():
                self._jobs[event.job.name] = (event.job.label, None)
            case EpochEnded():
                self._jobs[event.job.name] = (event.job.label, event)
            case Done() | Failed() | Lost() | Retried():
                self._jobs.pop(event.job.name, None)
                self._completed += len(event.job.ids) if event.is_terminal else 0
                if not isinstance(event, Done):
                    self._notes.append(_describe_end(event))
            case _:
                super().__call__(event)
        self._draw(now=not isinstance(event, EpochEnded))

    def note(self, text: str) -> None:
        """Show a line below the bar."""
        self._notes.append(text)
        self._draw(now=True)

    def _draw(self, *, now: bool = False) -> None:
        if now or time.monotonic() - self._drawn_at >= NOTEBOOK_SECONDS:
            self._drawn_at = time.monotonic()
            self._handle.update(self._html())

    def _html(self) -> Any:
        elapsed = format_duration(time.monotonic() - self._started_at)
        value = f'value="{self._completed}" max="{max(self._n, 1)}"' if self._notes else ""
        lines = [
            f'<progress {value} style="width: 16em; vertical-align: middle"></progress> '
            f"{self._completed} of {self._n}, {elapsed}"
        ]
        for label, epoch in self._jobs.values():
            lines.append(html.escape(f"{label}: {_describe_epoch(epoch)}" if epoch else label))
        lines += [f"<small>{html.escape(printable(note))}</small>" for note in self._notes]
        return _ipython_display().HTML('<div style="line-height: 1.5">' + "<br>".join(lines) + "</div>")


def progress_display(show: bool | None = None) -> ProgressDisplay:
    """The display that suits where the program runs.

    Args:
        show: False shows nothing; else one display in a notebook, bars on a terminal, lines elsewhere.
    """
    if show is False:
        return SilentProgress()
    if is_notebook():
        return NotebookProgress()
    return TerminalProgress() if sys.stderr.isatty() else ProgressDisplay()


def is_notebook() -> bool:
    """Whether this is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")


def _ipython_display() -> Any:
    """`IPython.display`, which has no types; only a notebook calls this."""
    return importlib.import_module("IPython.display")


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


def _describe_epoch(event: EpochEnded) -> str:
    return f"epoch {event.epoch} of {event.epochs}, loss {format_number(event.train_loss)}"


def _describe_end(event: Done | Failed | Lost | Retried) -> str:
    state = type(event).__name__.lower()
    reason = "" if isinstance(event, Done) else f": {event.reason.strip().splitlines()[-1]}"
    return f"{state} {event.job.label}{reason}"
