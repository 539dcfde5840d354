"""One thread beside the caller's: what it is given is done in order, while the caller goes on.

Publishing computes a block while the one before is committed and handed over. Memory stays bounded,
for the caller waits before it hands over more than may be under way; and what goes wrong in the
thread is raised in the caller, as it is.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any


class Background:
    """Work for one thread, within a ``with`` block that ends once all of it is done.

    Args:
        at_most: Pieces of work that are begun or wait at a time.
    """

    def __init__(self, *, at_most: int = 1) -> None:
        self._room = at_most
        self._under_way: deque[Future[Any]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="background")

    def do(self, work: Callable[..., Any], *args: Any, **options: Any) -> None:
        """Have a call done after those before, once there is room for it.

        Raises:
            BaseException: what an earlier call raised; nothing is begun after that.
        """
        self._wait(self._room - 1)
        self._under_way.append(self._thread.submit(work, *args, **options))

    def _wait(self, at_most: int) -> None:
        while len(self._under_way) > at_most:
            self._under_way.popleft().result()

    def __enter__(self) -> "Background":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._wait(0)
        finally:
            # what is being written is finished: nobody writes here once the caller is gone
            self._thread.shutdown(wait=True, cancel_futures=True)
