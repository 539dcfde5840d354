"""Filesystems by URI (s3://, gs://, abfs://, whatever pyarrow knows), and their errors in words.

Place on the data's way: below storage.py, for runs, and data/remote.py, for images. A URI enters;
pyarrow's filesystem and the path in it leave. What a store refuses comes back as an error that says
what to do, without request ids.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache

import pyarrow as pa
import pyarrow.fs as pafs

from raymd.errors import RaymdError, StorageAccessError, StorageRefusedError, UserError
from raymd.paths import is_uri
from raymd.secrets import without_secrets

# One request a small file instead of three; and no quarter of an hour without a network.
OPTIONS = {
    "s3": "allow_delayed_open=true",
    "gs": "retry_limit_seconds=30",
    "gcs": "retry_limit_seconds=30",
}
CREDENTIALS = {
    "AWS": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or a role of the machine",
    "google": "GOOGLE_APPLICATION_CREDENTIALS, `gcloud auth`, or a role of the machine",
    "Azure": "AZURE_… variables, `az login`, or a role of the machine",
}
# What a store says -> what to do; refusals come again, however often it is asked.
REFUSALS = {
    r"NO_SUCH_BUCKET|NoSuchBucket|ContainerNotFound|bucket does not exist": (
        "there is no such bucket: create it, or mind the spelling"
    ),
    r"HTTP status 301|PermanentRedirect|AuthorizationHeaderMalformed": (
        "the bucket is in another region: name it (?region=… behind the URI)"
    ),
    r"REQUEST_TIME_TOO_SKEWED": "the clock of this machine is wrong: set it",
    r"ACCESS_DENIED|ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|ExpiredToken|InvalidToken|TOKEN_ID"
    r"|HTTP status 40[03]|PERMISSION_DENIED|UNAUTHENTICATED|AuthenticationException": (
        "credentials are missing, wrong or lack the right, on this machine or a node"
    ),
}
OUTAGES = {
    r"NETWORK_CONNECTION|[Cc]ould not (resolve|connect)|CURL error": (
        "it is not reached: check the network, and the address of a store that is not the cloud's"
        " own (AWS_ENDPOINT_URL, or ?endpoint_override=HOST:PORT&scheme=http behind the URI)"
    ),
    r"SLOW_DOWN|HTTP status 5\d\d|UNAVAILABLE|[Tt]imed? ?out": "it is overloaded: try again later",
}
SHOWN_LETTERS = 200
_NOISE = re.compile(
    r"When .*? (?=AWS Error)|No response body|\s*\(Request ID: [^)]*\)|\s*error_info=\{.*"
    r"|\s*See Azure::Core.*|Unable to parse ExceptionName: ",
    re.DOTALL,
)


def open_filesystem(uri: str, *, flag: str = "--storage") -> tuple[pafs.FileSystem, str]:
    """The filesystem of a path or URI, and the path in it, without a slash at its end.

    Args:
        uri: With options of pyarrow's behind a question mark, if any.
        flag: That the user said.

    Raises:
        UserError: no filesystem is known by that name, or its options mean nothing.
        StorageRefusedError, StorageAccessError: as ``explained``; a store may be asked for its
            region.
    """
    if not is_uri(uri):
        return pafs.LocalFileSystem(), uri.rstrip("/") or "/"
    with explained(uri):
        try:
            filesystem, path = _from_uri(uri)
        except (ImportError, NotImplementedError, ValueError) as error:
            raise UserError(f"storage {uri!r} ({flag}): {explain(error)}") from error
    if not path.strip("/"):
        raise UserError(f"storage {uri!r} ({flag}): it names no bucket, as in s3://BUCKET/FOLDER")
    return filesystem, path.rstrip("/")


@lru_cache(maxsize=32)  # a connection each; opening one may ask for the bucket's region
def _from_uri(uri: str) -> tuple[pafs.FileSystem, str]:
    option = OPTIONS.get(uri.partition("://")[0].lower())
    if option is not None and option.partition("=")[0] not in uri.partition("?")[2]:
        with suppress(pa.ArrowInvalid):  # an older pyarrow does not know the option
            return pafs.FileSystem.from_uri(f"{uri}{'&' if '?' in uri else '?'}{option}")
    return pafs.FileSystem.from_uri(uri)


def explain(error: BaseException) -> str:
    """An error of a filesystem in one line: what to do, if that is known, and what was said."""
    said = " ".join(_NOISE.sub("", str(error)).split()).rstrip(". :")
    known = {**REFUSALS, **OUTAGES}
    remedy = next((text for pattern, text in known.items() if re.search(pattern, said)), None)
    if remedy is None:
        return without_secrets(said)
    if remedy.startswith("credentials"):
        kinds = [names for store, names in CREDENTIALS.items() if store in said]
        remedy += f" ({kinds[0]})" if kinds else ""
    return without_secrets(f"{remedy}: {said[:SHOWN_LETTERS]}")


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Inside the block, what an object store says becomes an error with a remedy.

    Errors with a number are the system's own, such as a file that is not there: they stay.

    Raises:
        StorageRefusedError: it will say so again.
        StorageAccessError: trying again may help.
    """
    try:
        yield
    except RaymdError:
        raise
    except (pa.ArrowException, OSError) as error:
        if getattr(error, "errno", None) is not None:
            raise
        refused = any(re.search(pattern, str(error)) for pattern in REFUSALS)
        kind = StorageRefusedError if refused else StorageAccessError
        raise kind(f"{uri}: {explain(error)}") from error
