"""An operator's AWS account that answers what a test says, and notes the permissions it takes."""

from __future__ import annotations

import copy
import re
from types import SimpleNamespace
from typing import Any

from serverless_sessions.operate.account import Account
from tests.support.template import ROOT

# IAM's names of operations are those of the APIs but for these:
# https://docs.aws.amazon.com/service-authorization/latest/reference/
_ACTIONS = {"lambda:Invoke": "lambda:InvokeFunction", "s3:ListObjectsV2": "s3:ListBucket"}


class Aws:
    """`answers` has an answer for each operation, or a function that returns one."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.actions: set[str] = set()
        self.account = Account(region="eu-west-1")
        self.account._session.register("before-call", self._answer)

    def _answer(self, **call: Any) -> Any:
        model = call["model"]
        action = f"{model.service_model.service_name}:{model.name}"
        self.actions.add(_ACTIONS.get(action, action))
        answer = self.answers[model.name]
        parsed = answer() if callable(answer) else copy.deepcopy(answer)
        return SimpleNamespace(status_code=200), parsed


def documented_actions(command: str) -> set[str]:
    """The permissions that docs/operations.md names for a command."""
    operations = (ROOT / "docs/operations.md").read_text()
    [row] = re.findall(rf"^\| `sessions {command}` \| (.+) \|$", operations, re.MULTILINE)
    return set(re.findall(r"`([\w-]+:\w+)`", row))
