"""`raymd doctor`: what a cluster's nodes have, and what of it would stand in a run's way.

    examine.py      the whole: a Ray -> facts of every node -> findings
    examiner.py     one small actor a node, which is asked with a time limit
    finding.py      what a finding is, and how a check that fails becomes one
    checks.py       the checks of a node by itself: what to measure there, how it is judged
      software.py   versions, processor, environment
      gpus.py       GPUs, their driver, and whether torch computes on them: gpu_facts.py
      room.py       memory, shared memory, disk, CPUs, open files
    between.py      what lies between nodes: clocks, the network, names, the nodes that are gone
    storage_trip.py the run directory's storage, from every node

Everything that judges is a pure function of what was measured, and is tested with facts written by
hand; only examiner.py and examine.py speak to Ray.
"""
