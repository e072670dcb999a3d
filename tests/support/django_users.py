"""Users for Django apps without a database."""

from __future__ import annotations

from django.contrib.auth.models import User


class Backend:
    """An authentication backend that has a user for every number."""

    def get_user(self, user_id: int) -> User:
        user = User(pk=user_id, username=str(user_id))
        # A log-in would store its time in the user's row.
        user.save = lambda **_: None  # type: ignore[method-assign]
        return user

    async def aget_user(self, user_id: int) -> User:
        return self.get_user(user_id)


BACKEND = f"{Backend.__module__}.{Backend.__qualname__}"
