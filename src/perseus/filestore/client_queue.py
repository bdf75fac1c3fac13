"""A bounded queue between two threads that either side can end."""

import threading
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class ClosedError(Exception):
    """The other side has ended the queue. Stays inside the package."""


class ClosableQueue(Generic[Item]):
    """First in, first out, at most ``bound`` items; threads wait for room and for items."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, item: Item) -> None:
        """Adds an item, waiting for room; ClosedError once the queue has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._bound)
            if self._closed:
                raise ClosedError
            self._items.append(item)
            self._changed.notify_all()

    def get(self) -> Item:
        """The next item, waiting for one; ClosedError when it has ended and nothing is left."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._items))
            if not self._items:
                raise ClosedError
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self, *, drop: bool = False) -> None:
        """Ends the queue; what is in it can still be taken, unless ``drop``."""
        with self._changed:
            self._closed = True
            if drop:
                self._items.clear()
            self._changed.notify_all()
