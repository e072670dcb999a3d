"""A table or an index in the order in which a Query reads it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from serverless_sessions.serve.expressions import Item, order

Key = tuple[str, ...]


@dataclass(slots=True, eq=False)
class _Entry:
    """An item, and the time from which and until which it is shown."""

    key: Key
    position: Any
    item: Item
    since: float
    until: float = float("inf")


_position = attrgetter("position")


class View:
    """Items by the attribute `partition`, sorted by the attribute `sort`.

    Items without these attributes are not in it. It has only the attributes `keep` of an item, or
    all of them.
    """

    def __init__(self, partition: str, sort: str, *, keep: tuple[str, ...] = ()) -> None:
        self.partition = partition
        self._sort = sort
        self._keep = keep
        self._entries: dict[Key, _Entry] = {}
        self._partitions: dict[str, list[_Entry]] = {}
        # Those that are no longer shown, or will not be.
        self._removed: deque[_Entry] = deque()

    def put(self, key: Key, old: Item, new: Item, *, at: float) -> None:
        """Show a change of an item from the time `at` on. An item that does not exist is {}."""
        if not old and self.partition in new and self._sort in new:
            kept = {name: new[name] for name in self._keep} if self._keep else new
            entry = _Entry(key, self._position(new), kept, since=at)
            self._entries[key] = entry
            partition = self._partitions.setdefault(new[self.partition]["S"], [])
            insort(partition, entry, key=_position)
        elif old and (shown := self._entries.get(key)):
            if new and not self._keep:
                shown.item = new
            elif not new and shown.until == float("inf"):
                shown.until = max(at, shown.since)
                self._removed.append(shown)

    def shows(self, key: Key, at: float) -> bool:
        entry = self._entries.get(key)
        return entry is not None and entry.since <= at < entry.until

    def forget(self, now: float) -> None:
        """Forget the entries that are no longer shown."""
        while self._removed and self._removed[0].until <= now:
            entry = self._removed.popleft()
            if self._entries[entry.key] is entry:
                del self._entries[entry.key]
            partition = entry.item[self.partition]["S"]
            entries = self._partitions[partition]
            start = bisect_left(entries, entry.position, key=_position)
            del entries[entries.index(entry, start)]
            if not entries:
                del self._partitions[partition]

    def find(
        self,
        partition: str,
        matches: Callable[[Item], bool],
        *,
        now: float,
        limit: int,
        after: Item | None,
        backwards: bool,
    ) -> list[Item]:
        """Return the first matching items that are shown at `now`, `limit` at most.

        The items that match are next to one another. With `after`, the result begins after the
        position of that item.
        """
        entries = self._partitions.get(partition, [])
        page: list[Item] = []
        if backwards:
            end = bisect_left(entries, self._position(after), key=_position) if after else None
            span = range((len(entries) if end is None else end) - 1, -1, -1)
        else:
            start = bisect_right(entries, self._position(after), key=_position) if after else 0
            span = range(start, len(entries))
        for i in span:
            entry = entries[i]
            if not entry.since <= now < entry.until:
                continue
            if matches(entry.item):
                page.append(entry.item)
                if len(page) == limit:
                    break
            elif page:
                break
        return page

    def _position(self, item: Item) -> Any:
        return order(item[self._sort]), order(item["SessionId"])
