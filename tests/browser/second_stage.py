"""The CDK app of a second stage on the local AWS: the same service with its own tables."""

from aws_cdk import App

from deploy.stages import settings_of
from serverless_sessions_cdk import SessionsStack
from tests.support.template import context

STACK = "Sessions-second"

if __name__ == "__main__":
    app = App()
    SessionsStack(app, STACK, settings=settings_of("local", context()))
    app.synth()
