"""The CDK app. It has one stack, for the stage that `-c stage=…` names."""

import sys

from aws_cdk import App, Validations
from cdk_nag import AwsSolutionsChecks, ServerlessChecks

from serverless_sessions_cdk import SessionsStack
from serverless_sessions_cdk._settings import Settings, SettingsError

app = App()
try:
    settings = Settings.of_stage(
        app.node.try_get_context("stage") or "dev",
        {name: app.node.try_get_context(name) or {} for name in ("settings", "stages")},
    )
except SettingsError as error:
    sys.exit(str(error))
SessionsStack(app, f"Sessions-{settings.stage}", settings=settings)
Validations.of(app).add_plugins(AwsSolutionsChecks(app), ServerlessChecks(app))
app.synth()
