"""A Flask app with its sessions in the service: log in, count, see your devices, sign out.

The user grace is a support agent, who can look at the app as another user.

SESSIONS_URL=… python examples/flask_app/app.py

The cookie is `SameSite=Lax`, so browsers do not send it with forms of other sites. A real app
still needs protection against CSRF.
"""

import os
from pathlib import Path
from typing import cast

from flask import Flask, abort, redirect, render_template, request
from flask import session as flask_session
from werkzeug.wrappers import Response

from serverless_sessions import Unavailable
from serverless_sessions.flask import FlaskSession, ServerlessSessions
from serverless_sessions.flask_devices import devices_blueprint

app = Flask(__name__, template_folder=str(Path(__file__).parent.parent))
app.config["SERVERLESS_SESSIONS"] = {
    "url": os.environ["SESSIONS_URL"],
    "user_key": "user",
    "insecure_cookie": True,  # this example uses HTTP
}
server_sessions = ServerlessSessions(app)
app.register_blueprint(devices_blueprint(), url_prefix="/account/devices")
session = cast(FlaskSession, flask_session)  # Flask declares its own type


def current_user() -> str:
    user: str = session.get("user") or abort(401)
    return user


@app.get("/")
def page() -> str:
    if "user" not in session:
        return render_template("page.html")
    return render_template(
        "page.html",
        user=session["user"],
        count=session.get("count", 0),
        impersonator=session.impersonator,
    )


@app.post("/log-in")
def log_in() -> Response:
    session["user"] = request.form["user"]  # a real app checks a password first
    return redirect("/")


@app.post("/count")
def count() -> Response:
    current_user()
    session["count"] = session.get("count", 0) + 1
    return redirect("/")


@app.post("/log-out")
def log_out() -> Response:
    session.clear()
    return redirect("/")


@app.post("/sign-out-everywhere")
def sign_out_everywhere() -> Response:
    server_sessions.sessions.revoke_all(current_user(), reason="signed_out_everywhere")
    return redirect("/")


@app.post("/impersonate")
def impersonate() -> Response:
    if current_user() != "grace":
        abort(403)
    session.impersonate(request.form["customer"], reason="support")
    return redirect("/")


@app.post("/stop-impersonating")
def stop_impersonating() -> Response:
    session.stop_impersonating()
    return redirect("/")


@app.errorhandler(Unavailable)
def unavailable(error: Unavailable) -> Response:
    return Response("Try again in a moment.", 503)


if __name__ == "__main__":
    app.run(port=int(os.environ.get("WEB_PORT", "8000")))
