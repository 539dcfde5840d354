"""Ray, and only Ray: the one folder that imports it.

    run.py         fit(): checks, starts, follows and ends a run
    plan.py        what the run needs against what the cluster has
    ray_setup.py   connecting to Ray, quietly, and leaving it as it was
    students.py    one thread and one TorchTrainer a student, until its segment is done
    student.py     train_loop_per_worker: one segment of one student
    exchange.py    a worker's way to the aggregator
    aggregator.py  the detached actor that drives exchange/ledger.py
    monitor.py     the driver's actor: events in, the stop flag out
    collect.py     finished students -> Result

The loop itself is raymd/training, the exchange's policy raymd/exchange; both run without Ray.
"""
