"""A run on one screen: a panel a student, who waits for whom, what was published, last notes.

Enters: a RunState and the screen's size. Leaves: a rich renderable of no more lines than the
screen has, none of them wider than it. Panels become shorter, then one line a student, then a count
of those that train least, as students become more or the screen lower; what is not known is not
shown.

    ╭─ resnet18  distil 3/4 in cycle 2 ──────────────────────────────────────────╮
    │ epoch 11/24   45 %  1,034 img/s  52 s left  ━━━━━━━━━━━━━──────────────── │
    │ loss 0.545  task 0.412  kd 0.133  training 90.0 %  lr 0.1                  │
    │ held-out 95.1 %  best 95.7 % (epoch 9)  ▁▃▅▆▇▇█                            │
    ╰────────────────────────────────────────────────────────────────────────────╯
"""

from collections import Counter
from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from raymd.view.cells import Cell, colours_of, cut, line_of
from raymd.view.state import NOTES, RunState
from raymd.view.student_now import StudentNow
from raymd.view.text import count_of, duration, listed, loss, num_bytes, percent, sparkline

HINT = "Ctrl-C: commit and stop"
LARGE, SMALL = 5, 4  # lines that a student takes
LEAST_BELOW = 3  # lines for waits, bytes and notes, for which panels give way
LONGEST_ID = 20
ID_TAIL = 7  # copies of a network differ in their ids' ends
LONGEST_BAR = 40
LEAST_COURSE = 12
TRAINING = ("independent", "distillation")
BETWEEN_CYCLES = ("starts", "restarted", "queued", "finished")
WORDS = {
    "independent": "alone",
    "distillation": "distil",
    "published": "published, waits for the others",
    "starts": "restores",
    "waits": "waits",
    "queued": "waits for a slot",
}
STYLES = {
    "waits": "yellow",
    "restarted": "yellow",
    "stopped": "yellow",
    "finished": "green",
    "lost": "red",
    "queued": "dim",
}
INTEREST = {"queued": 1, None: 2, "finished": 3}  # the last to be shown where not all can be


def render(
    state: RunState,
    *,
    width: int,
    height: int,
    now: float,
    hint: bool = True,
) -> RenderableType:
    """Draw a run.

    Args:
        state: Where it stands.
        width, height: The room, in columns and lines.
        now: The moment, on the clock of the state.
        hint: Whether to say how to stop.
    """
    draw = _Draw(state, width, now)
    above = [draw.header()]
    last = [draw.line(HINT, "dim")] if hint and height > 2 else []
    room = max(height - len(above) - len(last), 0)
    shown, students = draw.students(room)
    below = draw.below(max(room - shown, 0))
    return Group(*above[:height], *students, *below, *last)


class _Draw:
    """The parts of one picture."""

    def __init__(self, state: RunState, width: int, now: float) -> None:
        self.state, self.width, self.now = state, width, now
        self.colours = colours_of(list(state.students))

    def line(self, text: str, style: str = "") -> Text:
        return Text(cut(text, width=self.width), style=style, no_wrap=True, overflow="crop")

    # -- above and below the students -----------------------------------------------------

    def header(self) -> Text:
        state, left = self.state, self.state.time_left.seconds()
        what = f"{state.method} on {state.dataset}" if state.run else "raymd"
        cells = [
            Cell(what, 0, style="bold"),
            Cell(f"{duration(max(self.now - state.began, 0.0))} so far", 2),
            *([Cell(f"{duration(left)} left", 1)] if left and not state.finished else []),
            *([Cell("finished", 1, style="green")] if state.finished else []),
            *([Cell(f"run {cut(state.run, width=40)}", 3, style="dim")] if state.run else []),
        ]
        return line_of(cells, width=self.width)

    def below(self, room: int) -> list[Text]:
        """Waits, bytes and notes, as many as there is room for; the first are the last to go."""
        waits = [self.line(text, "yellow") for text in self._waits()]
        published = [self.line(text) for text in self._published()]
        memory = [self.line(text) for text in self._memory()]
        few = [*waits[:2], *published, *memory][:room]
        notes = [self.line(text, "dim") for text in self.state.notes]
        most = min(NOTES, room - len(few))
        return [*few, *(notes[-most:] if most > 0 else [])]

    def _waits(self) -> list[str]:
        lines = []
        for wait, who in self.state.waits:
            ids = [self._id(student) for student in who]
            missing = [self._standing(student) for student in wait.missing]
            whom = listed(missing) or "the teacher to be merged"
            verb = "waits" if len(who) == 1 else "wait"
            since = duration(max(self.now - wait.since, 0.0))
            lines.append(f"cycle {wait.cycle + 1}: {since}  {listed(ids)} {verb} for {whom}")
        return lines

    def _standing(self, student: str) -> str:
        epoch = self.state.time_left.position(student)
        if epoch is None:
            return f"{self._id(student)} (not started)"
        total = self.state.about.epochs
        return f"{self._id(student)} (epoch {min(epoch + 1, total)}/{total})"

    def _published(self) -> list[str]:
        published = self.state.published_bytes
        if not published:
            return []
        cycle = max(published)
        here, total = num_bytes(published[cycle]), num_bytes(sum(published.values()))
        return [f"soft labels: {here} published in cycle {cycle + 1}, {total} in all"]

    def _memory(self) -> list[str]:
        now, peak = self.state.object_store_bytes, self.state.peak_bytes
        return [] if now is None else [f"object store: {num_bytes(now)}, peak {num_bytes(peak)}"]

    # -- students -------------------------------------------------------------------------

    def students(self, room: int) -> tuple[int, list[RenderableType]]:
        """All students as large as they fit, and the number of lines that they take."""
        now = list(self.state.students.values())
        for lines in (LARGE, SMALL):
            if len(now) * lines + LEAST_BELOW <= room and self.width > 2 * LONGEST_ID:
                return len(now) * lines, [self._panel(student, lines - 2) for student in now]
        if len(now) <= room:
            return len(now), [self._row(student) for student in now]
        return self._some(now, room)

    def _some(self, now: Sequence[StudentNow], room: int) -> tuple[int, list[RenderableType]]:
        """Those that do something, in their order, and how many there are beside them."""
        lines = room - min(LEAST_BELOW, room // 4)
        shown = max(lines - 1, 0)
        by_interest = sorted(now, key=lambda student: INTEREST.get(student.doing, 0))
        first = {student.id for student in by_interest[:shown]}
        rows: list[RenderableType] = [self._row(student) for student in now if student.id in first]
        rest = Counter(self._word(student) for student in by_interest[shown:])
        kinds = ", ".join(f"{count} x {word}" for word, count in rest.most_common())
        more = f"and {count_of(len(now) - shown, 'more student')}: {kinds}"
        return lines, [*rows, self.line(more, "dim")][:lines]

    def _panel(self, student: StudentNow, lines: int) -> Panel:
        width = self.width - 4
        inside = self._three(student, width) if lines == 3 else self._two(student, width)
        title = Text.assemble((f"{self._id(student.id)}  ", "bold"), *self._doing(student))
        return Panel(
            Group(*inside),
            title=title,
            title_align="left",
            border_style=self.colours[student.id],
            width=self.width,
            height=lines + 2,
        )

    def _three(self, student: StudentNow, width: int) -> list[Text]:
        return [
            self._filled([*self._place(student), *self._speed(student)], width, bar=student),
            line_of([*self._losses(student), *self._training(student)], width=width),
            self._filled(self._accuracy(student), width, past=student),
        ]

    def _two(self, student: StudentNow, width: int) -> list[Text]:
        return [
            self._filled([*self._place(student), *self._speed(student)], width, bar=student),
            self._filled([*self._accuracy(student), *self._losses(student)], width, past=student),
        ]

    def _row(self, student: StudentNow) -> Text:
        longest = max(cell_len(self._id(other)) for other in self.state.students)
        name = self._id(student.id)
        name += " " * (longest - cell_len(name))
        doing = "".join(text for text, _ in self._doing(student, short=True))
        widest = 16 if self.state.about.is_sliced else 12
        cells = [
            Cell(cut(name, width=self.width), 0, style=self.colours[student.id]),
            Cell(doing.ljust(widest), 1, style=STYLES.get(student.doing or "", "")),
            *(cell._replace(rank=cell.rank + 1) for cell in self._place(student)),
            *self._accuracy(student),
            *self._losses(student),
            *self._speed(student),
        ]
        return line_of(cells, width=self.width)

    def _doing(self, student: StudentNow, *, short: bool = False) -> list[tuple[str, str]]:
        """What it does, with the place in its phase: ``distil 3/4 in cycle 2``."""
        about, doing = self.state.about, student.doing or "queued"
        text = "published" if short and doing == "published" else self._word(student)
        length = {"independent": about.tin, "distillation": about.td}.get(doing)
        if length and student.r is not None and about.distils:
            text += f" {student.r + 1}/{length}"
        tells_cycle = about.distils and doing not in BETWEEN_CYCLES and not short
        if student.cycle is not None and tells_cycle:
            text += f" in cycle {student.cycle + 1}"
        return [(text, STYLES.get(doing, ""))]

    def _word(self, student: StudentNow) -> str:
        about, doing = self.state.about, student.doing
        if doing is None:  # nobody has heard of it yet
            return WORDS["queued"] if about.is_sliced else "not started"
        if doing == "independent" and not about.distils:
            return "trains"
        return WORDS.get(doing, doing)

    def _place(self, student: StudentNow) -> list[Cell]:
        if student.epoch is None:
            return []
        total = self.state.about.epochs
        place = f"{min(student.epoch + 1, total):>{len(str(total))}}/{total}"
        part = [] if student.part is None else [Cell(f"{100 * student.part:3.0f} %", 3)]
        return [Cell("epoch", 8, " "), Cell(place, 0), *part]

    def _speed(self, student: StudentNow) -> list[Cell]:
        left = self.state.time_left.seconds_of(student.id)
        cells = []
        if student.images_per_s is not None and student.doing in TRAINING:
            cells.append(Cell(f"{student.images_per_s:,.0f} img/s".rjust(11), 5, style="dim"))
        if left:
            cells.append(Cell(f"{duration(left)} left".rjust(10), 4, style="dim"))
        return cells

    def _losses(self, student: StudentNow) -> list[Cell]:
        parts = [("task", student.task_loss, 3), ("kd", student.kd_loss, 3)]
        if student.kd_loss is not None:  # alone, the task's loss is the whole
            parts.insert(0, ("loss", student.loss, 6))
        return [
            Cell(f"{name} {loss(value)}", rank) for name, value, rank in parts if value is not None
        ]

    def _training(self, student: StudentNow) -> list[Cell]:
        cells = []
        if student.train_accuracy is not None:
            cells.append(Cell(f"training {percent(student.train_accuracy)}", 4))
        if student.lr is not None:
            cells.append(Cell(f"lr {student.lr:g}", 5, style="dim"))
        return cells

    def _accuracy(self, student: StudentNow) -> list[Cell]:
        """Held-out accuracy now and at its best; without any, that of training."""
        val, best = student.val_accuracy, student.best_epoch
        if val is not None and best is not None:
            text = f"best {percent(student.val_accuracies[best])}"
            return [
                Cell(f"held-out {percent(val)}", 0, style="bold"),
                Cell(f"{text} (epoch {best + 1})", 2, short=text),
            ]
        if student.accuracies:
            newest = student.accuracies[max(student.accuracies)]
            return [Cell(f"training {percent(newest)}", 0, style="bold")]
        return []

    def _filled(
        self,
        cells: Sequence[Cell],
        width: int,
        *,
        bar: StudentNow | None = None,
        past: StudentNow | None = None,
    ) -> Text:
        """The cells, and in the room behind them an epoch's bar or the past accuracies."""
        reserved = LEAST_COURSE if past is not None and len(past.accuracies) > 1 else 0
        line = line_of(cells, width=max(width - reserved, 1))
        room = min(width - line.cell_len - 2, LONGEST_BAR)
        if room < 5:
            return line
        if bar is not None and bar.part is not None:
            full = round(bar.part * room)
            line.append("  ").append("━" * full, self.colours[bar.id])
            line.append("─" * (room - full), "dim")
        if past is not None and past.accuracies:
            values = [past.accuracies[epoch] for epoch in sorted(past.accuracies)]
            course = sparkline(values, width=room)
            line.append("  ").append(course, self.colours[past.id])
            line.rstrip()
        return line

    def _id(self, student: str) -> str:
        return cut(student, width=LONGEST_ID, tail=ID_TAIL)
