"""The settings of a stage, in the context of `cdk.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serverless_sessions_cdk import Settings


def settings_of(stage: str, context: Mapping[str, Any]) -> Settings:
    """Return the common settings, overridden by those of `stage`. Raises `ValueError`."""
    stages = context.get("stages") or {}
    if stage not in stages:
        raise ValueError(f"cdk.json has no stage '{stage}'; it has {', '.join(stages) or 'none'}.")
    return Settings.from_context({**(context.get("settings") or {}), **stages[stage]})
