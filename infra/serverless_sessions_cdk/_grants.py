"""Permissions to call the API, by its routes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import jsii
from aws_cdk import Acknowledgment, Stack, Validations
from aws_cdk import aws_iam as iam
from constructs import Construct, IValidation

from serverless_sessions_cdk._api import ROUTES, Api


def grant_call(grantee: iam.IGrantable, api: Api, routes: Sequence[str]) -> iam.Grant:
    """Allow calls of `routes`, or of all routes if there are none."""
    if unknown := [route for route in routes if route not in ROUTES]:
        raise ValueError(
            f"The API has no route '{unknown[0]}'; it has {', '.join(sorted(ROUTES))}."
        )
    resources = [f"{api.arn}/{_resource(route)}" for route in routes or ["*"]]
    grant = iam.Grant.add_to_principal(
        grantee=grantee,
        actions=["execute-api:Invoke"],
        resource_arns=resources,
    )
    grant.assert_success()
    principal = grantee.grant_principal
    if isinstance(principal, Construct):
        principal.node.add_validation(_Wildcards(principal, resources))
    return grant


def _resource(route: str) -> str:
    """Return the end of a route's ARN, such as `GET/sessions/*` for `GET /sessions/{session_id}`.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-control-access-using-iam-policies-to-invoke-api.html
    """
    return re.sub(r"\{\w+\}", "*", route.replace(" ", ""))


@jsii.implements(IValidation)
class _Wildcards:
    """Acknowledges the wildcards in the policy of a grantee.

    cdk-nag names a finding after the resource as the template has it. That is only known once the
    CDK has resolved the references between stacks, which it does before it validates.
    """

    def __init__(self, principal: Construct, resources: Iterable[str]) -> None:
        self._principal = principal
        self._resources = resources

    def validate(self) -> list[str]:
        stack = Stack.of(self._principal)
        acknowledgments = [
            Acknowledgment(
                id=f"AwsSolutions-IAM5[Resource::{_flat(stack.resolve(resource))}]",
                reason="The paths of the session service contain ids of sessions",
            )
            for resource in self._resources
            if "*" in resource
        ]
        # Before aws-cdk-lib 2.269.0, a finding whose name contains `::` twice cannot be
        # acknowledged.
        with suppress(RuntimeError):
            Validations.of(self._principal).acknowledge(*acknowledgments)
        return []


def _flat(value: Any) -> str:
    """Return a value of a template as cdk-nag writes it into the name of a finding."""
    match value:
        case str():
            return value.replace("${", "<").replace("}", ">")
        case {"Fn::Join": [str(delimiter), list(values)]}:
            return delimiter.join(map(_flat, values))
        case {"Fn::GetAtt": [resource, attribute]}:
            return f"<{_flat(resource)}.{_flat(attribute)}>"
        case {"Fn::ImportValue": name}:
            return _flat(name)
        case {"Ref": name}:
            return f"<{_flat(name)}>"
    return json.dumps(value, separators=(",", ":"))
