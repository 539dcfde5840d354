"""A bucket of S3's on this machine: moto's server in a thread, with every request written down."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from raymd.object_store import _from_uri

BUCKET = "bucket"
KEY, SECRET = "a-key-of-the-tests", "a-secret-of-the-tests"


@dataclass
class ObjectStore:
    """The server's handle.

    Attributes:
        endpoint: Its address.
        requests: "PUT /bucket/runs/a 200" each, in order.
        outage: Answers so many requests with 503 before it works again.
    """

    endpoint: str = ""
    requests: list[str] = field(default_factory=list)
    outage: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def seen_by(self, app: Callable[..., Any]) -> Callable[..., Any]:
        """The server's application, watched."""

        def watched(environ: dict[str, Any], start: Callable[..., Any]) -> Any:
            asked = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"

            def noted(status: str, *rest: Any) -> Any:
                self.requests.append(f"{asked} {status[:3]}")
                return start(status, *rest)

            with self._lock:
                is_out = self.outage > 0
                self.outage -= is_out
            if not is_out:
                return app(environ, noted)
            noted("503 Slow Down", [("content-type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>too much</Message></Error>"]

        return watched


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """A server with an empty bucket; the environment names it to this process and its children."""
    import boto3
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"  # or each request opens a connection

        def log(self, *args: Any) -> None:
            """The requests are noted elsewhere."""

    store = ObjectStore()
    app = store.seen_by(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    store.endpoint = f"http://127.0.0.1:{server.port}"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": store.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            patch.setenv(name, value)
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket=BUCKET)
        store.requests.clear()
        try:
            _from_uri.cache_clear()  # connections to a server of before
            yield store
        finally:
            server.shutdown()
            server.server_close()
