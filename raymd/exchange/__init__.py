"""The soft-label exchange without Ray: what is published, who waits for whom, what is merged.

    names.py    where the exchange's committed files lie in the run directory
    ledger.py   the policy: which roster to commit and which block to merge next; no IO
    blocks.py   committing, reading and merging single blocks
    folder.py   the whole exchange against a folder, for one process

raymd/execution/aggregator.py drives the same ledger with Ray's objects and tasks.
"""
