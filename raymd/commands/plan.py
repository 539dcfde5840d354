"""`raymd plan`: what a fit would do and need; `raymd fit --plan` under a name of its own."""

from collections.abc import Sequence

from raymd.fit import main as fit


def main(argv: Sequence[str]) -> int:
    """Plan the run that these flags of fit describe; gives the exit code."""
    return fit(["--plan", *argv])
