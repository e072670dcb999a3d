"""When the raw caller sends a request again."""

from __future__ import annotations

from botocore.awsrequest import AWSRequest

from tests.support.caller import Answer, Caller

BUSY = Answer(503, {"retry-after": "0"}, b"")
DOWN = Answer(503, {}, b"")
DONE = Answer(204, {}, b"")


class ScriptedCaller(Caller):
    """A caller that gets `answers`, one after the other."""

    def __init__(self, *answers: Answer) -> None:
        super().__init__("http://127.0.0.1", None)
        self.answers = iter(answers)

    def send(self, request: AWSRequest) -> Answer:
        return next(self.answers)


def test_503_with_retry_after_is_sent_again() -> None:
    answer = ScriptedCaller(BUSY, BUSY, DONE)("DELETE", "/sessions/x")

    assert answer == DONE._replace(sends=3)


def test_no_other_answer_is_sent_again() -> None:
    """By the contract, each 503 of the service has a `Retry-After`."""
    assert ScriptedCaller(DOWN)("GET", "/") == DOWN
    assert ScriptedCaller(Answer(500, {"retry-after": "0"}, b""))("GET", "/").status == 500


def test_lasting_503_is_returned_in_the_end() -> None:
    answer = ScriptedCaller(*[BUSY] * 20)("GET", "/")

    assert answer == BUSY._replace(sends=20)
