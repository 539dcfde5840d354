"""Where the exchange's committed files lie: names relative to the run directory, no IO."""

from raymd.exchange.facts import FROZEN


def cycle_folder(cycle: int) -> str:
    """``cycle-000``; ``frozen`` for what holds for all cycles."""
    return "frozen" if cycle == FROZEN else f"cycle-{cycle:03d}"


def published_folder(cycle: int, student: str) -> str:
    """One student's raw soft labels of a cycle."""
    return f"soft_labels/{cycle_folder(cycle)}/{student}"


def publication_record(cycle: int, student: str) -> str:
    """What a student announced: its accuracy and the publish id."""
    return f"{published_folder(cycle, student)}/publication.json"


def teacher_folder(cycle: int) -> str:
    """All teachers of a cycle."""
    return f"teacher/{cycle_folder(cycle)}"


def teacher_blocks(cycle: int, teacher: str, revision: int = 0) -> str:
    """The blocks of one teacher of a cycle.

    Every revision of the roster has a folder of its own, so that a merge for an earlier one, still
    under way somewhere, cannot write into what is read.
    """
    return f"{teacher_folder(cycle)}/{teacher}" + (f"@{revision}" if revision else "")


def roster_record(cycle: int) -> str:
    """Who is in a cycle's teachers, with which accuracy and weight. Committed before merging."""
    return f"{teacher_folder(cycle)}/roster.json"


def complete_record(cycle: int) -> str:
    """Every block of every teacher of a cycle is committed: they may be read, the raw blocks may
    go. Says what the roster says once more, in case one of the two is damaged."""
    return f"{teacher_folder(cycle)}/complete.json"


LOSSES = "lost"


def loss_record(student: str) -> str:
    """A student is not trained any further: why, and which cycles are made without it."""
    return f"{LOSSES}/{student}.json"


def block_file(folder: str, block: int) -> str:
    """A block's bytes in a student's or a teacher's folder."""
    return f"{folder}/block-{block:05d}.arrow"


def block_record(folder: str, block: int) -> str:
    """The record that makes a block count."""
    return f"{folder}/block-{block:05d}.json"
