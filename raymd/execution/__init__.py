"""Ray, and only Ray: the one folder that imports it.

    opening.py     before Ray: data, settings, and the run to begin or to go on with
    run.py         fit(): begins a run, drives its attempts, ends it
    plan.py        what the run needs against what a cluster has; cluster.py: of the one connected
    attempt.py     one attempt: a lease, the run's actors, and the slots that train
    drive.py       orders out to the slots, events and records in, until all have ended
    dispatch.py    which student trains when, and in which slot; pure. Beside it pace.py (what a
                   segment will take), lateness.py (who keeps all others waiting) and standings.py
                   (where students are)
    slots.py       a slot: one thread and one TorchTrainer, for one segment after the other
    worker.py      train_loop_per_worker; student.py: one order of it; work.py, orders.py: what it
                   is given, and what became of it
    exchange.py    a worker's way to the aggregator
    aggregator.py  the detached actor that drives exchange/ledger.py
    monitor.py     the driver's actor: events and records in, orders and the stop flag out
    collect.py     finished students -> Result

    admitted.py    a driver's way to a lease; admission.py: the cluster's one actor that grants
                   them; leases.py: to whom, and why not yet; pure
    ray_setup.py   connecting to Ray, quietly, and leaving it as it was; own_ray.py: on odd machines
    shared_storage.py  whether all nodes see the same folder
    signals.py     Ctrl-C and SIGTERM
    telling.py     who is told of a run: terminal, programs, TensorBoard, W&B, a callback, and
                   Ray's metrics: gauges.py; board_folder.py: TensorBoard's files on a store
    doctor/        `raymd doctor`: facts of every node, and what would stand in a run's way
    remains.py     what runs that crashed have left in Ray, for `raymd clean`

    trial.py       a point of a search (tuning/) as a trial of Ray Tune: its seeds' runs

    preview.py     --plan: what a run would do, without training it
    measure.py     a few steps of one student, timed; timing.py: of all at once, in Ray actors
    foresight.py   from measured steps and the cluster's numbers to a preview, with timetable.py
                   and suggestion.py

The loop itself is raymd/training, the exchange's policy raymd/exchange; both run without Ray.
"""
