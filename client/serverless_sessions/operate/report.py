"""What a command says: sentences for people, or JSON for programs.

An operation such as a redrive takes minutes and can be interrupted, so it says what it did as it
goes, and returns little.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import Any

from serverless_sessions._core import exact_json

as_json = ContextVar("as_json", default=False)


def say(sentence: str, *, problem: bool = False, **facts: Any) -> None:
    """Print a sentence: on standard output, or on standard error if it is about a problem.

    As JSON, it is the member `message` or `error` of an object with these facts.
    """
    if as_json.get():
        facts["error" if problem else "message"] = sentence.strip()
        sentence = exact_json.encode(facts).decode()
    print(sentence, file=sys.stderr if problem else sys.stdout, flush=True)


def ask(question: str) -> bool | None:
    """Ask whoever is at the terminal. Return None if there is nobody to ask."""
    if not sys.stdin.isatty():
        return None
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer:
        print(file=sys.stderr)  # the end of input leaves the cursor behind the question
    return answer.strip().lower() in ("y", "yes")
