"""The settings of the embedded service. They have the defaults of a deployment."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from serverless_sessions._core import clock

SESSIONS, AUDIT = "sessions", "audit"
_RETENTION_SECONDS = 400 * 24 * 3600
_MAXIMUMS = {"rotation_grace_seconds": 3600, "max_absolute_ttl_seconds": 400 * 24 * 3600}
_OPTIONAL_EVENTS = ("confirmed", "renewed", "rotated", "updated")


def _setting(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Times are in seconds. Raises `ValueError` for a value that a deployment would refuse."""

    default_ttl_seconds: int = _setting(1800, "Idle timeout of a session that sets none.")
    default_absolute_ttl_seconds: int = _setting(86_400, "Absolute timeout, likewise.")
    max_absolute_ttl_seconds: int = _setting(34_560_000, "The longest absolute timeout.")
    max_impersonation_seconds: int = _setting(3600, "The longest of impersonated sessions.")
    max_data_bytes: int = _setting(65_536, "Limit for the data of one request.")
    renewal_fraction: float = _setting(0.1, "Part of the idle timeout after which verify renews.")
    rotation_grace_seconds: int = _setting(30, "How long a former token stays valid.")
    max_sessions_per_user: int = _setting(0, "Limit of a user's sessions, or 0 for none.")
    not_before: int = _setting(0, "Sessions created before this time (epoch seconds) are dead.")
    unrecorded_events: str = _setting("renewed,confirmed", "Types of events that are not kept.")
    record_anonymous: bool = _setting(False, "Record the events of sessions without a user.")

    def __post_init__(self) -> None:
        for name in (
            *("default_ttl_seconds", "max_impersonation_seconds"),
            *("max_data_bytes", "rotation_grace_seconds"),
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive")
        if not 0 <= self.max_sessions_per_user <= 100:
            raise ValueError("max_sessions_per_user must be between 1 and 100, or 0 for none")
        for name, maximum in _MAXIMUMS.items():
            if getattr(self, name) > maximum:
                raise ValueError(f"{name} must be at most {maximum}")
        longest = self.default_absolute_ttl_seconds, self.max_absolute_ttl_seconds
        if not self.default_ttl_seconds <= longest[0] <= longest[1]:
            raise ValueError(
                "default_ttl_seconds, default_absolute_ttl_seconds and max_absolute_ttl_seconds"
                " must not be in a falling order"
            )
        if not 0 <= self.renewal_fraction <= 1:
            raise ValueError("renewal_fraction must be between 0 and 1")
        if not 0 <= self.not_before <= clock.time():
            raise ValueError("not_before must be a time in the past, in epoch seconds")
        if set(filter(None, self.unrecorded_events.split(","))) - set(_OPTIONAL_EVENTS):
            raise ValueError(f"unrecorded_events may name {', '.join(_OPTIONAL_EVENTS)}")

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of the functions."""
        values = {field.name.upper(): _text(getattr(self, field.name)) for field in fields(self)}
        return values | {
            "SESSIONS_TABLE": SESSIONS,
            "AUDIT_TABLE": AUDIT,
            "AUDIT_RETENTION_SECONDS": str(_RETENTION_SECONDS),
            "FAILED_EVENTS_BUCKET": "",
        }


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
