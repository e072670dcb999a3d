"""The CDK app of a second stage on the local AWS: the same service with its own tables."""

from aws_cdk import App

from serverless_sessions_cdk import SessionsStack, Settings
from tests.support.template import context

STACK = "Sessions-second"

if __name__ == "__main__":
    app = App()
    SessionsStack(app, STACK, settings=Settings.of_stage("local", context()))
    app.synth()
