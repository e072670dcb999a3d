"""The stack's resources as `cdk.json` sets them, for measuring what would be deployed."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from aws_cdk import App
from aws_cdk.assertions import Template

from infra.sessions_stack import SessionsStack
from infra.settings import Settings
from local.stack import ROOT


def resources(kind: str) -> dict[str, Any]:
    """The properties of the resources of a CloudFormation type, by their logical ids."""
    return {
        name: resource["Properties"] for name, resource in _template().find_resources(kind).items()
    }


@cache
def _template() -> Template:
    """The template of the stage `dev`. The functions are not bundled for it."""
    context = json.loads((ROOT / "cdk.json").read_text())["context"]
    app = App(context={**context, "aws:cdk:bundling-stacks": []})
    stack = SessionsStack(app, "Sessions-dev", settings=Settings.of_stage("dev", context))
    return Template.from_stack(stack)
