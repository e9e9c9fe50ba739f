"""Progress of a run on stderr: rich on a terminal, a line now and then elsewhere."""

import sys
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from inklab.cli.app import info
from inklab.results.phrases import pluralize
from inklab.study.executor import Event

PROBING = "looking at what this machine does fast (once, about 40 s)"


def progress() -> "AbstractContextManager[Any]":
    """A watcher for the driver, as a context."""
    return _RichProgress() if sys.stderr.isatty() else _PlainProgress()


def duration(seconds: float | int) -> str:
    """Seconds as a person says them.

    Example:
        >>> duration(42), duration(130), duration(7300)
        ('42 s', '2 min 10 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class _PlainProgress:
    """A line when a job ends."""

    def __enter__(self) -> "_PlainProgress":
        self.began = time.monotonic()
        self.left = 0
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, event: Event, job: dict[str, Any]) -> None:
        if event.kind == "probing":
            info(PROBING)
        elif event.kind == "planned":
            info(_planned(event.value))
        elif event.kind == "warned":
            info(f"{job['label']}: {event.value}")
        elif event.kind in ("done", "failed", "lost", "retried"):
            reason = f": {_last_line(event.value)}" if event.kind != "done" else ""
            info(f"[{duration(time.monotonic() - self.began):>8}] {event.kind} {job['label']}{reason}")


class _RichProgress:
    """A bar for everything and one for each job that runs."""

    def __enter__(self) -> "_RichProgress":
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self.bars = Progress(
            TextColumn("{task.description}"), BarColumn(24),
            TextColumn("{task.fields[said]}"), TimeElapsedColumn(),
            console=Console(stderr=True), transient=False,
        )  # fmt: skip
        self.bars.start()
        self.whole = self.bars.add_task("[bold]planning", total=None, said="")
        self.tasks: dict[str, Any] = {}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def __call__(self, event: Event, job: dict[str, Any]) -> None:
        if event.kind == "probing":
            self.bars.console.print(PROBING)
        elif event.kind == "planned":
            self.bars.console.print(_planned(event.value))
            total = event.value["trials"] + event.value["evaluations"]
            self.bars.update(
                self.whole,
                description="[bold]all",
                total=max(total, 1),
                completed=0 if total else 1,
                said=f"0 of {total}",
            )
        elif event.kind == "started":
            self.tasks[event.job] = self.bars.add_task(f"  {job['label']}", total=None, said="")
        elif event.kind == "epoch":
            epoch, epochs, loss = event.value
            self.bars.update(
                self.tasks[event.job],
                total=epochs,
                completed=epoch,
                said=f"epoch {epoch} of {epochs}, loss {loss:.4f}",
            )
        elif event.kind == "warned":
            self.bars.console.print(f"{job['label']}: {event.value}", markup=False)
        else:
            self._ended(event, job)

    def _ended(self, event: Event, job: dict[str, Any]) -> None:
        self.bars.remove_task(self.tasks.pop(event.job))
        if event.kind != "done":
            self.bars.console.print(f"{event.kind} {job['label']}: {_last_line(event.value)}", markup=False)
        if event.kind != "retried":
            self.bars.advance(self.whole, len(job.get("trials", [0])))
            task = next(task for task in self.bars.tasks if task.id == self.whole)
            self.bars.update(
                self.whole, said=f"{task.completed:.0f} of {task.total:.0f}" if task.total else ""
            )


def _planned(left: dict[str, Any]) -> str:
    if not left["trials"] + left["evaluations"]:
        return "everything is there already"
    return f"to do: {to_do(left)}; about {duration(left['seconds'])}"


def to_do(left: dict[str, Any]) -> str:
    """What an estimate counts, in words."""
    groups = f"{pluralize(left['trials'], 'trial')} in {pluralize(left['populations'], 'group')}"
    return f"{groups}, {pluralize(left['evaluations'], 'evaluation')}"


def _last_line(reason: object) -> str:
    return str(reason).strip().splitlines()[-1]
