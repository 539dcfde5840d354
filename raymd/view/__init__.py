"""What people see of a run; knows only events and results, and imports neither torch nor Ray.

    event_types.py, events.py         the events' keys, and the history they are kept in
    viewers.py                        events to everyone who looks, none of whom can harm the run
    lines.py                          ... as lines of text
    live.py                           ... as one screen: student_now.py and state.py say where the
                                      run stands, dashboard.py draws it
    json_lines.py                     ... as JSON, for programs
    board.py, wandb_log.py            ... for TensorBoard and W&B: measures.py, heat_map.py,
                                      tfevents.py
    gauges.py                         ... as gauges, for raymd/execution to hand to Ray
    summary.py                        the result as a table
    frames.py, plots.py               result and history as pandas tables and a Plotly figure
    text.py, cells.py, time_left.py   numbers as text, columns that fit, the time left

Events come from raymd/training and raymd/execution while a run goes on; a Result comes from
result.json after it. Nothing in a run depends on what happens here.
"""
