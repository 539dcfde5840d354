"""Ray, and only Ray: the one folder that imports it.

    opening.py     before Ray: data, settings, and the run to begin or to go on with
    run.py         fit(): starts, follows and ends a run
    plan.py        what the run needs against what a cluster has
    cluster.py     the plan on the cluster that is connected
    ray_setup.py   connecting to Ray, quietly, and leaving it as it was
    students.py    one thread and one TorchTrainer a student, until its segment is done
    student.py     train_loop_per_worker: one segment of one student
    exchange.py    a worker's way to the aggregator
    aggregator.py  the detached actor that drives exchange/ledger.py
    monitor.py     the driver's actor: events in, the stop flag out
    following.py   events to the screen, signals to the stop flag
    telling.py     who is told of a run: terminal, programs, TensorBoard, W&B, a callback
    collect.py     finished students -> Result

    preview.py     --plan: what a run would do, without training it
    measure.py     a few steps of one student, timed; timing.py: of all at once, in Ray actors
    foresight.py   from measured steps and the cluster's numbers to a preview, with timetable.py
                   and suggestion.py

The loop itself is raymd/training, the exchange's policy raymd/exchange; both run without Ray.
"""
