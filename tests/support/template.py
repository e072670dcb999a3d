"""The synthesized CloudFormation template, without bundling."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from aws_cdk import App, BootstraplessSynthesizer
from aws_cdk.assertions import Template

from infra.sessions_stack import SessionsStack
from infra.settings import Settings

ROOT = Path(__file__).parents[2]


def context() -> dict[str, Any]:
    """What `cdk.json` gives to the app; only the CDK CLI reads it by itself."""
    found: dict[str, Any] = json.loads((ROOT / "cdk.json").read_text())["context"]
    return found


def synthesize(stage: str = "dev", **settings: Any) -> tuple[App, SessionsStack]:
    """The app and its stack as `app.py` makes them, some of its settings changed."""
    given = context()
    app = App(context={**given, "aws:cdk:bundling-stacks": []})
    given["settings"].update(settings)
    return app, SessionsStack(app, f"Sessions-{stage}", settings=Settings.of_stage(stage, given))


@cache
def template(stage: str = "dev") -> Template:
    return Template.from_stack(synthesize(stage)[1])


def resources(kind: str, stage: str = "dev") -> dict[str, Any]:
    """The properties of the resources of a type, by their logical ids."""
    found = template(stage).find_resources(kind)
    return {name: resource["Properties"] for name, resource in found.items()}


def documented_rule() -> Template:
    """The stack with a rule on the bus that docs/events.md shows."""
    [snippet] = re.findall(
        "^```python\n(.*?)^```", (ROOT / "docs/events.md").read_text(), re.MULTILINE | re.DOTALL
    )
    names: dict[str, Any] = {}
    exec(compile(snippet, "docs/events.md", "exec"), names)  # noqa: S102
    app = App(default_stack_synthesizer=BootstraplessSynthesizer())
    return Template.from_stack(names["Notices"](app, "Notices"))
