"""The only place that touches what Ray does not promise to keep.

Each use names what there is no public way for; where a later Ray has moved it, raymd goes on
without.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray._private.worker

log = logging.getLogger(__name__)

PRINTER = "print_to_stdstream"


@contextmanager
def raylet_messages_to_log() -> Iterator[None]:
    """Send the raylet's remarks to Python's logging instead of the terminal.

    ``log_to_driver=False`` stops the workers' output but not these (2.60): that many workers
    were started, or that a call will be retried, both of which raymd means to happen.
    """
    module: Any = ray._private.worker
    printer = getattr(module, PRINTER, None)
    if printer is None:
        yield
        return

    def to_log(data: dict[str, Any], *_: Any, **__: Any) -> None:
        log.info("ray: %s", " ".join(map(str, data.get("lines", ()))))

    setattr(module, PRINTER, to_log)
    try:
        yield
    finally:
        setattr(module, PRINTER, printer)
