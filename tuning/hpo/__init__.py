"""Searches with Ray Tune: what `python -m tuning.search` is made of."""
