"""The resources of the stack with the settings of `cdk.json` and with all of its functions."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from aws_cdk import App
from aws_cdk.assertions import Template

from deploy import bundle
from deploy.stages import settings_of
from local.stack import ROOT
from serverless_sessions_cdk import SessionsStack


def resources(kind: str) -> dict[str, Any]:
    """Return the properties of all resources of a CloudFormation type, by logical id."""
    return {
        name: resource["Properties"] for name, resource in _template().find_resources(kind).items()
    }


@cache
def _template() -> Template:
    """Return the template of the stage `dev`.

    These settings switch on the functions that are not in every stack. They change no other one.
    """
    context = json.loads((ROOT / "cdk.json").read_text())["context"]
    context["stages"]["dev"] |= {"event_bus": "default", "prompt_expiry": True}
    app = App(context={**context, bundle.CONTEXT: str(bundle.archive(bundle.THIS_MACHINE))})
    return Template.from_stack(
        SessionsStack(app, "Sessions-dev", settings=settings_of("dev", context))
    )
