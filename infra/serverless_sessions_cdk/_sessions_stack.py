"""The service in a stack of its own."""

from __future__ import annotations

from typing import Any

from aws_cdk import Stack, Tags
from constructs import Construct

from serverless_sessions_cdk._sessions import Sessions
from serverless_sessions_cdk._settings import Settings


class SessionsStack(Stack):
    """A stack with `sessions`, one session service, whose outputs have no prefix.

        stack = SessionsStack(app, "Sessions", settings=Settings(default_ttl_seconds=3600))
        stack.sessions.grant_call(backend_role)

    Other arguments, such as `env`, are those of `aws_cdk.Stack`.
    """

    def __init__(
        self, scope: Construct, id: str, *, settings: Settings | None = None, **options: Any
    ) -> None:
        super().__init__(
            scope, id, **{"description": "Server-side sessions with an audit trail"} | options
        )
        # The logical ids of the resources depend on this id. With any other one, a deployed stack
        # would replace its tables by empty ones.
        self.sessions = Sessions(self, "Default", settings=settings)
        Tags.of(self).add("service", "serverless-sessions")
