"""How to watch a search while it runs, in one line.

SearchPlan, its folder -> the commands that open it
"""

from raymd.point import TRIALS
from raymd.storage import Storage
from tuning.hpo.plan import OPTUNA, SearchPlan


def viewing(plan: SearchPlan, folder: Storage) -> str:
    """The commands: curves of all runs, and Optuna's own pages where it searches."""
    ways = [f"curves: tensorboard --logdir {folder.uri}/{TRIALS}"]
    if plan.algorithm == "optuna" and folder.is_local:
        ways.append(f"points: optuna-dashboard sqlite:///{folder.uri}/{OPTUNA}")
    elif plan.algorithm == "optuna":
        ways.append("Optuna's study is in memory, for its database needs a local --storage")
    return "; ".join(ways)
