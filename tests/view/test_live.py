"""The live view on a terminal: what it leaves there, however the run ends."""

import io
import os
import pty
import signal
import subprocess
import sys

import pytest
from rich.console import Console

from raymd.view.live import LiveView, can_show
from tests.view.examples import about, epoch, progress, run_started

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
CHILD = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
from rich.console import Console
from raymd.view.about import About
from raymd.view.live import LiveView
about = About(students=("a",), epochs=3)
with LiveView(Console(force_terminal=True, width=80, height=24), about=about) as view:
    view.note("ready")
    time.sleep(30)
"""


def terminal(**options):
    fixed = {"force_terminal": True, "_environ": {}, "file": io.StringIO()}
    return Console(width=80, height=24, **{**fixed, **options})


def view_on(console, **options):
    return LiveView(console, about=about(), **options)


def last_picture(console):
    return console.file.getvalue().rsplit("so far", 1)[1]


def test_last_picture_stays_without_the_hint_and_the_cursor_is_back():
    console = terminal()
    with view_on(console) as view:
        view.show(run_started())
        view.show(progress(index=2))
        view.note("precision fp32: no GPU in sight")
        assert HIDE in console.file.getvalue()
    text = console.file.getvalue()
    assert "distil 1/4" in last_picture(console)
    assert "precision fp32" in last_picture(console)
    assert "Ctrl-C" in text
    assert "Ctrl-C" not in last_picture(console)
    assert text.rindex(SHOW) > text.rindex(HIDE)


@pytest.mark.parametrize("ending", [RuntimeError, KeyboardInterrupt])
def test_terminal_is_given_back_when_the_run_fails_or_is_interrupted(ending):
    console = terminal()

    def run():
        with view_on(console):
            raise ending

    with pytest.raises(ending):
        run()
    text = console.file.getvalue()
    assert text.rindex(SHOW) > text.rindex(HIDE)
    console.print("after")
    assert console.file.getvalue().endswith("after\n")


def test_real_interrupt_on_a_real_terminal_shows_the_cursor_again():
    reader, writer = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "PYTHONUTF8": "1"}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD], stdout=writer, stderr=subprocess.DEVNULL, env=environment
    )
    os.close(writer)
    text = ""
    try:
        while "ready" not in text:
            text += os.read(reader, 4096).decode(errors="replace")
        child.send_signal(signal.SIGINT)
        child.wait(timeout=20)
        while SHOW not in text:
            text += os.read(reader, 4096).decode(errors="replace")
    finally:
        child.kill()
        os.close(reader)
    assert child.returncode != 0
    assert text.rindex(SHOW) > text.rindex(HIDE)


def test_closing_twice_and_closing_what_never_started_do_nothing():
    console = terminal()
    view = view_on(console)
    view.close()
    view.start()
    view.close()
    before = console.file.getvalue().count("so far")
    view.close()
    assert console.file.getvalue().count("so far") == before


def test_time_is_that_of_the_clock_given():
    moments = iter([100.0])
    console = terminal()
    view = view_on(console, clock=lambda: next(moments, 172.0))
    with view:
        pass
    assert "1:12 so far" in console.file.getvalue()


def test_history_of_earlier_attempts_gives_the_best_so_far():
    console = terminal()
    with view_on(console, history=[epoch(index=7, val_accuracy=0.876)]):
        pass
    assert "best 87.6 % (epoch 8)" in console.file.getvalue()


def test_what_others_print_meanwhile_stays_above():
    console = terminal()
    with view_on(console):
        console.print("a warning")
    text = console.file.getvalue()
    assert "a warning" in text
    assert "a warning" not in last_picture(console)


def test_live_view_needs_a_terminal_in_utf_8():
    utf_8, latin = (
        io.TextIOWrapper(io.BytesIO(), "utf-8"),
        io.TextIOWrapper(io.BytesIO(), "latin-1"),
    )
    assert can_show(terminal(file=utf_8))
    assert not can_show(terminal(file=latin))
    assert not can_show(terminal(file=utf_8, force_terminal=False))
    assert not can_show(terminal(file=utf_8, _environ={"TERM": "dumb"}))
