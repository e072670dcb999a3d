"""The service as a construct: the wiring of its parts, their permissions, and the outputs."""

from __future__ import annotations

from aws_cdk import CfnOutput, Duration, Names
from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_apigatewayv2 as apigw
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sns as sns
from constructs import Construct

from serverless_sessions_cdk import _authorizers, _grants
from serverless_sessions_cdk._api import Api
from serverless_sessions_cdk._audit import Audit
from serverless_sessions_cdk._authorizer import Authorizer
from serverless_sessions_cdk._authorizers import Header, HttpAuthorizer, WebSocketAuthorizer
from serverless_sessions_cdk._events import Events
from serverless_sessions_cdk._expiry import Expiry
from serverless_sessions_cdk._monitoring import Monitoring
from serverless_sessions_cdk._promises import append_only
from serverless_sessions_cdk._settings import Settings
from serverless_sessions_cdk._storage import USER_INDEX, Storage

_NO_CACHE = Duration.seconds(0)


class Sessions(Construct):
    """A session service: tables, HTTP API, audit trail, and an authorizer for other APIs.

    A stack can have any number of them. They share nothing.

        sessions = Sessions(self, "Sessions", settings=Settings(default_ttl_seconds=3600))
        sessions.grant_call(backend_role)
        backend.add_environment("SESSIONS_URL", sessions.url)

    The names of its outputs begin with the path of the construct, as in `SessionsApiUrl3F0A1B2C`.
    `sessions --stack STACK smoke` tests what is deployed.
    """

    def __init__(self, scope: Construct, id: str, *, settings: Settings | None = None) -> None:
        """Without `settings`, every setting has its default."""
        super().__init__(scope, id)
        settings = settings or Settings()
        storage = Storage(self, "Storage", settings=settings)
        api = Api(
            self,
            "Api",
            sessions_table=storage.sessions.table_name,
            audit_table=storage.audit.table_name,
            settings=settings,
        )
        audit = Audit(
            self,
            "Audit",
            sessions=storage.sessions,
            audit_table=storage.audit.table_name,
            settings=settings,
        )
        authorizer = Authorizer(
            self, "Authorizer", sessions_table=storage.sessions.table_name, settings=settings
        )
        events = (
            Events(
                self,
                "Events",
                audit=storage.audit,
                event_bus=settings.event_bus,
                settings=settings,
            )
            if settings.event_bus
            else None
        )
        expiry = (
            Expiry(
                self,
                "Expiry",
                sessions=storage.sessions,
                timers=storage.timers,
                settings=settings,
            )
            if storage.timers
            else None
        )
        monitoring = Monitoring(
            self,
            "Monitoring",
            name=Names.unique_resource_name(
                self, max_length=200, separator="-", allowed_special_characters="-"
            ),
            api=api.stage,
            function_url=api.function if api.function_url else None,
            functions=[api.function, authorizer.function],
            audit=audit,
            other_consumers=[events] if events else [],
            expiry=expiry,
            tables=[storage.sessions, storage.audit],
            settings=settings,
        )
        self._api = api
        self._storage = storage
        self._authorizer = authorizer
        self._topic = monitoring.topic

        sessions_arn, audit_arn = storage.sessions.table_arn, storage.audit.table_arn
        _allow(api.function.role, sessions_arn, "PutItem", "GetItem", "UpdateItem", "BatchGetItem")
        _allow(api.function.role, f"{sessions_arn}/index/{USER_INDEX}", "Query")
        _allow(api.function.role, audit_arn, "Query")
        _allow(api.function.role, f"{audit_arn}/index/{USER_INDEX}", "Query")
        # The authorizer records the first use of a token, and ends the session of a reused one.
        _allow(authorizer.function.role, sessions_arn, "GetItem", "UpdateItem")
        # INSERT is the only write that the audit function may make, so no role of this stack can
        # change or delete an event. The policy of the table denies that to everybody else. The
        # function also reads the events whose keys are taken.
        _allow(audit.function.role, audit_arn, "PartiQLInsert", "BatchGetItem")
        for statement in append_only(writer=audit.function.role.role_arn):
            storage.audit.add_to_resource_policy(iam.PolicyStatement.from_json(statement))
        if events:
            events.bus.grant_put_events_to(events.function.role)
        if expiry:
            timers_arn = expiry.timers.table_arn
            _allow(expiry.function.role, timers_arn, "PartiQLInsert")
            _allow(expiry.sweeper.role, timers_arn, "Query", "PartiQLInsert", "UpdateItem")
            # The sweeper can only delete sessions, which the trail records like any deletion. It
            # cannot change a session or prevent this record.
            _allow(expiry.sweeper.role, sessions_arn, "BatchGetItem", "PartiQLDelete")
        # The audit function judges changes by `not_before` as soon as it starts. So the functions
        # that write sessions must get a new value of the setting first.
        audit.function.resource.current_version.node.add_dependency(
            api.function.alias, authorizer.function.alias
        )

        CfnOutput(self, "ApiUrl", value=api.url)
        CfnOutput(self, "SessionsTableName", value=storage.sessions.table_name)
        CfnOutput(self, "AuditTableName", value=storage.audit.table_name)
        CfnOutput(self, "AuditFunctionArn", value=audit.function.alias.function_arn)
        CfnOutput(self, "AuthorizerArn", value=authorizer.function.alias.function_arn)
        CfnOutput(self, "FailedEventsBucket", value=audit.failed_events.bucket_name)
        CfnOutput(self, "AlarmTopicArn", value=monitoring.topic.topic_arn)
        if api.function_url:
            CfnOutput(self, "FunctionUrl", value=api.function_url.url)
            CfnOutput(self, "ApiFunctionArn", value=api.function.alias.function_arn)
        if events:
            CfnOutput(self, "EventsFunctionArn", value=events.function.alias.function_arn)
            CfnOutput(self, "UndeliveredEventsBucket", value=events.undelivered.bucket_name)
        if expiry:
            CfnOutput(self, "TimersTableName", value=expiry.timers.table_name)
            CfnOutput(self, "TimersFunctionArn", value=expiry.function.alias.function_arn)
            CfnOutput(self, "SweeperFunctionArn", value=expiry.sweeper.alias.function_arn)
            CfnOutput(self, "FailedTimersBucket", value=expiry.failed_events.bucket_name)

    @property
    def url(self) -> str:
        """The base URL of the API. Clients read it from the environment variable SESSIONS_URL."""
        return self._api.url

    @property
    def function_url(self) -> str:
        """The URL of the API's function. Clients can use it in place of `url`.

        Raises `ValueError` without the setting `function_url`.
        """
        return self._function_url().url

    @property
    def api(self) -> apigw.HttpApi:
        """The HTTP API. All of its routes require IAM credentials."""
        return self._api.api

    @property
    def sessions_table(self) -> dynamodb.TableV2:
        """The table of the sessions.

        Its stream has room for one more consumer, or for none with the setting `prompt_expiry`.
        https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.Lambda.html
        """
        return self._storage.sessions

    @property
    def audit_table(self) -> dynamodb.TableV2:
        """The table of the audit trail. Its policy denies every change of an event."""
        return self._storage.audit

    @property
    def alarm_topic(self) -> sns.Topic:
        """The topic that gets a message when an alarm goes off, and another when it is over."""
        return self._topic

    @property
    def authorizer_function(self) -> lambda_.Alias:
        """The Lambda authorizer, which every API of the account may invoke."""
        return self._authorizer.function.alias

    def http_authorizer(
        self, *, header: Header = "Authorization", cache: Duration = _NO_CACHE
    ) -> HttpAuthorizer:
        """Return an authorizer for the routes of HTTP APIs.

            api.add_routes(path="/orders", authorizer=sessions.http_authorizer(), integration=…)

        `header` is where the token is: a bearer token in `Authorization`, or the cookie of the
        setting `session_cookie` in `Cookie`. API Gateway keeps the answers for `cache`, and lets
        sessions that have ended in for as long.
        """
        return HttpAuthorizer(self, self.authorizer_function, header=header, cache=cache)

    def rest_authorizer(
        self,
        api: apigateway.RestApiBase,
        *,
        header: Header = "Authorization",
        cache: Duration = _NO_CACHE,
    ) -> apigateway.RequestAuthorizer:
        """Return an authorizer for the methods of a REST API.

            orders.add_method("GET", integration, authorizer=sessions.rest_authorizer(api))

        `header` and `cache` are those of `http_authorizer`.
        """
        return _authorizers.rest_authorizer(
            self, api, self.authorizer_function, header=header, cache=cache
        )

    def web_socket_authorizer(self, *, header: Header = "Authorization") -> WebSocketAuthorizer:
        """Return an authorizer for the route `$connect` of WebSocket APIs.

            connect = WebSocketRouteOptions(
                authorizer=sessions.web_socket_authorizer(header="Cookie"), integration=…
            )

        Browsers cannot send an `Authorization` header here. Pages of other sites can open a
        WebSocket, so the cookie needs `SameSite`. A connection stays open when its session ends.
        """
        return WebSocketAuthorizer(self, self.authorizer_function, header=header)

    def grant_call(self, grantee: iam.IGrantable, *routes: str) -> iam.Grant:
        """Allow calls of the API: of these routes, or of all routes if there are none.

            sessions.grant_call(backend_role)
            sessions.grant_call(job_role, "POST /sessions/verify")

        Raises `ValueError` if the API has no such route.
        """
        return _grants.grant_call(grantee, self._api, routes)

    def grant_call_function_url(self, grantee: iam.IGrantable) -> iam.Grant:
        """Allow calls of all routes through the function URL.

            sessions.grant_call_function_url(backend_role)

        Raises `ValueError` without the setting `function_url`.
        """
        grant = self._function_url().grant_invoke_url(grantee)
        grant.assert_success()
        return grant

    def grant_read_directly(self, grantee: iam.IGrantable) -> iam.Grant:
        """Allow to read single sessions from the table, as the client's `DirectReader` does.

            sessions.grant_read_directly(backend_role)

        The reader also has to call the API, for what it cannot decide.
        """
        grant = iam.Grant.add_to_principal(
            grantee=grantee,
            actions=["dynamodb:GetItem"],
            resource_arns=[self.sessions_table.table_arn],
        )
        grant.assert_success()
        return grant

    def _function_url(self) -> lambda_.FunctionUrl:
        if not self._api.function_url:
            raise ValueError("The service has no function URL. Set function_url in its settings.")
        return self._api.function_url


def _allow(role: iam.Role, resource: str, *actions: str) -> None:
    """Allow actions on one table or on one index. `Table.grant` would include all indexes."""
    role.add_to_policy(
        iam.PolicyStatement(
            actions=[f"dynamodb:{action}" for action in actions], resources=[resource]
        )
    )
