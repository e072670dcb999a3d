"""The page "Where you are signed in" for Flask.

    app.register_blueprint(devices_blueprint(), url_prefix="/account/devices")

The endpoint of the page is `serverless_sessions.devices`. It requires the extension
`ServerlessSessions`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from flask import (
    Blueprint,
    Response,
    abort,
    current_app,
    make_response,
    redirect,
    render_template,
    request,
    url_for,
)
from markupsafe import Markup
from werkzeug.wrappers import Response as BaseResponse

from serverless_sessions._core.calls import Plan
from serverless_sessions._web.devices import (
    BASE_TEMPLATE,
    FIELD,
    HEADERS,
    MAX_FORM_BYTES,
    NOTHING,
    TEMPLATE,
    TEMPLATES,
    Devices,
    in_utc,
)
from serverless_sessions._web.same_origin import is_same_origin
from serverless_sessions.errors import Unavailable
from serverless_sessions.flask import _check_extension, _service_unavailable, session

Result = TypeVar("Result")


def devices_blueprint(
    *,
    base_template: str = BASE_TEMPLATE,
    translate: Callable[[str], str] = str,
    format_time: Callable[[datetime], str] = in_utc,
) -> Blueprint:
    """Return the page as a blueprint.

    `base_template` is the app's own base template, with the blocks `title` and `content`.
    `translate` is called with each text of the page in English, and `format_time` with each time,
    which has the time zone UTC.

    If nobody is signed in, the response is a 401. A form of another site gets a 403. The page needs
    no CSRF token for this, but contains the one of Flask-WTF's `CSRFProtect` if the app uses it. A
    form of more than 8 KB gets a 413.
    """
    blueprint = Blueprint("serverless_sessions", __name__, template_folder=TEMPLATES)

    @blueprint.get("/")
    def devices(**_: object) -> BaseResponse:
        return page(_devices(), request.args.get("outcome"), 200)

    @blueprint.post("/")
    def sign_out(**_: object) -> BaseResponse:
        if not is_same_origin(
            fetch_site=request.headers.get("Sec-Fetch-Site"),
            origin=request.headers.get("Origin"),
            host=request.host,
        ):
            abort(403)
        user_devices = _devices()
        if user_devices.is_impersonated:
            abort(403)
        request.max_content_length = MAX_FORM_BYTES
        outcome = _run(user_devices.sign_out(request.form.get(FIELD, "")))
        if outcome == NOTHING:
            return page(user_devices, outcome, 404)
        # The app's prefix of the URL may contain arguments.
        arguments = {**(request.view_args or {}), "outcome": outcome}
        response = redirect(url_for(".devices", **arguments), 303)
        response.headers.update(HEADERS)
        return response

    def page(user_devices: Devices, outcome: str | None, status: int) -> Response:
        content = render_template(
            TEMPLATE,
            devices=_run(user_devices.page(outcome, translate=translate, format_time=format_time)),
            base_template=base_template,
            csrf_input=_csrf_input(),
        )
        return make_response(content, status, HEADERS)

    return blueprint


def _devices() -> Devices:
    _check_extension("The page of devices")
    return Devices.of(session, session._sessions.operations) or abort(401)


def _run(plan: Plan[Result]) -> Result:
    try:
        return session._sessions.run(plan)
    except Unavailable as error:
        raise _service_unavailable(error) from error


def _csrf_input() -> str:
    """Return the hidden field with Flask-WTF's token, if its `CSRFProtect` is in use."""
    if "csrf" not in current_app.extensions:
        return ""
    token: Any = current_app.jinja_env.globals["csrf_token"]
    name = current_app.config["WTF_CSRF_FIELD_NAME"]
    return Markup('<input type="hidden" name="{}" value="{}">').format(name, token())
