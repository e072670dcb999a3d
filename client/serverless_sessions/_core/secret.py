"""Values that no report of an error shows.

Sentry, Django's error page and others show the local variables of all frames of a traceback, by
their `repr`. A token, the data of a session and the body of a request are therefore kept in a
`Secret` until the moment in which they are sent.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value", covariant=True)
Other = TypeVar("Other")


class Secret(Generic[Value]):
    __slots__ = ("value",)

    def __init__(self, value: Value) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "Secret()"

    def map(self, function: Callable[[Value], Other]) -> Secret[Other]:
        """Return the result of a function of the value, as a secret as well.

        If the function raises, its frames are cut off, because their variables contain the value.
        """
        outer = sys.exception()
        try:
            return Secret(function(self.value))
        except BaseException as error:
            without_frames(error, outer)
            raise


def without_frames(error: BaseException, outer: BaseException | None) -> None:
    """Remove the frames of an error, and of the errors that it was raised from.

    `outer` is the exception that was being handled before. It keeps its frames.
    """
    link: BaseException | None = error
    while link is not None and link is not outer:
        link.__traceback__ = None
        link = link.__cause__ if link.__suppress_context__ else link.__context__
