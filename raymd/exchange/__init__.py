"""The soft-label exchange without Ray: what is published, who waits for whom, what is merged.

    names.py     where the exchange's committed files lie in the run directory
    facts.py     what students tell, and what is ordered in turn
    ledger.py    the policy: which roster to commit and which block to merge next; no IO
    blocks.py    committing and reading blocks, rosters, losses
    recovery.py  what a restart finds in them
    merge.py     merging one block
    damaged.py   blocks that have to be made again, and by whom
    memory.py    which blocks the object store holds, and their bytes
    folder.py    the whole exchange against a folder, for one process

raymd/execution/aggregator.py drives the same ledger with Ray's objects and tasks.
"""
