"""The command line, as operators and scripts use it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import moto
import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner, Result

from serverless_sessions import Client, Impersonator, Sessions
from serverless_sessions._core import clock
from serverless_sessions.cli.commands import Service as Cli
from serverless_sessions.cli.commands import Time, main
from serverless_sessions.operate.account import Account
from serverless_sessions.operate.report import as_json
from serverless_sessions.wording import Moment, duration, outlook
from tests.support.functions import function, lambda_context, sample
from tests.support.service import Service
from tests.support.trail import WriteEvent, writing_events

Run = Callable[..., Result]


@pytest.fixture
def run(service: Service) -> Run:
    """Run `sessions` with the given arguments. Its standard output is a pipe."""

    def run(*arguments: str, **options: Any) -> Result:
        return CliRunner().invoke(main, ["--url", service.url, *arguments], **options)

    return run


@pytest.fixture
def sessions(service: Service) -> Iterator[Sessions]:
    with Sessions(service.url, region=service.region, credentials=service.credentials) as sessions:
        yield sessions


@pytest.fixture
def write_event(service: Service) -> Iterator[WriteEvent]:
    with writing_events(service.audit_table) as write_event:
        yield write_event


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make standard output a terminal."""
    monkeypatch.setattr("serverless_sessions.cli.output.on_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")


def test_list_is_tab_separated_in_a_pipe(run: Run, sessions: Sessions) -> None:
    browser = Client(ip="203.0.113.7", user_agent="Firefox")
    issued = sessions.create("ada", data={"secret": "no"}, client=browser)

    done = run("list", "ada")

    [line] = done.stdout.splitlines()
    cells = line.split("\t")
    assert (done.exit_code, cells[0]) == (0, issued.session.session_id)
    assert cells[4:] == ["203.0.113.7", "Firefox"]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", cell) for cell in cells[1:4])


@pytest.mark.usefixtures("terminal")
def test_list_is_a_table_on_a_terminal(
    run: Run, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times are distances, beside whole times if the terminal is wide enough."""
    agent = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/141.0.0.0 Safari/537.36"
    sessions.create("ada", client=Client("203.0.113.7", agent))

    monkeypatch.setenv("COLUMNS", "100")
    titles, line = run("list", "ada").stdout.splitlines()

    assert titles.split() == ["SESSION", "CREATED", "RENEWED", "EXPIRES", "FROM", "BROWSER"]
    assert re.search(r"  in (29|30)m +203\.0\.113\.7  Chrome on Windows$", line)

    monkeypatch.setenv("COLUMNS", "250")
    _, line = run("list", "ada").stdout.splitlines()

    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC \(in (29|30) minutes\)", line)


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("columns", [24, 40, 60, 72, 80, 100, 132, 250])
def test_table_fits_the_terminal_and_loses_nothing(
    run: Run, sessions: Sessions, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    address = "2001:db8:85a3:8d3:1319:8a2e:370:7348"
    id = sessions.create("ada", client=Client(address, "日本のブラウザ " * 9)).session.session_id

    lines = run("list", "ada").stdout.splitlines()

    assert lines
    # Letters of Japanese are two columns wide.
    assert max(sum(1 + (letter > "\u3000") for letter in line) for line in lines) <= columns
    assert any(id in line for line in lines)
    letters = "".join(lines).replace(" ", "")
    assert letters.count("日") == 9
    assert set("20db8:85a3") <= set(letters)


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("columns", [60, 80, 132])
def test_trail_fits_the_terminal(
    run: Run, write_event: WriteEvent, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """Its times stay whole, because the order of events matters."""
    monkeypatch.setenv("COLUMNS", str(columns))
    actor = "arn:aws:sts::111122223333:assumed-role/backend/i-0123456789abcdef0"
    write_event("updated", "A" * 12, changed=[f"K{n}" for n in range(40)], actor=actor)

    lines = run("trail", "ada").stdout.splitlines()

    assert max(map(len, lines)) <= columns
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "\n".join(lines))
    assert "".join(lines).count("K") == 40
    assert not any(line.endswith("K") for line in lines), "names are broken after commas"


@pytest.mark.usefixtures("terminal")
def test_session_has_a_line_for_each_member(run: Run, sessions: Sessions) -> None:
    id = sessions.create("ada", data={"a": "b " * 100}).session.session_id

    lines = run("show", id, "--data").stdout.splitlines()

    assert lines[0] == f"session_id           {id}"
    assert re.fullmatch(r"created_at {11}\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC \(.*\)", lines[2])
    assert max(map(len, lines)) <= 80


def test_numbers_in_data_are_exact(run: Run, sessions: Sessions) -> None:
    """Those that no float represents are a `Decimal` in Python, which its JSON does not know."""
    number = Decimal("0.12345678901234567890123456789")
    id = sessions.create("ada", data={"n": number}).session.session_id

    for options in ((), ("--json",)):
        done = run(*options, "show", id, "--data")
        assert done.exit_code == 0
        assert f'{{"n":{number}}}' in done.stdout


def test_json_output_has_one_object_per_line_without_data(run: Run, sessions: Sessions) -> None:
    ids = [sessions.create("ada", data={"secret": "no"}).session.session_id for _ in range(3)]

    lines = run("--json", "list", "ada").stdout.splitlines()

    rows = [json.loads(line) for line in lines]
    assert sorted(row["session_id"] for row in rows) == sorted(ids)
    assert not any("data" in row for row in rows)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("list", "nobody"), "This user has no live session."),
        (("show", "A" * 12), "No live session has this id."),
        (("trail", "nobody"), "The trail has no such events."),
        (("trail", "--session", "A" * 12), "The trail has no such events."),
    ],
)
def test_nothing_to_show_is_a_failure_in_a_sentence(
    run: Run, arguments: tuple[str, ...], sentence: str
) -> None:
    done = run(*arguments)

    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: {sentence}")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("prompt_expiry", "expected_by", "outlook"),
    [
        (False, None, "The trail gets the event when DynamoDB's TTL deletes the session"),
        (True, 1_795_435_320, "The event is late: it was expected by 2026-11-23 12:02:00 UTC"),
    ],
)
def test_expiry_that_is_not_recorded_yet_is_something(
    run: Run,
    sessions: Sessions,
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    prompt_expiry: bool,
    expected_by: int | None,
    outlook: str,
) -> None:
    monkeypatch.setattr(function("session_api"), "prompt_expiry", prompt_expiry)
    id = sessions.create("ada").session.session_id
    service.sdk.update_item(
        TableName=service.table,
        Key={"SessionId": {"S": id}},
        UpdateExpression="SET ExpirationTime = :past, CreatedAt = :earlier",
        ExpressionAttributeValues={":past": {"N": "1795435200"}, ":earlier": {"N": "1795433400"}},
    )

    done = run("trail", "--session", id)
    in_json = run("trail", "--session", id, "--json")

    assert (done.exit_code, done.stdout) == (0, "")
    assert "It expired 2026-11-23 12:00:00 UTC" in done.stderr
    assert outlook in done.stderr
    assert (in_json.exit_code, in_json.stdout) == (0, "")
    assert json.loads(in_json.stderr)["pending"] == {
        "at": 1_795_435_200,
        "cause": "idle",
        "expected_by": expected_by,
    }


@pytest.mark.parametrize(
    ("expiry", "sentences"),
    [
        (
            ("idle", 1120),
            "The event is expected by 1970-01-01 00:18:40 UTC (in 1 minute).",
        ),
        (
            ("idle", 1060),
            "The event is expected by 1970-01-01 00:17:40 UTC (now).",
        ),
        (
            ("absolute", 1059),
            "The event is late: it was expected by 1970-01-01 00:17:39 UTC (1 s ago). Look at the"
            " alarm sweeper-late. TTL deletes sessions that were created before prompt expiry was"
            " switched on.",
        ),
        (
            ("idle", None),
            "The trail gets the event when DynamoDB's TTL deletes the session, usually within a"
            " few days.",
        ),
        (
            ("not_before", None),
            "The trail gets the event when the session is deleted, after the time at which it"
            " would have expired otherwise.",
        ),
    ],
)
def test_outlook_says_what_comes_when(
    monkeypatch: pytest.MonkeyPatch, expiry: tuple[str, int | None], sentences: str
) -> None:
    monkeypatch.setattr(clock, "time", lambda: 1060.9)

    assert outlook(*expiry) == sentences


@pytest.mark.parametrize(("type", "shown"), [("purged", True), ("expired", False)])
def test_who_removed_a_session_is_shown_for_a_revoked_one_alone(
    run: Run, write_event: WriteEvent, type: str, shown: bool
) -> None:
    """With prompt expiry, "unknown" is nothing to worry about. Programs get it all the same."""
    write_event(type, "A" * 12, removed_by="unknown", actor=None)

    done = run("trail", "--session", "A" * 12)
    in_json = run("trail", "--session", "A" * 12, "--json")

    assert ("removed_by=unknown" in done.stdout) == shown
    assert json.loads(in_json.stdout)["removed_by"] == "unknown"


@pytest.mark.parametrize("with_data", [False, True])
def test_data_is_shown_only_with_its_option(run: Run, sessions: Sessions, with_data: bool) -> None:
    id = sessions.create("ada", data={"theme": "dark"}).session.session_id

    done = run("show", id, *["--data"] * with_data)

    assert done.exit_code == 0
    assert ("dark" in done.stdout) == with_data


def test_token_in_place_of_an_id_is_refused_and_not_repeated(run: Run, sessions: Sessions) -> None:
    token = sessions.create("ada").token

    done = run("show", token)

    assert done.exit_code == 2
    assert "looks like a token" in done.stderr
    assert token not in done.output


@pytest.mark.parametrize("id", ["-" + "A" * 11, "-h" + "A" * 10, "--h" + "A" * 9])
def test_id_that_begins_with_a_dash_is_no_option(run: Run, service: Service, id: str) -> None:
    done = run("show", id)

    assert done.exit_code == 1
    assert service.calls == [f"GET /sessions/{id}"]


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_command_has_help(run: Run, option: str) -> None:
    assert "Show one live session" in run("show", option).stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("list", "--limit", "5", "ada"), "No such option '--limit'."),
        (("show", "A" * 12, "--dat"), "No such option '--dat'. Did you mean '--data'?"),
        (("show", "--dat", "A" * 12), "No such option '--dat'. Did you mean '--data'?"),
        (("revoke", "A" * 12, "--resn", "x"), "No such option '--resn'."),
        (("serve", "--prt", "1"), "No such option '--prt'. Did you mean '--port'?"),
        (("console", "--port", "x"), "Invalid value for '--port'"),
        (("revoke", "-" + "A" * 11), "Missing option '--reason'."),
    ],
)
def test_misspelt_option_is_named(run: Run, arguments: tuple[str, ...], text: str) -> None:
    done = run(*arguments)

    assert done.exit_code == 2
    assert text in done.stderr


def test_revoke_stores_the_reason(run: Run, sessions: Sessions, service: Service) -> None:
    id = sessions.create("ada").session.session_id

    done = run("revoke", id, "--reason", "stolen")

    assert (done.exit_code, done.stderr) == (0, "Ended a session of ada.\n")
    [item] = service.items()
    assert item["RevokedReason"] == {"S": "stolen"}


def test_revoke_of_an_absent_session_says_so(run: Run, service: Service) -> None:
    """The service answers 204 whether the session was live or not."""
    done = run("revoke", "A" * 12, "--reason", "stolen")

    assert done.exit_code == 0
    assert "Nothing to end" in done.stderr
    assert not any(call.startswith("DELETE") for call in service.calls)


@pytest.mark.parametrize(
    ("answer", "exit_code", "sentence", "left"),
    [
        (None, 2, "No session was ended: there is no one to ask; say --yes.", 3),
        (False, 1, "Aborted!", 3),
        (True, 0, "Ended 3 sessions.", 0),
    ],
)
def test_sign_out_asks_first(
    run: Run,
    sessions: Sessions,
    monkeypatch: pytest.MonkeyPatch,
    answer: bool | None,
    exit_code: int,
    sentence: str,
    left: int,
) -> None:
    """Without a terminal, nobody has agreed."""
    questions = []
    for _ in range(3):
        sessions.create("ada")

    def ask(question: str) -> bool | None:
        questions.append(question)
        return answer

    if answer is not None:
        monkeypatch.setattr("serverless_sessions.cli.commands.ask", ask)

    done = run("sign-out", "ada", "--reason", "left", input="y\n")

    assert done.exit_code == exit_code
    assert sentence in done.stderr
    assert len(done.stdout.splitlines()) == 3
    assert len(list(sessions.list("ada"))) == left
    assert questions == ["End 3 sessions?"] * (answer is not None)


def test_sign_out_can_keep_one_session(run: Run, sessions: Sessions) -> None:
    keep, other = (sessions.create("ada").session.session_id for _ in range(2))

    done = run("sign-out", "ada", "--except", keep, "--reason", "password", "--yes")

    assert "Ended 1 session." in done.stderr
    assert [session.session_id for session in sessions.list("ada")] == [keep]
    assert other != keep


def test_trail_reads_oldest_first(run: Run) -> None:
    audit = function("session_audit")
    for name in ("created", "updated", "revoked"):
        audit.lambda_handler(sample(f"stream_{name}"), lambda_context())

    done = run("trail", "ada")

    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [line[1] for line in lines] == ["created", "updated", "revoked"]
    assert [line[3] for line in lines] == ["user/backend"] * 3
    assert lines[1][4] == "changed=cart,theme"
    assert lines[2][4] == "reason=logout"
    [record] = sample("stream_created")["Records"]
    id = record["dynamodb"]["Keys"]["SessionId"]["S"]
    assert run("trail", "--session", id).stdout == done.stdout
    assert run("trail", "ada", "--since", "2099-01-01").exit_code == 1


def test_trail_of_a_period(run: Run) -> None:
    """The beginning is part of it, and the end is not."""
    audit = function("session_audit")
    for name in ("created", "updated", "revoked"):
        audit.lambda_handler(sample(f"stream_{name}"), lambda_context())
    created, updated, revoked = (
        line.split("\t")[0] for line in run("trail", "ada").stdout.split("\n")[:3]
    )

    done = run("trail", "ada", "--since", updated, "--until", revoked)

    assert [line.split("\t")[1] for line in done.stdout.splitlines()] == ["updated"]
    assert run("trail", "ada", "--until", created).exit_code == 1


@pytest.mark.parametrize("since", ["yesterday", "0h", "2026-13-01", "h"])
def test_invalid_since_is_a_usage_error(run: Run, since: str) -> None:
    done = run("trail", "ada", "--since", since)

    assert done.exit_code == 2
    assert "2026-11-22" in done.stderr


@pytest.mark.parametrize(
    ("since", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7_200), ("3d", 259_200)]
)
def test_since_counts_back_from_now(
    monkeypatch: pytest.MonkeyPatch, since: str, seconds: int
) -> None:
    monkeypatch.setattr(clock, "time", lambda: 1_795_435_200.5)

    assert Time().convert(since, None, None) == 1_795_435_200 - seconds


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (1, "1 s"),
        (59, "59 s"),
        (60, "1 minute"),
        (3_599, "59 minutes"),
        (3_600, "1 hour"),
        (86_399, "23 hours"),
        (86_400, "1 day"),
        (3 * 86_400, "3 days"),
    ],
)
def test_length_of_time_shows_in_its_largest_unit(
    monkeypatch: pytest.MonkeyPatch, seconds: int, words: str
) -> None:
    now = 1_795_435_200
    monkeypatch.setattr(clock, "time", lambda: now + 0.5)

    assert duration(seconds) == words
    assert Moment(now + seconds).distance() == f"in {words}"
    assert Moment(now - seconds).distance() == f"{words} ago"
    assert Moment(now).distance() == "now"
    count, unit = words.split()
    short = f"{count}{unit[0]}"
    assert Moment(now + seconds).short_distance() == f"in {short}"
    assert Moment(now - seconds).short_distance() == f"{short} ago"


def test_trail_needs_either_a_user_or_a_session(run: Run) -> None:
    assert run("trail").exit_code == 2
    assert run("trail", "ada", "--session", "A" * 12).exit_code == 2


def test_control_characters_are_not_printed(run: Run, sessions: Sessions) -> None:
    sessions.create("ada\u202e", client=Client(user_agent="\x1b]0;owned\x07\u202e"))

    done = run("list", "ada\u202e")

    assert not set(done.stdout) & set("\x1b\x07\u202e")


def test_every_result_is_json(
    run: Run, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Account, "arn", lambda _: "arn:aws:iam::111122223333:user/olga")
    id = sessions.create("ada").session.session_id
    for _ in range(2):
        sessions.create("ada")

    def result(*arguments: str) -> Any:
        done = run(*arguments)
        assert (done.exit_code, done.stderr) == (0, "")
        return json.loads(done.stdout)

    assert result("--json", "show", id)["session_id"] == id
    assert result("show", id, "--json")["session_id"] == id
    ended = {"session_id": id, "user_id": "ada", "ended": 1}
    assert result("--json", "revoke", id, "--reason", "lost") == ended
    assert result("--json", "revoke", id, "--reason", "lost") == {"session_id": id, "ended": 0}
    sign_out = "sign-out", "ada", "--reason", "lost", "--yes", "--json"
    assert result(*sign_out) == {"user_id": "ada", "ended": 2}
    assert result(*sign_out) == {"user_id": "ada", "ended": 0}
    assert result("--json", "whoami")["arn"] == "arn:aws:iam::111122223333:user/olga"


@pytest.mark.parametrize(
    ("arguments", "exit_code", "code"),
    [
        (("list", "nobody"), 1, "session_not_found"),
        (("show", "A" * 12), 1, "session_not_found"),
        (("show", "token.secret"), 2, None),
        (("show",), 2, None),
        (("trail",), 2, None),
        (("trail", "nobody"), 1, None),
        (("sign-out", "ada", "--reason", "lost"), 2, None),
        (("revoke", "A" * 12), 2, None),
        (("nonsense",), 2, None),
        (("smoke",), 2, None),
        (("console", "--port", "nonsense"), 2, None),
        (("serve", "--prt", "1"), 2, None),
        ((), 2, None),
    ],
)
def test_every_error_is_json_on_standard_error(
    run: Run, sessions: Sessions, arguments: tuple[str, ...], exit_code: int, code: str | None
) -> None:
    sessions.create("ada")

    done = run("--json", *arguments)

    error = json.loads(done.stderr)
    assert done.exit_code == error["exit_code"] == exit_code
    assert error.get("code") == code
    assert error["error"]
    assert all(json.loads(line) for line in done.stdout.splitlines())


def test_json_ends_with_the_command(run: Run) -> None:
    run("--json", "list", "nobody")

    assert not as_json.get()


def test_user_is_utf_8_in_any_locale(run: Run, sessions: Sessions) -> None:
    """In a locale that can't decode them, Python turns the bytes of arguments into surrogates."""
    sessions.create("zoë")

    assert run("list", "zoë".encode().decode("ascii", "surrogateescape")).exit_code == 0
    done = run("list", "\udcff")
    assert done.exit_code == 2
    assert "this is not UTF-8" in done.stderr


def test_missing_permission_has_its_own_exit_code(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")

    done = CliRunner().invoke(main, ["--url", service.url, "list", "ada"])

    assert done.exit_code == 4
    assert "Not allowed" in done.stderr
    assert "execute-api:Invoke" in done.stderr
    assert "wrong" not in done.output


def test_missing_service_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SESSIONS_URL", raising=False)

    done = CliRunner().invoke(main, ["list", "ada"])

    assert done.exit_code == 2
    assert "--stage" in done.stderr


def test_region_of_the_api_takes_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS refuses a signature for another region."""
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    url = "https://a1b2c3.execute-api.us-west-2.amazonaws.com"

    assert Cli(Account(), None, url).region == "us-west-2"
    assert Cli(Account(region="us-east-2"), None, url).region == "us-east-2"
    assert Cli(Account(), None, "http://127.0.0.1:9").region == "eu-west-1"


@pytest.fixture
def no_region(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")


@pytest.mark.usefixtures("no_region")
@pytest.mark.parametrize(
    "arguments",
    [
        ("--url", "http://127.0.0.1:9", "list", "ada"),
        ("--stage", "dev", "list", "ada"),
        ("--stage", "dev", "smoke"),
        ("--stage", "dev", "whoami"),
    ],
    ids=" ".join,
)
def test_missing_region_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    done = CliRunner().invoke(main, arguments)

    assert done.exit_code == 2
    assert "No AWS region is configured: use --region, or set AWS_REGION." in done.stderr


@pytest.mark.usefixtures("no_region")
def test_region_comes_from_the_option_then_the_environment_then_the_configuration(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_text("[default]\nregion = eu-north-1\n[profile ops]\nregion = eu-west-3\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))

    assert Account().region == "eu-north-1"
    assert Account(profile="ops").region == "eu-west-3"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-2")
    assert Account(profile="ops").region == "eu-west-2"
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert Account(profile="ops").region == "eu-west-1"
    assert Account(profile="ops", region="us-east-2").region == "us-east-2"


@pytest.fixture
def stacks() -> Iterator[Any]:
    """An AWS account with one deployed stage, `dev`, whose API is in us-west-2."""
    template = {
        "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}},
        "Outputs": {"ApiUrl": {"Value": "https://a1b2c3.execute-api.us-west-2.amazonaws.com"}},
    }
    with moto.mock_aws():
        boto3.client("cloudformation", region_name="us-west-2").create_stack(
            StackName="Sessions-dev", TemplateBody=json.dumps(template)
        )
        yield


@pytest.mark.usefixtures("stacks")
def test_stage_selects_its_api() -> None:
    done = CliRunner().invoke(main, ["--stage", "dev", "--region", "us-west-2", "whoami"])

    assert done.exit_code == 0
    assert done.stdout.endswith("\nhttps://a1b2c3.execute-api.us-west-2.amazonaws.com\n")


@pytest.mark.usefixtures("stacks")
@pytest.mark.parametrize("arguments", [("list", "ada"), ("smoke",), ("redrive",)], ids=" ".join)
def test_stage_that_is_not_deployed_gives_a_message(arguments: tuple[str, ...]) -> None:
    done = CliRunner().invoke(main, ["--stage", "dev", *arguments])

    assert done.exit_code == 1
    assert done.stderr == "Error: There is no stack Sessions-dev in us-east-1 of this account.\n"


@pytest.fixture
def shop() -> Iterator[None]:
    """A stack of another CDK app with two services, whose outputs are as the CDK names them."""
    outputs = {
        f"{service}{name}{digit * 8}": f"https://{service.lower()}.example"
        for digit, service in (("1", "Admins"), ("2", "BackendSessions"))
        for name in ("ApiUrl", "FailedEventsBucket")
    }
    with moto.mock_aws():
        boto3.client("cloudformation").create_stack(
            StackName="Shop",
            TemplateBody=json.dumps(
                {
                    "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}},
                    "Outputs": {name: {"Value": value} for name, value in outputs.items()}
                    | {"SessionsApiUrl": {"Value": "the shop's own"}},
                }
            ),
        )
        yield


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("service", "url"),
    [
        ("Admins", "https://admins.example"),
        ("BackendSessions", "https://backendsessions.example"),
        ("Backend/Sessions", "https://backendsessions.example"),
    ],
)
def test_service_of_a_stack_is_selected_by_the_path_of_its_construct(
    service: str, url: str
) -> None:
    done = CliRunner().invoke(main, ["--stack", "Shop", "--service", service, "whoami"])

    assert done.exit_code == 0, done.stderr
    assert done.stdout.endswith(f"\n{url}\n")


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (
            ["--stack", "Shop"],
            1,
            "Shop has several services: Admins, BackendSessions. Use --service.",
        ),
        (
            ["--stack", "Shop", "--service", "Sessions"],
            1,
            "Shop has no service Sessions; it has Admins, BackendSessions.",
        ),
        (["--stack", "Shop", "--stage", "dev"], 2, "Use either --stage or --stack."),
        (["--service", "Admins"], 2, "--service needs --stack."),
    ],
)
def test_service_that_is_not_selected_gives_a_message(
    options: list[str], code: int, message: str
) -> None:
    done = CliRunner().invoke(main, [*options, "smoke"])

    assert done.exit_code == code
    assert f"Error: {message}\n" in done.stderr


@pytest.mark.usefixtures("stacks")
@pytest.mark.parametrize("options", [["--stage", "dev"], ["--stack", "Sessions-dev"]])
@pytest.mark.parametrize("service", [[], ["--service", "Default"]])
def test_single_service_of_a_stack_need_not_be_named(
    options: list[str], service: list[str]
) -> None:
    done = CliRunner().invoke(main, [*options, *service, "--region", "us-west-2", "whoami"])

    assert done.exit_code == 0, done.stderr


@pytest.mark.parametrize("name", ["smoke", "redrive"])
def test_deployment_needs_a_stage(run: Run, name: str) -> None:
    """The tables and functions cannot be looked up by the API's URL."""
    done = run(name)

    assert done.exit_code == 2
    assert "Select a deployment with --stage or --stack." in done.stderr


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [("AccessDenied", 4), ("AccessDeniedException", 4), ("ThrottlingException", 1)],
)
def test_error_of_aws_is_one_line(
    monkeypatch: pytest.MonkeyPatch, code: str, exit_code: int
) -> None:
    error = {"Error": {"Code": code, "Message": "No,\n not\n now"}}

    def refuse(self: Any, service: str) -> Any:
        raise ClientError(error, "DescribeStacks")  # type: ignore[arg-type]

    monkeypatch.setattr(Account, "client", refuse)

    done = CliRunner().invoke(main, ["--stage", "dev", "smoke"])

    assert done.exit_code == exit_code
    message = f"An error occurred ({code}) when calling the DescribeStacks operation: No, not now"
    assert done.stderr == f"Error: {message}\n"


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ((), {"dry_run": False, "yes": False}),
        (("--dry-run",), {"dry_run": True, "yes": False}),
        (("--yes",), {"dry_run": False, "yes": True}),
    ],
)
def test_redrive_exits_with_the_higher_code_of_both_buckets(
    monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], flags: dict[str, bool]
) -> None:
    received = []

    def redrive(exit_code: int, **options: bool) -> int:
        received.append(options)
        return exit_code

    monkeypatch.setattr(Cli, "deployment", lambda self: None)
    monkeypatch.setattr("serverless_sessions.cli.commands.buckets", lambda _: iter((2, 0)))
    monkeypatch.setattr("serverless_sessions.cli.commands.redrive", redrive)

    done = CliRunner().invoke(main, ["--stage", "dev", "redrive", *options])

    assert (done.exit_code, received) == (2, [flags, flags])


@pytest.mark.parametrize(("options", "seconds"), [((), 60), (("--wait", "0"), 0)])
def test_smoke_waits_a_minute_unless_it_should_not(
    monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], seconds: int
) -> None:
    waited = []
    deployment = SimpleNamespace(sessions=nullcontext)
    monkeypatch.setattr(Cli, "deployment", lambda self: deployment)
    monkeypatch.setattr(
        "serverless_sessions.cli.commands.smoke",
        lambda *_, settling_seconds: waited.append(settling_seconds),
    )

    done = CliRunner().invoke(main, ["--stage", "dev", "smoke", *options])

    assert (done.exit_code, waited) == (0, [seconds])


@pytest.mark.parametrize("on_terminal", [False, True])
def test_show_says_when_and_how_the_user_proved_who_they_are(
    run: Run, sessions: Sessions, monkeypatch: pytest.MonkeyPatch, on_terminal: bool
) -> None:
    monkeypatch.setattr("serverless_sessions.cli.output.on_terminal", lambda: on_terminal)
    issued = sessions.create("ada", methods=["pwd", "otp"], authenticated_at=1_790_000_000)

    lines = run("show", issued.session.session_id).stdout.splitlines()

    facts = {
        name: fact for name, _, fact in (re.split(r"(\t|  +)", line, maxsplit=1) for line in lines)
    }
    assert facts["authenticated_at"].startswith("2026-09-21")
    assert facts["methods"] == '["pwd","otp"]'
    assert facts["impersonator"] == "null"
    visitor = sessions.create()
    shown = run("show", visitor.session.session_id)
    assert shown.exit_code == 0
    assert re.search(r"authenticated_at\s+null", shown.stdout)


def test_impersonated_session_is_marked(
    run: Run, sessions: Sessions, terminal: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    agent = Impersonator("grace", "ticket-42")
    client = Client(user_agent="Firefox/150.0")
    session_id = sessions.create("ada", impersonator=agent, client=client).session.session_id

    listed = run("list", "ada").stdout
    assert "Firefox (impersonated by grace)" in listed
    shown = json.loads(run("show", session_id, "--json").stdout)
    assert shown["impersonator"] == {"id": "grace", "reason": "ticket-42"}


def test_trail_names_the_impersonator_and_the_methods(run: Run, write_event: WriteEvent) -> None:
    write_event("created", "S" * 12, impersonator={"id": "grace", "reason": "ticket-42"})
    write_event("revoked", "S" * 12, reason="logout", impersonator={"id": "grace"})
    write_event("authenticated", "T" * 12, methods=["pwd", "otp"])

    piped = run("trail", "ada").stdout.splitlines()
    details = [line.split("\t")[4] for line in piped]
    assert details == [
        "impersonator=grace,ticket-42",
        "reason=logout impersonator=grace",
        "methods=pwd,otp",
    ]
    facts = [json.loads(line) for line in run("trail", "ada", "--json").stdout.splitlines()]
    assert [fact.get("impersonator") for fact in facts] == [
        {"id": "grace", "reason": "ticket-42"},
        {"id": "grace"},
        None,
    ]
    assert facts[2]["methods"] == ["pwd", "otp"]
