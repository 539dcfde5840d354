"""From storage to a ledger: what a restart finds, and what is left to do.

Damaged records are told of and mended: each says what another one, or the next announcement, says
too. Damaged blocks are found when they are read.
"""

from collections.abc import Callable

from raymd.errors import StorageError
from raymd.exchange import names
from raymd.exchange.blocks import (
    begun_cycles,
    commit_roster,
    committed_blocks,
    complete_cycle,
    drop_superseded,
    is_complete,
    publication_of,
    read_losses,
    read_roster,
)
from raymd.exchange.facts import FROZEN, Action, CommitRoster, Publication
from raymd.exchange.ledger import Ledger
from raymd.storage import Storage

Tell = Callable[[str], None]


def recover(storage: Storage, ledger: Ledger, *, tell: Tell) -> list[Action]:
    """Tell a fresh ledger every fact that storage holds; gives back what is left to do.

    Losses, teacher blocks and rosters are told first, so that nothing committed is ordered again.

    Args:
        storage: The run's.
        ledger: Of the same students and blocks.
        tell: Takes a line for every damaged record.

    Raises:
        StorageError: nothing says any more who made a complete cycle's teachers.
    """
    actions: list[Action] = []
    for loss in read_losses(storage):
        actions += ledger.lost(loss)
    newest = None
    for cycle in begun_cycles(storage):
        roster = _roster(storage, cycle, tell)
        if not is_complete(storage, cycle):
            actions += _recover_open(storage, ledger, cycle, roster, tell)
            continue
        if roster is None:
            raise StorageError(
                f"{storage.uri}/{names.roster_record(cycle)} and complete.json beside it are both"
                " damaged: restore them from a backup, or begin a new run (--name)"
            )
        ledger.completed(roster)
        newest = roster
    for teacher in ledger.frozen:
        actions += _recover_published(storage, ledger, FROZEN, teacher, tell)
    if newest is not None:
        drop_superseded(storage, newest)  # a life may have ended before it did
    return actions


def _roster(storage: Storage, cycle: int, tell: Tell) -> CommitRoster | None:
    """A cycle's roster, from whichever of its records is intact; the other is written again."""
    roster = read_roster(storage, cycle)
    mend = {names.roster_record(cycle): commit_roster}
    if is_complete(storage, cycle):
        mend[names.complete_record(cycle)] = complete_cycle
    for name, commit in mend.items():
        try:
            there = storage.record(name) is not None
        except StorageError as error:
            tell(f"{error}; it is written again")
            there = False
        if roster is not None and not there:
            commit(storage, roster)
    return roster


def _recover_open(
    storage: Storage, ledger: Ledger, cycle: int, roster: CommitRoster | None, tell: Tell
) -> list[Action]:
    """The facts of a cycle that is not complete."""
    actions: list[Action] = []
    revision = ledger.revision(cycle)
    for teacher in ledger.teachers(cycle):
        for block in committed_blocks(storage, names.teacher_blocks(cycle, teacher, revision)):
            actions += ledger.merged(cycle, teacher, block, revision=revision)
    if roster is not None:
        actions += ledger.roster_committed(roster)
    for student in ledger.members(cycle):
        if student not in ledger.frozen:
            actions += _recover_published(storage, ledger, cycle, student, tell)
    return actions


def _recover_published(
    storage: Storage, ledger: Ledger, cycle: int, student: str, tell: Tell
) -> list[Action]:
    """The facts of one publication."""
    blocks = committed_blocks(storage, names.published_folder(cycle, student))
    publication = _publication(storage, cycle, student, blocks, tell)
    if publication is None:
        return []
    actions = ledger.announced(publication)
    for block in blocks:
        actions += ledger.delivered(cycle, student, block)
    return actions


def _publication(
    storage: Storage, cycle: int, student: str, blocks: list[int], tell: Tell
) -> Publication | None:
    """What a student announced: from that record, or else from one of its blocks'."""
    folder = names.published_folder(cycle, student)
    candidates = [names.block_record(folder, block) for block in blocks]
    for name in (names.publication_record(cycle, student), *candidates):
        try:
            record = storage.record(name)
        except StorageError as error:
            tell(f"{error}; what it says is taken from elsewhere")
            continue
        if record is not None:
            return publication_of(record, cycle=cycle, student=student)
    return None
