"""Filesystems by URI, and what is said of their errors; no network."""

import errno
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pytest

from raymd import object_store
from raymd.errors import (
    StorageAccessError,
    StorageError,
    StorageRefusedError,
    StorageWriteError,
    UserError,
)
from raymd.object_store import explain, explained, open_filesystem
from raymd.storage import Storage

S3 = "s3://bucket/runs?region=eu-west-1&endpoint_override=127.0.0.1:1&scheme=http"
AZURE = "abfs://container@account.dfs.core.windows.net/runs"
# As they were said by moto's server, by one that answers as AWS documents it, or with no network.
NO_BUCKET = (
    "When uploading object with key 'runs/a' in bucket 'bucket': AWS Error NO_SUCH_BUCKET during"
    " PutObject operation: The specified bucket does not exist (Request ID: wmqoRP05Y6vDxs6R2)"
)
DENIED = (
    "When reading information for key 'runs/a' in bucket 'bucket': AWS Error ACCESS_DENIED during"
    " HeadObject operation: No response body."
)
ELSEWHERE = (
    "When listing objects under key 'runs/' in bucket 'bucket': AWS Error UNKNOWN (HTTP status 301)"
    " during ListObjectsV2 operation: Unable to parse ExceptionName: PermanentRedirect Message: x"
)
EXPIRED = (
    "When uploading object with key 'runs/a' in bucket 'bucket': AWS Error UNKNOWN (HTTP status"
    " 400) during PutObject operation: Unable to parse ExceptionName: ExpiredToken Message: x"
)
UNREACHED = (
    "When uploading object with key 'a' in bucket 'bucket': AWS Error NETWORK_CONNECTION during"
    " PutObject operation: curlCode: 7, Could not connect to server"
)
SLOW = "When uploading part: AWS Error SLOW_DOWN during PutObject operation: Please reduce"
GOOGLE = (
    "google::cloud::Status(UNAVAILABLE: Retry policy exhausted, with a last message of"
    " PerformWork() - CURL error [6]=Could not resolve hostname error_info={reason=, domain=})"
)
AZURE_LOGIN = (
    "Unknown error: Check for Hierarchical Namespace support on 'https://account.blob' failed:"
    " N5Azure4Core11Credentials23AuthenticationExceptionE: Failed to get token from"
    " DefaultAzureCredential.\nSee Azure::Core::Diagnostics::Logger for details."
)


@pytest.mark.parametrize(
    ("uri", "kind", "path"),
    [
        ("s3://bucket/runs?region=us-east-1", pafs.S3FileSystem, "bucket/runs"),
        (f"{S3}&allow_delayed_open=false", pafs.S3FileSystem, "bucket/runs"),
        ("gs://bucket/runs", pafs.GcsFileSystem, "bucket/runs"),
        ("gs://anonymous@bucket/runs/?retry_limit_seconds=5", pafs.GcsFileSystem, "bucket/runs"),
        (AZURE, pafs.AzureFileSystem, "container/runs"),
        ("file:///tmp/runs", pafs.LocalFileSystem, "/tmp/runs"),
        ("/tmp/runs/", pafs.LocalFileSystem, "/tmp/runs"),
    ],
)
def test_uri_is_opened_by_its_filesystem(uri: str, kind: type, path: str) -> None:
    filesystem, found = open_filesystem(uri)
    assert isinstance(filesystem, kind)
    assert found == path


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (
            "s3a://bucket/runs",
            r"storage 's3a://bucket/runs' \(--storage\): Unrecognized filesystem",
        ),
        ("s3://", r"storage 's3://' \(--storage\): it names no bucket, as in s3://BUCKET/FOLDER"),
        ("s3://bucket/runs?colour=red", "Unexpected query parameter in S3 URI: 'colour'"),
        ("abfs://container/runs", "doesn't contain a valid account name"),
    ],
)
def test_uri_that_means_nothing_is_refused_with_the_flag(uri: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Storage.at(uri)


def test_pyarrow_that_does_not_know_the_option_does_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    object_store._from_uri.cache_clear()
    monkeypatch.setitem(object_store.OPTIONS, "s3", "not_known_yet=true")
    assert open_filesystem(S3)[1] == "bucket/runs"
    object_store._from_uri.cache_clear()


def test_folder_of_a_storage_shares_its_connection_and_its_options() -> None:
    storage = Storage.at(S3)
    below = storage.sub("name")
    assert below.filesystem[0] is storage.filesystem[0]
    assert below.filesystem[1] == "bucket/runs/name"
    assert below.uri == S3.replace("runs?", "runs/name?")


@pytest.mark.parametrize(
    ("said", "kind", "remedy"),
    [
        (NO_BUCKET, StorageRefusedError, "there is no such bucket: create it"),
        (DENIED, StorageRefusedError, r"credentials are missing, .*AWS_ACCESS_KEY_ID"),
        (EXPIRED, StorageRefusedError, r"credentials are missing, .*AWS_ACCESS_KEY_ID"),
        (ELSEWHERE, StorageRefusedError, r"in another region: name it \(\?region="),
        (AZURE_LOGIN, StorageRefusedError, r"credentials are missing, .*`az login`"),
        (UNREACHED, StorageAccessError, r"it is not reached: .*AWS_ENDPOINT_URL"),
        (GOOGLE, StorageAccessError, "it is not reached: check the network"),
        (SLOW, StorageAccessError, "it is overloaded: try again later"),
        ("something new", StorageAccessError, "^s3://bucket/runs: something new$"),
    ],
)
def test_what_a_store_says_gets_a_remedy(said: str, kind: type, remedy: str) -> None:
    for error in (OSError(said), pa.ArrowException(said)):
        with pytest.raises(kind, match=remedy) as caught, explained("s3://bucket/runs"):
            raise error
        assert isinstance(caught.value, OSError)
        for noise in ("Request ID", "No response body", "error_info", "Diagnostics"):
            assert noise not in str(caught.value)


def test_errors_with_a_number_and_our_own_stay_as_they_are() -> None:
    for error in (FileNotFoundError(errno.ENOENT, "gone"), StorageError("damaged")):
        with pytest.raises(type(error)) as caught, explained("s3://bucket/runs"):
            raise error
        assert caught.value is error


def test_credentials_in_a_uri_are_not_told() -> None:
    told = explain(OSError("'s3://KEYKEY:SECRETSECRET@bucket/x': AWS Error SLOW_DOWN"))
    assert "SECRETSECRET" not in told
    assert "KEYKEY" not in told


@pytest.mark.parametrize(
    ("said", "kind"), [(SLOW, StorageAccessError), (DENIED, StorageRefusedError)]
)
def test_store_that_is_away_when_it_is_opened_may_be_asked_again_by_a_worker(
    monkeypatch: pytest.MonkeyPatch, said: str, kind: type
) -> None:
    def fail(uri: str) -> Any:
        raise OSError(said)

    monkeypatch.setattr(object_store, "_from_uri", fail)
    worker = pickle.loads(pickle.dumps(Storage("s3://bucket/runs")))
    with pytest.raises(kind):
        worker.record("run.json")
    with pytest.raises(UserError, match=r"cannot be opened \(.*\); choose another: --storage DIR$"):
        Storage.to_write("s3://bucket/runs")


@pytest.mark.parametrize("uri", [S3, S3.replace("runs?", "runs/?"), S3.replace("runs?", "runs//?")])
def test_slash_at_a_uris_end_changes_no_folder(uri: str) -> None:
    below = Storage.at(uri).sub("run")
    there = pickle.loads(pickle.dumps(below))
    assert there._path("a") == below._path("a") == "bucket/runs/run/a"
    assert Storage(uri).sub("run").uri == below.uri


class Failing:
    """A filesystem of which every call fails in the same words."""

    def __init__(self, said: str) -> None:
        self.said = said

    def __getattr__(self, name: str) -> Any:
        def fail(*args: Any, **kw: Any) -> Any:
            raise OSError(self.said)

        return fail


@pytest.mark.parametrize(
    "call",
    [
        lambda storage: storage.write("a", b"1"),
        lambda storage: storage.read("a"),
        lambda storage: storage.record("a.json"),
        lambda storage: storage.exists("a"),
        lambda storage: storage.list("a"),
        lambda storage: storage.delete("a"),
    ],
)
def test_every_call_says_what_to_do(call: Any) -> None:
    refusing = Storage("s3://bucket/runs", {"fs": (Failing(DENIED), "bucket/runs")})
    with pytest.raises(StorageWriteError, match="credentials"):
        call(refusing)
    away = Storage("s3://bucket/runs", {"fs": (Failing(SLOW), "bucket/runs")})
    with pytest.raises(StorageAccessError, match="overloaded"):
        call(away)


def test_storage_that_cannot_be_written_is_refused_before_a_run() -> None:
    storage = Storage("s3://bucket/runs", {"fs": (Failing(NO_BUCKET), "bucket/runs")})
    expected = r"cannot be written \(there is no such bucket: .*\); choose another: --storage DIR$"
    with pytest.raises(UserError, match=expected) as caught:
        storage.check_writable()
    assert str(caught.value).count("there is no such bucket") == 1


def test_file_uri_is_a_folder_of_this_machine(tmp_path: Path) -> None:
    assert Storage.at(f"file://{tmp_path}/new").uri == f"{tmp_path}/new"
