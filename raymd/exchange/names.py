"""Where the exchange's committed files lie: names relative to the run directory, no IO."""


def cycle_folder(cycle: int) -> str:
    """``cycle-000``."""
    return f"cycle-{cycle:03d}"


def published_folder(cycle: int, student: str) -> str:
    """One student's raw soft labels of a cycle."""
    return f"soft_labels/{cycle_folder(cycle)}/{student}"


def publication_record(cycle: int, student: str) -> str:
    """What a student announced: its accuracy and the publish id."""
    return f"{published_folder(cycle, student)}/publication.json"


def teacher_folder(cycle: int) -> str:
    """All teachers of a cycle."""
    return f"teacher/{cycle_folder(cycle)}"


def roster_record(cycle: int) -> str:
    """Who is in a cycle's teachers, with which accuracy and weight. Committed before merging."""
    return f"{teacher_folder(cycle)}/roster.json"


def complete_record(cycle: int) -> str:
    """Every block of every teacher of a cycle is committed; the raw blocks may go."""
    return f"{teacher_folder(cycle)}/complete.json"


def block_file(folder: str, block: int) -> str:
    """A block's bytes in a student's or a teacher's folder."""
    return f"{folder}/block-{block:05d}.arrow"


def block_record(folder: str, block: int) -> str:
    """The record that makes a block count."""
    return f"{folder}/block-{block:05d}.json"
