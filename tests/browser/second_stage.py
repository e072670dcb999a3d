"""The CDK app of a second stage on the local AWS: the same service with its own tables."""

from aws_cdk import App

from infra.sessions_stack import SessionsStack
from infra.settings import Settings
from tests.support.template import context

STACK = "Sessions-second"

if __name__ == "__main__":
    app = App()
    SessionsStack(app, STACK, settings=Settings.of_stage("local", context()))
    app.synth()
