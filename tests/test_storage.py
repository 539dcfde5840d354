"""Committed files: whole or not there, checked when read, on a folder and on a remote store."""

import errno
import os
import pickle
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs as pafs
import pytest

from raymd.errors import StorageError, StorageFullError, StorageWriteError, UserError
from raymd.storage import FILES, Storage, checksum

RECORD = "teacher/cycle-000.json"
BLOCK = "teacher/cycle-000/block-00000.arrow"
DATA = bytes(range(256)) * 40


@pytest.fixture
def local(tmp_path: Path) -> Storage:
    return Storage.at(tmp_path / "run")


@pytest.fixture
def remote(tmp_path: Path) -> Storage:
    """An object store by another name: a filesystem that is not this machine's own.

    Object stores have no folders to make, so here they are made beforehand.
    """
    (tmp_path / "bucket/run/teacher/cycle-000").mkdir(parents=True)
    filesystem = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
    return Storage("s3://bucket/run", {"fs": (filesystem, "bucket/run")})


@pytest.fixture(params=["local", "remote"])
def storage(request: pytest.FixtureRequest) -> Storage:
    return request.getfixturevalue(request.param)


def on_disk(storage: Storage, tmp_path: Path, name: str) -> Path:
    """Where a file of either storage really lies."""
    return (Path(storage.uri) if storage.is_local else tmp_path / "bucket/run") / name


def all_files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


# -- commit and read ------------------------------------------------------------------


def test_committed_file_is_read_back_with_its_record(storage: Storage) -> None:
    storage.commit(RECORD, {"cycle": 0, "v": {"a": 0.25}}, files={BLOCK: DATA})
    record = storage.record(RECORD)
    assert record is not None
    assert (record["cycle"], record["v"]) == (0, {"a": 0.25})
    assert record[FILES] == {BLOCK: {"bytes": len(DATA), "xxh3_128": checksum(DATA)}}
    assert storage.check_committed(RECORD) == record
    assert storage.read_committed(BLOCK, record=record).to_pybytes() == DATA
    assert storage.exists(RECORD)
    assert storage.list("teacher") == ["cycle-000", "cycle-000.json"]
    assert list(storage.records("teacher")) == [RECORD]


@pytest.mark.parametrize(
    "data",
    [b"", DATA, memoryview(DATA), np.arange(6.0).reshape(2, 3)],
    ids=lambda d: type(d).__name__,
)
def test_any_buffer_can_be_committed(storage: Storage, data: Any) -> None:
    storage.commit(RECORD, {}, files={BLOCK: data})
    record = storage.record(RECORD)
    assert record is not None
    expected = data.tobytes() if isinstance(data, np.ndarray | memoryview) else data
    assert storage.read_committed(BLOCK, record=record).to_pybytes() == expected


def test_record_keeps_the_entries_of_files_committed_before(storage: Storage) -> None:
    storage.commit(RECORD, {"n": 1}, files={BLOCK: DATA})
    before = storage.record(RECORD)
    assert before is not None
    storage.commit(RECORD, {**before, "n": 2}, files={"teacher/more": b"more"})
    record = storage.record(RECORD)
    assert record is not None
    assert record["n"] == 2
    assert sorted(record[FILES]) == [BLOCK, "teacher/more"]
    assert storage.read_committed(BLOCK, record=record).to_pybytes() == DATA


def test_record_is_written_after_its_files(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    write = Storage.write

    def noting(self: Storage, name: str, data: object) -> None:
        order.append(name)
        write(self, name, data)

    monkeypatch.setattr(Storage, "write", noting)
    storage.commit(RECORD, {}, files={BLOCK: DATA, "teacher/b": b"b"})
    assert order == [BLOCK, "teacher/b", RECORD]


def test_death_before_the_record_leaves_files_that_do_not_count(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Storage.write

    def dying(self: Storage, name: str, data: object) -> None:
        if name == RECORD:
            raise KeyboardInterrupt
        write(self, name, data)

    monkeypatch.setattr(Storage, "write", dying)
    with pytest.raises(KeyboardInterrupt):
        storage.commit(RECORD, {}, files={BLOCK: DATA})
    assert storage.exists(BLOCK)
    assert storage.record(RECORD) is None


def test_overwritten_file_leaves_earlier_readers_their_bytes(local: Storage) -> None:
    local.write(BLOCK, DATA)
    mapped = local.read(BLOCK)
    local.write(BLOCK, b"new")
    assert mapped.to_pybytes() == DATA
    assert local.read(BLOCK).to_pybytes() == b"new"


# -- damage ---------------------------------------------------------------------------


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "missing": (Path.unlink, "is missing, though committed"),
    "truncated": (lambda path: os.truncate(path, 100), f"is truncated: 100 of {len(DATA)} bytes"),
    "emptied": (lambda path: os.truncate(path, 0), f"is truncated: 0 of {len(DATA)} bytes"),
    "altered": (flip_a_bit, "does not match its checksum"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_file_is_named_with_what_is_wrong(
    storage: Storage, tmp_path: Path, damage: str
) -> None:
    storage.commit(RECORD, {}, files={BLOCK: DATA})
    record = storage.record(RECORD)
    assert record is not None
    harm, message = DAMAGE[damage]
    harm(on_disk(storage, tmp_path, BLOCK))
    expected = f"^{re.escape(f'{storage.uri}/{BLOCK} {message}')}$"
    with pytest.raises(StorageError, match=expected):
        storage.read_committed(BLOCK, record=record)
    with pytest.raises(StorageError, match=expected):
        storage.check_committed(RECORD)


def test_record_never_written_is_none(storage: Storage) -> None:
    assert storage.record(RECORD) is None
    assert not storage.exists(RECORD)


@pytest.mark.parametrize("kept_bytes", [0, 1, 40, -2])
def test_half_written_record_is_damage_and_not_absence(
    storage: Storage, tmp_path: Path, kept_bytes: int
) -> None:
    storage.commit(RECORD, {"cycle": 0}, files={BLOCK: DATA})
    path = on_disk(storage, tmp_path, RECORD)
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(StorageError, match=r"cycle-000\.json is damaged"):
        storage.record(RECORD)


def test_record_that_is_not_text_is_damage(storage: Storage, tmp_path: Path) -> None:
    storage.commit(RECORD, {})
    on_disk(storage, tmp_path, RECORD).write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(StorageError, match="is damaged"):
        storage.record(RECORD)


@pytest.mark.parametrize("text", ["[1, 2]", "3", '"a word"', "null"])
def test_record_that_is_no_object_is_damage(storage: Storage, tmp_path: Path, text: str) -> None:
    storage.commit(RECORD, {})
    on_disk(storage, tmp_path, RECORD).write_text(text)
    with pytest.raises(StorageError, match=r"json is damaged: it holds no object"):
        storage.record(RECORD)


@pytest.mark.parametrize(("old", "new"), [("0.25", "0.35"), ('"v"', '"w"'), ("10240", "10241")])
def test_altered_record_is_found_by_its_checksum(
    storage: Storage, tmp_path: Path, old: str, new: str
) -> None:
    storage.commit(RECORD, {"v": {"a": 0.25}}, files={BLOCK: DATA})
    path = on_disk(storage, tmp_path, RECORD)
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    with pytest.raises(StorageError, match=r"json is damaged: it does not match its checksum"):
        storage.record(RECORD)
    with pytest.raises(StorageError, match="checksum"):
        storage.check_committed(RECORD)


def test_record_of_an_older_version_has_no_checksum_and_counts(storage: Storage) -> None:
    storage.commit(RECORD, {})  # its folder
    storage.write(RECORD, b'{"cycle": 0, "files": {}}')
    assert storage.record(RECORD) == {"cycle": 0, "files": {}}


def test_commit_says_what_will_be_read(storage: Storage) -> None:
    fields = {"pair": (1, 2), "by number": {9: "a", 10: "b"}, "x": 0.1 + 0.2, "é": None}
    assert storage.commit(RECORD, fields) == storage.record(RECORD)


def test_reading_a_file_that_never_was_says_so(storage: Storage) -> None:
    with pytest.raises(FileNotFoundError):
        storage.read("teacher/nothing")


# -- deleting -------------------------------------------------------------------------


class WrittenInto:
    """A filesystem whose folders are written into by somebody while they are first removed."""

    def __init__(self, real: pafs.FileSystem, *, times: int) -> None:
        self.real = real
        self.times = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def delete_dir(self, path: str) -> None:
        self.times -= 1
        if self.times >= 0:
            raise OSError(errno.ENOTEMPTY, "Directory not empty")
        self.real.delete_dir(path)


def test_folder_is_removed_though_somebody_writes_into_it(local: Storage) -> None:
    local.write(BLOCK, DATA)
    real, path = local.filesystem
    local._cache["fs"] = (WrittenInto(real, times=3), path)
    local.delete("teacher")
    assert not local.exists("teacher")


def test_folder_that_never_empties_is_an_error(local: Storage) -> None:
    local.write(BLOCK, DATA)
    real, path = local.filesystem
    local._cache["fs"] = (WrittenInto(real, times=1000), path)
    with pytest.raises(OSError, match="not empty"):
        local.delete("teacher")


def test_deleting_twice_is_the_same_as_once(storage: Storage) -> None:
    storage.commit(RECORD, {}, files={BLOCK: DATA})
    for _ in range(2):
        storage.delete(BLOCK)
        assert not storage.exists(BLOCK)
    for _ in range(2):
        storage.delete("teacher")
        assert storage.list("teacher") == []
        assert storage.record(RECORD) is None


def test_removing_a_record_removes_its_files_and_no_others(storage: Storage) -> None:
    storage.commit(RECORD, {}, files={BLOCK: DATA})
    storage.commit("teacher/other.json", {}, files={"teacher/other": b"x"})
    for _ in range(2):
        storage.remove_committed(RECORD)
        assert storage.record(RECORD) is None
        assert not storage.exists(BLOCK)
    assert storage.exists("teacher/other")
    assert list(storage.records("teacher")) == ["teacher/other.json"]


def test_record_is_gone_before_its_files_are(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.commit(RECORD, {}, files={BLOCK: DATA})
    delete = Storage.delete

    def dying(self: Storage, name: str) -> None:
        if name == BLOCK:
            raise KeyboardInterrupt
        delete(self, name)

    monkeypatch.setattr(Storage, "delete", dying)
    with pytest.raises(KeyboardInterrupt):
        storage.remove_committed(RECORD)
    assert storage.record(RECORD) is None
    assert storage.exists(BLOCK)


# -- writing --------------------------------------------------------------------------


def test_failed_write_leaves_the_old_file_and_no_temporary_one(
    local: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.write(BLOCK, b"old")

    def disk_full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    expected = (
        rf"^{re.escape(local.uri)}/{BLOCK} cannot be written \(No space left on device, [\d,]+ of"
        r" [\d,]+ bytes are free\); what was committed before is intact\. Free space .*--resume"
    )
    with pytest.raises(StorageFullError, match=expected):
        local.write(BLOCK, DATA)
    with pytest.raises(StorageFullError, match="teacher/another"):
        local.write("teacher/another", DATA)
    assert all_files(Path(local.uri)) == [BLOCK]
    assert local.read(BLOCK).to_pybytes() == b"old"


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_storage_that_became_read_only_is_named(
    local: Storage, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    local.write(BLOCK, b"old")

    def refused(*args: Any, **kw: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "open", refused)
    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(
        StorageWriteError, match=rf"{BLOCK} cannot be written \({os.strerror(code)}"
    ):
        local.write(BLOCK, DATA)
    assert local.read(BLOCK).to_pybytes() == b"old"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real filesystem of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    done = subprocess.run(mount, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no small filesystem here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_full_disk_keeps_what_was_committed_and_no_leftovers(small_disk: Path) -> None:
    storage = Storage.at(small_disk / "run")
    storage.commit(RECORD, {"n": 1}, files={BLOCK: DATA})
    with pytest.raises(StorageFullError, match=r"of 1,048,576 bytes are free"):
        storage.commit(RECORD, {"n": 2}, files={BLOCK: bytes(2**20)})
    assert all_files(Path(storage.uri)) == [RECORD, BLOCK]
    record = storage.check_committed(RECORD)
    assert record is not None
    assert record["n"] == 1
    (small_disk / "filler").write_bytes(bytes(shutil.disk_usage(small_disk).free))
    with pytest.raises(UserError, match=r"cannot be written \(.*No space left .*--storage DIR"):
        storage.check_writable()


def test_write_that_cannot_be_renamed_leaves_no_temporary_file(local: Storage) -> None:
    local.write("taken/inside", b"x")
    with pytest.raises(IsADirectoryError):
        local.write("taken", DATA)
    assert all_files(Path(local.uri)) == ["taken/inside"]


def test_temporary_files_of_a_dead_writer_are_not_listed(local: Storage) -> None:
    local.write("teacher/a.json", b"{}")
    (Path(local.uri) / "teacher/.b.json.123-456.tmp").write_bytes(b"{")
    assert local.list("teacher") == ["a.json"]
    assert list(local.records("teacher")) == ["teacher/a.json"]


def test_leftovers_of_dead_writers_are_removed_from_one_folder(local: Storage) -> None:
    local.remove_leftovers("teacher")  # not there yet
    local.write("teacher/a.json", b"{}")
    for name in ("teacher/.b.json.1f.tmp", "teacher/cycle-000/.c.1f.tmp"):
        path = Path(local.uri) / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"{")
    local.remove_leftovers("teacher")
    assert all_files(Path(local.uri)) == ["teacher/a.json", "teacher/cycle-000/.c.1f.tmp"]


def test_two_threads_writing_one_name_leave_one_of_them_whole(local: Storage) -> None:
    contents = [bytes([letter]) * 100_000 for letter in b"ab"]
    start = threading.Barrier(2)
    failures: list[BaseException] = []
    seen: set[bytes] = set()

    def writer(data: bytes) -> None:
        try:
            start.wait()
            for _ in range(15):
                local.write(BLOCK, data)
                seen.add(local.read(BLOCK).to_pybytes())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=writer, args=(data,)) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert seen <= set(contents)
    assert all_files(Path(local.uri)) == [BLOCK]


# -- where it is ----------------------------------------------------------------------


def test_relative_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage = Storage.at("runs/first")
    assert storage.is_local
    assert storage.uri == str(tmp_path / "runs/first")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Storage.at("~/runs").uri == str(tmp_path / "runs")


def test_file_uri_is_a_folder_like_any_other(tmp_path: Path) -> None:
    storage = Storage.at((tmp_path / "a run").as_uri() + "/")
    assert storage == Storage.at(tmp_path / "a run")
    storage.write("students/resnet8/last", b"weights")
    assert (tmp_path / "a run/students/resnet8/last").read_bytes() == b"weights"


@pytest.mark.parametrize("uri", ["nope://bucket/run", "file://relative", "s3//:// bad"])
def test_uri_that_no_filesystem_knows_is_refused(uri: str) -> None:
    with pytest.raises(UserError, match="--storage"):
        Storage.at(uri)


def test_filesystem_of_any_uri_is_pyarrows() -> None:
    storage = Storage.at("mock:///run/")
    assert not storage.is_local
    assert storage.uri == "mock:///run"
    storage.filesystem[0].create_dir("run")
    storage.commit("record.json", {"n": 1}, files={"block": DATA})
    record = storage.record("record.json")
    assert record is not None
    assert storage.read_committed("block", record=record).to_pybytes() == DATA
    assert storage.list() == ["block", "record.json"]


def test_sub_is_the_folder_below(local: Storage) -> None:
    sub = local.sub("students/resnet8")
    sub.write("last", b"weights")
    assert local.read("students/resnet8/last").to_pybytes() == b"weights"


def test_sub_keeps_the_options_of_a_uri() -> None:
    storage = Storage("s3://bucket/runs?region=eu-west-1&endpoint_override=host:9000/")
    assert storage.sub("demo").uri == (
        "s3://bucket/runs/demo?region=eu-west-1&endpoint_override=host:9000/"
    )
    assert Storage("/runs/what?").sub("demo").uri == "/runs/what?/demo"


def test_listing_a_folder_that_is_not_there_is_empty(storage: Storage) -> None:
    assert storage.list("nothing") == []
    assert list(storage.records("nothing")) == []


def test_storage_survives_pickling_with_its_filesystem_open(local: Storage) -> None:
    local.write("a", b"1")
    assert local.exists("a")
    copy = pickle.loads(pickle.dumps(local))
    assert copy == local
    assert copy.read("a").to_pybytes() == b"1"
    opened = Storage.at("mock:///run")
    assert not opened.exists("a")
    assert pickle.loads(pickle.dumps(opened)).uri == "mock:///run"


# -- check_writable -------------------------------------------------------------------


def test_writable_folder_is_found_so_and_left_empty(storage: Storage, tmp_path: Path) -> None:
    storage.check_writable()
    assert all_files(on_disk(storage, tmp_path, "")) == []


def test_folder_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"file/run' cannot be written .*--storage DIR"):
        Storage.at(tmp_path / "file/run").check_writable()


def test_remote_folder_that_is_not_there_cannot_be_written() -> None:
    with pytest.raises(UserError, match=r"mock:///nowhere' cannot be written"):
        Storage.at("mock:///nowhere").check_writable()


# -- left_as_it_was -------------------------------------------------------------------


def test_folders_made_in_between_go_again_unless_somebody_began_something(tmp_path: Path) -> None:
    deep = Storage.at(tmp_path / "a/b/c")
    with deep.left_as_it_was():
        deep.write("probe", b"")
        deep.delete("probe")
    assert list(tmp_path.iterdir()) == []
    with deep.left_as_it_was():
        deep.write("probe", b"")
        deep.delete("probe")
        Storage.at(tmp_path / "a/b").write("run/run.json", b"{}")
    assert [path.name for path in (tmp_path / "a/b").iterdir()] == ["run"]


# -- checksum -------------------------------------------------------------------------


def test_checksum_is_of_the_bytes_whatever_holds_them() -> None:
    array = np.arange(12, dtype=np.float16).reshape(3, 4)
    assert checksum(array) == checksum(array.tobytes()) == checksum(memoryview(array))
    assert len(checksum(b"")) == 32
    assert checksum(b"") != checksum(b"\0")
