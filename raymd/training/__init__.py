"""One student's training, without Ray: restore, train, publish, distil, commit.

student.py     what a student is given (StudentTask) and what it is (StudentState)
building.py    a fresh StudentState: network, optimiser, DDP
ranks.py       what a student's workers agree on
learning_rate.py  the rate of every step
segment.py     run_segment: the one loop of the product, with progress.py
epoch.py       one epoch of steps; step.py: a student's, mutual.py: of several at once
teachers.py    who teaches an epoch: stored soft labels, or weights that see the student's crops
frozen.py      teachers that were trained before, and only teach
publish.py     soft labels of every training sample, committed block by block
evaluate.py    predictions and accuracy in eval mode
checkpoint.py  commit, and which checkpoints are kept
restore.py     the newest intact checkpoint, and what is done about damaged ones
rebuild.py     damaged soft labels, made again from checkpoints
finish.py      the student's final files: weights, predictions, model.json
"""
