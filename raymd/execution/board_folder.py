"""TensorBoard's files of a run whose storage is an object store.

They grow, which objects cannot. So they lie on this machine while the run goes on, and are sent at
its end; a run that goes on begins with those of before, or the store would hold every epoch twice.
"""

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from raymd.run_folder import TENSORBOARD
from raymd.storage import Storage


class BoardFolder:
    """A temporary folder for what a run's object store is to hold at last.

    Args:
        storage: The run's.

    Attributes:
        parent: The temporary folder; others may use it too.
        folder: In it, for TensorBoard.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.parent = Path(tempfile.mkdtemp(prefix="raymd-"))
        self.folder = self.parent / TENSORBOARD

    def fetch(self) -> None:
        """Bring what the store holds. OSError if it cannot be read."""
        for name in self._in_store():
            file = self.parent / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(self._storage.read(name).to_pybytes())

    def send(self) -> None:
        """Have the store hold what is here, and nothing else; then remove it here. OSError if it
        cannot be written: all of it stays here then."""
        here = [path for path in self.folder.rglob("*") if path.is_file()]
        names = {path.relative_to(self.parent).as_posix(): path for path in sorted(here)}
        for name, path in names.items():
            self._storage.write(name, path.read_bytes())
        for name in self._in_store():
            if name not in names:
                self._storage.delete(name)
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # W&B's folder is beside it
            self.parent.rmdir()

    def _in_store(self) -> list[str]:
        """A folder a student, and files in it."""
        folders = [f"{TENSORBOARD}/{student}" for student in self._storage.list(TENSORBOARD)]
        return [f"{folder}/{name}" for folder in folders for name in self._storage.list(folder)]
