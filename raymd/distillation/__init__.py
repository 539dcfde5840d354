"""The method itself, apart from Ray: every equation of the paper is here and nowhere else.

Source: Gao et al., "Multistructure-Based Collaborative Online Distillation", Entropy 2019,
21(4), 357. Where the paper is silent or mistyped, the choice stands beside the code.

    losses.py       Eq. 1-4 and 9-10: softened probabilities, cross entropy, KL
    schedule.py     Eq. 11: cycles, phases, alpha, beta, the learning rate
    aggregation.py  Eq. 8: the accuracy-weighted mean
    formats.py      dense or top-k soft labels, and in which precision
    top_k.py        rows that keep a few classes: making, merging, reading them
    soft_labels.py  how rows of probabilities are cut into blocks and looked up by id
    encoding.py     blocks as bytes
    methods.py      md and its relatives as descriptions of one schedule
"""
