"""Runs every snippet of docs/integrating.md against the deployed stack."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse

from local.stack import REGION, ROOT, LocalStack
from tests.e2e.conftest import eventually

GUIDE = (ROOT / "docs/integrating.md").read_text()


def snippets(language: str) -> str:
    return "\n".join(re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL))


@pytest.fixture(scope="module")
def environment(stack: LocalStack) -> dict[str, str]:
    keys = stack.credentials("guide", "execute-api:Invoke")
    return {
        "SESSIONS_API": stack.url,
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
    }


def test_no_snippet_is_left_out() -> None:
    """A fence of another kind would not be run."""
    assert set(re.findall(r"^```(\w+)$", GUIDE, re.MULTILINE)) == {"python", "bash"}


def test_python_snippets(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's way through them all."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    names: dict[str, Any] = {}
    exec(compile(snippets("python"), "docs/integrating.md", "exec"), names)  # noqa: S102
    send = names["http"].send

    def send_until_served(request: AWSPreparedRequest) -> AWSResponse:
        """A 503 raises in the guide; sending again is left to its reader."""
        for _ in range(20):
            answer: AWSResponse = send(request)
            if answer.status_code != 503:
                break
            time.sleep(int(answer.headers["Retry-After"]))
        return answer

    monkeypatch.setattr(names["http"], "send", send_until_served)
    guide = SimpleNamespace(**names)
    begin = int(time.time())

    def token_of(cookie: str) -> str:
        found = re.fullmatch(
            "__Host-session=([^;]+); Path=/; Secure; HttpOnly; SameSite=Lax", cookie
        )
        assert found, cookie
        return found[1]

    token = token_of(guide.log_in("guided", "203.0.113.7", "Firefox/150.0"))
    elsewhere = token_of(guide.log_in("guided", "203.0.113.8", "Safari/20.0"))
    session = guide.current_session(token)
    assert session["user_id"] == "guided"
    assert session["client"] == {"ip": "203.0.113.7", "user_agent": "Firefox/150.0"}
    signed_in = {session["session_id"] for session in guide.where_signed_in("guided")}
    assert {each.partition(".")[0] for each in (token, elsewhere)} <= signed_in

    elevated = token_of(guide.elevate(session["session_id"]))
    assert guide.current_session(elevated)["session_id"] == session["session_id"]
    elevated = guide.rotate_safely(session["session_id"])
    assert guide.current_session(elevated)["session_id"] == session["session_id"]
    guide.sign_out_elsewhere("guided", session["session_id"])
    assert guide.current_session(elsewhere) is None
    assert guide.current_session(elevated)
    assert guide.log_out(session["session_id"]).endswith("; Max-Age=0")
    assert guide.current_session(elevated) is None
    assert guide.current_session("nonsense") is None
    with pytest.raises(RuntimeError, match="404"):
        guide.elevate(session["session_id"])

    def told() -> bool:
        types = [type for _, type, _ in guide.history("guided", begin)]
        return types.count("created") == types.count("revoked") >= 2 and "rotated" in types

    eventually(told)


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_bash_snippets(environment: dict[str, str], tmp_path: Path) -> None:
    """Any answer but a success ends the script."""
    (tmp_path / ".curlrc").write_text("retry = 20\n")  # after a 503, as it says
    script = "set -euo pipefail\n" + snippets("bash")

    done = subprocess.run(
        ["bash", "-c", script],  # noqa: S607
        env={
            **environment,
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "CURL_HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr + done.stdout
    assert '"user_id":"grace"' in done.stdout
    assert '"complete":true' in done.stdout
