"""The Flask example."""

import time
from secrets import token_urlsafe

from flask import abort, redirect, request, session
from werkzeug.wrappers import Response

from examples.flask_app.app import app, server_sessions
from tests.browser.apps import CSRF_FIELD, DEADLINES, PORT, VISITORS, is_csrf_token

app.config["SERVERLESS_SESSIONS"] |= {"insecure_cookie": False, **DEADLINES}
server_sessions.init_app(app)


@app.get("/who")
def who() -> dict[str, str | None]:
    user = session.get("user")
    if "write" in request.args and session:
        session["seen"] = time.time()
    return {"user": user}


@app.post("/regenerate")
def regenerate() -> Response:
    session.regenerate()  # type: ignore[attr-defined]  # the declared type is Flask's own session
    return redirect("/")


if VISITORS:

    @app.context_processor
    def csrf_token() -> dict[str, str]:
        return {"csrf_token": session.setdefault("csrf", token_urlsafe())}

    @app.before_request
    def check_csrf_token() -> None:
        sent = request.form.get(CSRF_FIELD, "")
        if request.path == "/log-in" and not is_csrf_token(sent, session.get("csrf")):
            abort(403)


if __name__ == "__main__":
    app.run(port=PORT)
