"""Users for apps on Django that have no database."""

from __future__ import annotations

from django.contrib.auth.models import User


class Backend:
    """Users that are in no database; any number is one."""

    def get_user(self, user_id: int) -> User:
        user = User(pk=user_id, username=str(user_id))
        # A log-in stores its time with the user.
        user.save = lambda **_: None  # type: ignore[method-assign]
        return user

    async def aget_user(self, user_id: int) -> User:
        return self.get_user(user_id)


BACKEND = f"{Backend.__module__}.{Backend.__qualname__}"
