"""Authorizers that other APIs of the account attach to their routes.

The function allows every API of the account to invoke it, so none of these adds a permission. A
permission in the stack of the function would refer to the API, which refers to the function.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import jsii
from aws_cdk import Duration, Names, Stack
from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_apigatewayv2 as apigw
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

Header: TypeAlias = Literal["Authorization", "Cookie"]


@jsii.implements(apigw.IHttpRouteAuthorizer)
class HttpAuthorizer:
    """The authorizer of any number of HTTP APIs, with one resource for each of them.

    API Gateway allows ten authorizers of an API, so routes with the same arguments share one.
    """

    def __init__(
        self, service: Construct, function: lambda_.IFunction, *, header: Header, cache: Duration
    ) -> None:
        self._id = _id(service, header, cache)
        self._function = function
        self._source = f"$request.header.{header}"
        self._cache = cache

    def bind(self, *, route: apigw.IHttpRoute, scope: Construct) -> apigw.HttpRouteAuthorizerConfig:
        authorizer = scope.node.try_find_child(self._id) or apigw.HttpAuthorizer(
            scope,
            self._id,
            http_api=route.http_api,
            type=apigw.HttpAuthorizerType.LAMBDA,
            authorizer_uri=_uri(self._function),
            identity_source=[self._source],
            payload_format_version=apigw.AuthorizerPayloadVersion.VERSION_2_0,
            enable_simple_responses=True,
            results_cache_ttl=self._cache,
        )
        assert isinstance(authorizer, apigw.HttpAuthorizer)  # noqa: S101
        return apigw.HttpRouteAuthorizerConfig(
            authorization_type="CUSTOM", authorizer_id=authorizer.authorizer_id
        )


@jsii.implements(apigw.IWebSocketRouteAuthorizer)
class WebSocketAuthorizer:
    """The authorizer of any number of WebSocket APIs, with one resource for each of them."""

    def __init__(self, service: Construct, function: lambda_.IFunction, *, header: Header) -> None:
        self._id = _id(service, header)
        self._function = function
        self._source = f"route.request.header.{header}"

    def bind(
        self, *, route: apigw.IWebSocketRoute, scope: Construct
    ) -> apigw.WebSocketRouteAuthorizerConfig:
        authorizer = scope.node.try_find_child(self._id) or apigw.WebSocketAuthorizer(
            scope,
            self._id,
            web_socket_api=route.web_socket_api,
            type=apigw.WebSocketAuthorizerType.LAMBDA,
            authorizer_uri=_uri(self._function),
            identity_source=[self._source],
        )
        assert isinstance(authorizer, apigw.WebSocketAuthorizer)  # noqa: S101
        return apigw.WebSocketRouteAuthorizerConfig(
            authorization_type="CUSTOM", authorizer_id=authorizer.authorizer_id
        )


def rest_authorizer(
    service: Construct,
    api: apigateway.RestApiBase,
    function: lambda_.IFunction,
    *,
    header: Header,
    cache: Duration,
) -> apigateway.RequestAuthorizer:
    """Return the authorizer of `api`, which is created only once for these arguments."""
    id = _id(service, header, cache)
    if authorizer := api.node.try_find_child(id):
        assert isinstance(authorizer, apigateway.RequestAuthorizer)  # noqa: S101
        return authorizer
    return apigateway.RequestAuthorizer(
        api,
        id,
        handler=lambda_.Function.from_function_attributes(
            api, f"{id}Function", function_arn=function.function_arn, skip_permissions=True
        ),
        identity_sources=[apigateway.IdentitySource.header(header)],
        results_cache_ttl=cache,
    )


def _id(service: Construct, header: Header, cache: Duration | None = None) -> str:
    seconds = f"{cache.to_seconds():.0f}" if cache else ""
    return f"{Names.unique_id(service)}{header}{seconds}"


def _uri(function: lambda_.IFunction) -> str:
    stack = Stack.of(function)
    return (
        f"arn:{stack.partition}:apigateway:{stack.region}:lambda:path/2015-03-31/functions/"
        f"{function.function_arn}/invocations"
    )
