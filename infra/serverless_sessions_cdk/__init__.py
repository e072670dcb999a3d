"""A session service for CDK apps: what is public is imported from here."""

from serverless_sessions_cdk._sessions_stack import SessionsStack
from serverless_sessions_cdk._settings import Settings

__all__ = ["SessionsStack", "Settings"]
