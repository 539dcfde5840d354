"""The paper's tables and figures as studies: what `python -m tuning.paper` is made of."""
