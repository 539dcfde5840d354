"""What `raymd VERB` does beside training: before a run, once it is finished, or was left behind.
Ray only in raymd/execution, which clean and doctor call.

    plan.py        raymd plan: another way to say `raymd fit --plan`
    predict.py     raymd predict: flags and output; classify.py has the files and batches
    evaluate.py    raymd evaluate: flags and output
      evaluation.py        a run on images -> every figure
      saved_data.py        the images: the run's own, or others with the same classes
      latency.py           how long a network takes here
      evaluation_table.py  those figures as tables
    clean.py       raymd clean: flags and output; leftovers.py finds what may go
    doctor.py      raymd doctor: flags and output; execution/doctor looks at the nodes
      findings_table.py    what it found as tables
    flags.py       what all flags have in common; no torch, no pyarrow
    where.py       runs by path, name or `latest`; devices
    output.py      tables, CSV and JSON to the terminal or a file

The modules named after verbs import torch and pyarrow only once their flags are checked.
"""
