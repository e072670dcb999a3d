"""The CDK app. It has one stack, for the stage that `-c stage=…` names."""

import sys

from aws_cdk import App, Tags, Validations
from cdk_nag import AwsSolutionsChecks, ServerlessChecks

from deploy import bundle
from deploy.stages import settings_of
from serverless_sessions_cdk import SessionsStack

app = App()
stage = app.node.try_get_context("stage") or "dev"
try:
    settings = settings_of(stage, app.node.get_all_context())
except ValueError as error:
    sys.exit(str(error))
# The local stack runs a bundle of its own, and names it.
if not app.node.try_get_context(bundle.CONTEXT):
    app.node.set_context(bundle.CONTEXT, str(bundle.archive(bundle.LAMBDA)))
SessionsStack(app, f"Sessions-{stage}", settings=settings)
Tags.of(app).add("stage", stage)
Validations.of(app).add_plugins(AwsSolutionsChecks(app), ServerlessChecks(app))
app.synth()
