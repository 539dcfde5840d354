"""What people see of a run; knows only events and results, and imports neither torch nor Ray.

    events.py   the events' keys, and the history they are kept in
    lines.py    events as lines of text, and the result as a table

Events come from raymd/training and raymd/execution while a run goes on; a Result comes from
result.json after it. Nothing in a run depends on what happens here.
"""
