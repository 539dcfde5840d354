"""Data in an object store: fetched once, whole or not at all, and the same data as on a disk."""

import errno
import io
import pickle
import shutil
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import pytest

from raymd.config import FitConfig
from raymd.data import cache, load_dataset, remote
from raymd.data.cache import CACHE_VARIABLE, usable
from raymd.data.encoded import EncodedSplit
from raymd.data.pack import pack
from raymd.data.remote import Origin, fetch, made_local
from raymd.data.splits import prepare
from raymd.errors import DataError, StorageAccessError, UserError
from raymd.execution import shipping
from raymd.execution.opening import check_apart
from raymd.object_store import open_filesystem
from tests.data.photographs import fill_tree

URI = "s3://bucket/photos"


class Bucket:
    """A folder that stands for a bucket: it notes what is opened, and may fail."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.real = pafs.SubTreeFileSystem(str(folder), pafs.LocalFileSystem())
        self.opened: list[str] = []
        self.works_for = 10**9

    def open(self, uri: str, *, flag: str = "") -> tuple[Any, str]:
        if not uri.startswith("s3://"):
            return open_filesystem(uri, flag=flag)
        return self, uri.partition("://")[2].rpartition("@")[2].rstrip("/")

    def get_file_info(self, what: Any) -> Any:
        return self.real.get_file_info(what)

    def open_input_stream(self, path: str) -> Any:
        self.opened.append(path)
        if len(self.opened) > self.works_for:
            raise OSError("AWS Error SLOW_DOWN during GetObject operation")
        return self.real.open_input_stream(path)


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    made = Bucket(tmp_path / "store")
    fill_tree(made.folder / "bucket/photos/train", images=6)
    fill_tree(made.folder / "bucket/photos/val", images=2, first=500)
    monkeypatch.setattr(remote, "open_filesystem", made.open)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return made


def on_disk(bucket: Bucket) -> Path:
    return bucket.folder / "bucket/photos"


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def fingerprint(spec: str, **options: Any) -> str:
    data = load_dataset(spec, image_size=16, **options)
    return prepare(data, subset=8, val_fraction=0.25, seed=0).fingerprint


def test_files_are_fetched_once_and_announced(bucket: Bucket, tmp_path: Path) -> None:
    lines: list[str] = []
    origin = fetch(URI, announce=lines.append)
    assert files(Path(origin.folder)) == files(on_disk(bucket))
    assert Path(origin.folder).parent == tmp_path / "cache"
    assert lines == [f"fetching 16 files, 0.1 MiB, of {URI} into {tmp_path / 'cache'}"]
    assert fetch(f"{URI}/", announce=lines.append).folder == origin.folder
    assert len(bucket.opened) == 16
    assert len(lines) == 1


@pytest.mark.parametrize("spec", ["folder", "imagenet"])
def test_data_are_the_same_wherever_they_lie(bucket: Bucket, spec: str) -> None:
    def of(place: str) -> str:
        if spec == "imagenet":
            return fingerprint("imagenet", data_dir=place)
        return fingerprint(f"folder:{place}")

    assert of(URI) == of(str(on_disk(bucket))) == of(f"file://{on_disk(bucket)}")
    assert len(bucket.opened) == 16


def test_data_are_called_after_where_they_came_from(bucket: Bucket) -> None:
    assert load_dataset(f"folder:{URI}", image_size=16).name == f"folder:{URI}"
    secret = load_dataset("folder:s3://KEY:A-SECRET@bucket/photos", image_size=16)
    assert secret.name == "folder:s3://***@bucket/photos"


def test_shards_are_packed_from_a_store_and_read_from_one(bucket: Bucket, tmp_path: Path) -> None:
    pack("imagenet", on_disk(bucket).with_name("packed"), data_dir=URI, announce=lambda line: None)
    packed = fingerprint("arrow:s3://bucket/packed", data_cache=str(tmp_path / "other"))
    assert packed == fingerprint(f"arrow:{on_disk(bucket).with_name('packed')}")
    assert len(list((tmp_path / "other").glob("*/train-*.arrow"))) == 1
    streamed = fingerprint("imagenet", data_dir="s3://bucket/packed")
    assert streamed == fingerprint("imagenet", data_dir=URI)


def test_changed_data_are_fetched_anew_beside_the_old(bucket: Bucket) -> None:
    before = fetch(URI)
    (on_disk(bucket) / "train/cat/new.jpg").write_bytes(b"x")
    after = fetch(URI)
    assert after.key != before.key
    assert len(files(Path(before.folder))) == 16
    assert len(files(Path(after.folder))) == 17


def test_what_was_fetched_before_an_outage_is_kept(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "THREADS", 1)
    bucket.works_for = 9
    with pytest.raises(StorageAccessError, match=f"^{URI}: it is overloaded"):
        fetch(URI)
    assert [path.suffix for path in (tmp_path / "cache").iterdir() if path.is_dir()] == [".part"]
    half = next((tmp_path / "cache").glob("*.part/train/cat/000.jpg"))
    half.write_bytes(half.read_bytes()[:100])  # as a power cut may leave it
    bucket.opened.clear()
    bucket.works_for = 100
    origin = fetch(URI)
    assert len(bucket.opened) == 16 - 9 + 1
    assert files(Path(origin.folder)) == files(on_disk(bucket))


def test_processes_of_a_node_fetch_once(bucket: Bucket) -> None:
    found: list[Origin] = []
    threads = [threading.Thread(target=lambda: found.append(fetch(URI))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({origin.folder for origin in found}) == 1
    assert len(found) == 4
    assert len(bucket.opened) == 16


# -- caches that several machines or users share --------------------------------------------------


def test_nodes_whose_locks_do_not_hold_for_each_other_both_find_all_of_it(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "FileLock", lambda path: nullcontext())
    meet = threading.Barrier(2)
    real = cache._missing

    def together(*args: Any) -> Any:
        found = real(*args)
        if threading.current_thread() is not threading.main_thread():
            meet.wait(10)  # both begin at the same moment, and both believe to have all
        return found

    monkeypatch.setattr(cache, "_missing", together)
    found: list[Origin] = []
    threads = [threading.Thread(target=lambda: found.append(fetch(URI))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert files(Path(found[0].folder)) == files(on_disk(bucket))
    assert [path.name for path in Path(found[0].folder).parent.iterdir()] == [found[0].key]


def test_files_that_vanish_before_all_are_there_get_no_whole_name(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_copy", lambda *args: None)
    with pytest.raises(DataError, match="was fetched, and is gone again from"):
        fetch(URI)
    assert not (tmp_path / "cache" / fetch_key()).exists()


def fetch_key() -> str:
    listed = remote._listing(*remote.open_filesystem(URI), URI, "")
    return remote._key(URI, listed)


def test_cache_of_another_user_is_read_without_a_lock(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = fetch(URI)

    def refuse(path: str) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(cache, "FileLock", refuse)
    assert fetch(URI) == there
    shutil.rmtree(there.folder)
    with pytest.raises(DataError, match=r"cannot be kept in .*Permission denied.*--data_cache DIR"):
        fetch(URI, flag="--data_dir")


def test_cache_that_cannot_be_a_folder_is_refused_with_the_flag(
    bucket: Bucket, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"cannot be kept in .*/file/cache .*RAYMD_DATA_CACHE"):
        fetch(URI, cache=str(tmp_path / "file/cache"))
    with pytest.raises(DataError, match="there is no home folder here"):
        fetch(URI, cache="~nobody-of-that-name/cache")
    assert usable(str(tmp_path / "file/cache")) is None
    assert usable(str(tmp_path / "new/cache")) == str(tmp_path / "new/cache")


def test_object_and_folder_of_one_name_are_refused_with_the_flags(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    infos = [
        pafs.FileInfo(f"bucket/photos/{name}", pafs.FileType.File, size=3) for name in ("a", "a/b")
    ]
    monkeypatch.setattr(bucket, "get_file_info", lambda what: infos)
    monkeypatch.setattr(bucket, "open_input_stream", lambda path: io.BytesIO(b"123"))
    with pytest.raises(DataError, match=r"cannot be kept .*--data_cache DIR .* \(--data_dir\)"):
        fetch(URI, flag="--data_dir")


def test_cache_is_where_it_was_named_for_whoever_stands_elsewhere(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    origin = fetch(URI, cache="here")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert origin.on_this_node().folder == origin.folder
    assert len(bucket.opened) == 16


# -- other nodes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tree", "shards"])
def test_worker_of_another_node_fetches_what_it_reads(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    place = URI
    if kind == "shards":
        place = "s3://bucket/packed"
        pack(f"folder:{on_disk(bucket)}", on_disk(bucket).with_name("packed"))
    data = load_dataset("imagenet", data_dir=place, image_size=16)
    before = [data.train.picture(row).content for row in range(len(data.train))]
    prepared = prepare(data, subset=None, val_fraction=0.25, seed=0)
    arrived = pickle.dumps(shipping.pack(prepared))
    shutil.rmtree(tmp_path / "cache")  # the driver's is not there
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "worker"))
    there = shipping.unpack(pickle.loads(arrived))
    assert isinstance(there.train, EncodedSplit)
    for split, was in ((there.train, prepared.train), (there.test, prepared.test)):
        assert split.place(0).startswith(str(tmp_path / "worker"))
        assert split.manifest.ids.take(split.where) == was.manifest.ids.take(was.where)
    after = [there.train.picture(row).content for row in range(len(there.train))]
    assert set(after) <= set(before)
    assert len(after) == len(there.train)


def test_named_cache_holds_for_all_nodes(bucket: Bucket, tmp_path: Path) -> None:
    data = load_dataset("imagenet", data_dir=URI, image_size=16, data_cache=str(tmp_path / "all"))
    there = data.train.shipped()()
    assert there.place(0) == data.train.place(0)
    assert there.place(0).startswith(str(tmp_path / "all"))
    assert not (tmp_path / "cache").exists()


def test_worker_that_finds_other_files_says_so(bucket: Bucket, tmp_path: Path) -> None:
    data = load_dataset("imagenet", data_dir=URI, image_size=16)
    made = data.train.shipped()
    shutil.rmtree(tmp_path / "cache")
    (on_disk(bucket) / "train/cat/new.jpg").write_bytes(b"x")
    with pytest.raises(
        DataError, match=f"^{URI}: the files are no longer those that the run found"
    ):
        made()


# -- refusals -------------------------------------------------------------------------------------


def test_folder_without_files_is_refused(bucket: Bucket) -> None:
    with pytest.raises(DataError, match=r"s3://bucket/none: no files are there; .* \(--data_dir\)"):
        load_dataset("cifar10", data_dir="s3://bucket/none")


def test_more_than_fits_is_refused_before_it_is_fetched(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = shutil.disk_usage("/")._replace(free=3000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    with pytest.raises(DataError, match=r"0\.1 MiB are to be fetched, but 0\.0 MiB are free in "):
        fetch(URI)
    assert bucket.opened == []


@pytest.mark.parametrize("name", ["../../out.jpg", "/etc/passwd", "a/../../b"])
def test_names_that_lead_out_of_the_cache_are_refused(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    info = pafs.FileInfo(f"bucket/photos/{name}", pafs.FileType.File, size=3)
    monkeypatch.setattr(bucket, "get_file_info", lambda what: [info])
    with pytest.raises(DataError, match="leads out of the folder"):
        fetch(URI)
    assert bucket.opened == []


def test_file_that_shrinks_meanwhile_is_no_file(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def grown(what: Any) -> Any:
        infos = bucket.real.get_file_info(what)
        return [pafs.FileInfo(info.path, info.type, size=(info.size or 0) + 1) for info in infos]

    monkeypatch.setattr(bucket, "get_file_info", grown)
    with pytest.raises(DataError, match="bytes came; was it changed meanwhile"):
        fetch(URI)


def test_paths_of_this_machine_stay_as_they_are(bucket: Bucket, tmp_path: Path) -> None:
    here = made_local(f"folder:{tmp_path}", None)
    assert (here.argument, here.data_dir, here.origin) == (str(tmp_path), None, None)
    assert made_local("cifar10", tmp_path).data_dir == tmp_path
    assert made_local("digits", None).data_dir is None
    assert bucket.opened == []


@pytest.mark.parametrize(
    ("storage", "data", "refused"),
    [
        ("s3://b/runs", "s3://b", True),
        ("s3://b/runs?region=x", "s3://KEY:SECRET@b/", True),
        ("s3://b/photos", "s3://b/photos", True),
        ("s3://b/photos-runs", "s3://b/photos", False),
        ("gs://b/runs", "s3://b", False),
        ("abfs://a@one.dfs/runs", "abfs://b@one.dfs/runs", False),
        ("abfs://a@one.dfs/runs/x", "abfs://a@one.dfs/runs", True),
        ("runs", "s3://b", False),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "imagenet"])
def test_runs_among_the_data_are_refused(storage: str, data: str, kind: str, refused: bool) -> None:
    said = {"dataset": f"folder:{data}"}
    if kind == "imagenet":
        said = {"dataset": "imagenet", "data_dir": data}
    config = FitConfig.from_mapping({"students": "resnet8", "storage": storage, **said})
    flag = "--data_dir" if kind == "imagenet" else "--dataset"
    expected = pytest.raises(UserError, match=rf"lies in the data's folder .* \({flag}\)$")
    with expected if refused else nullcontext():
        check_apart(config)
