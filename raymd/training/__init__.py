"""One student's training, without Ray: restore, train, publish, distil, commit.

student.py     what a student is given (StudentTask) and what it is (StudentState)
segment.py     run_segment: the one loop of the product
step.py        one epoch of steps
publish.py     soft labels of every training sample, committed block by block
evaluate.py    predictions and accuracy in eval mode
checkpoint.py  commit and restore
finish.py      the student's final files: weights, predictions, model.json
"""
