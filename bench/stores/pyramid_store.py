"""A Pyramid application on pyramid-dynamodb-sessions, set up as in its documentation."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from pyramid.config import Configurator
from pyramid.response import Response
from pyramid_dynamodb_sessions import DynamoDBSessionFactory

from bench.stores.wsgi import serve_applications


def login(request: Any) -> Any:
    request.session["user"] = "ada"
    request.session["data"] = {"theme": "dark", "count": 0}
    return Response("ada")


def load(request: Any) -> Any:
    return Response(request.session.get("user", ""))


def change(request: Any) -> Any:
    if "user" in request.session:
        count = request.session["data"]["count"] + 1
        request.session["data"] = {"theme": "dark", "count": count}
    return load(request)


def logout(request: Any) -> Any:
    request.session.invalidate()
    return Response("")


def plain(_: Any) -> Any:
    return Response("ada")


def application(*views: Callable[[Any], Any], **settings: Any) -> Any:
    config = Configurator(**settings)
    for view in views:
        config.add_route(view.__name__, f"/{view.__name__}")
        config.add_view(view, route_name=view.__name__)
    return config.make_wsgi_app()


if __name__ == "__main__":
    factory = DynamoDBSessionFactory(sys.argv[1])
    serve_applications(
        application(login, load, change, logout, session_factory=factory), application(plain)
    )
