"""Progress bars on standard error."""

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from hub.edge.output import err
from streams.ledger import Idle


def progress() -> Progress:
    """Bars on standard error, of what is left per stage."""
    columns = (TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=err, transient=True)


def show_left(bars: Progress, left: Idle) -> None:
    """Bring the bars in line with what is left: a bar is full when its stage has caught up with the most it ever lagged."""
    for name, waiting in {**left.lag, "deliver": left.queued}.items():
        known = [t for t in bars.tasks if t.description == name]
        task = known[0].id if known else bars.add_task(name, total=0)
        total = max(int(known[0].total or 0) if known else 0, waiting)
        bars.update(task, total=total, completed=total - waiting)
