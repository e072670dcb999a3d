"""A session service for CDK apps. The names in `__all__` are public, all others can change.

from serverless_sessions_cdk import Sessions, Settings

sessions = Sessions(self, "Sessions", settings=Settings(default_ttl_seconds=3600))
sessions.grant_call(backend_role)
"""

from serverless_sessions_cdk._sessions import Sessions
from serverless_sessions_cdk._sessions_stack import SessionsStack
from serverless_sessions_cdk._settings import Settings

__all__ = ["Sessions", "SessionsStack", "Settings"]
