"""`python -m local run | demo | console | example APP | invoke EVENT`; PORT sets the port."""

from __future__ import annotations

import os
import signal
import sys

from local.console import open_console
from local.demo import DemoError, show_commands, show_life
from local.example import require_example, run_example
from local.invoke import invoke
from local.stack import LocalError, LocalStack, running
from serverless_sessions import SessionsError
from serverless_sessions.cli import streams


def main(command: str, *arguments: str) -> None:
    """Run a command. Raises `LocalError` or `DemoError` with a message for the user."""
    port = os.environ.get("PORT") or "4566"
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise LocalError(f"PORT must be a port number, not '{port}'.")
    stack = LocalStack(int(port))
    if command == "invoke":
        return invoke(stack, *arguments)
    if command == "example":
        require_example(*arguments)
    if command == "console" and stack.is_running:
        return open_console(stack)
    print(f"Deploying to a local AWS on 127.0.0.1:{port}")
    with running(stack):
        if command == "example":
            return run_example(stack, *arguments)
        keys = stack.credentials("demo", "execute-api:Invoke")
        with stack.sessions(keys) as sessions:
            show_life(stack, sessions)
            if command == "run":
                show_commands(stack, sessions, keys)
                print("Serving until Ctrl-C.", flush=True)
                signal.pause()
        if command == "console":
            open_console(stack)
    return None


if __name__ == "__main__":
    # Both signals must run the `finally` that stops MiniStack. By default, a background job of a
    # shell ignores SIGINT, and SIGTERM ends the process at once.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    streams.prepare()
    try:
        main(*sys.argv[1:])
    except (LocalError, DemoError, SessionsError) as error:
        sys.exit(f"{error}")
    except KeyboardInterrupt:
        print("\nStopped.")
    except BrokenPipeError:
        sys.exit(1)  # whoever read the output has seen enough
    finally:
        streams.flush()
