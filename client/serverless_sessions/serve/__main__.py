"""The embedded service for a program: `python -m serverless_sessions.serve`.

It prints one line of JSON when it is ready, and runs until the end of its standard input, which
also comes if the program that has started it is killed.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import suppress
from dataclasses import fields

from serverless_sessions.serve import add_functions_to_path
from serverless_sessions.serve.settings import SESSIONS, Settings


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m serverless_sessions.serve", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--port", type=int, default=0, help="By default any free port.")
    for field in fields(Settings):
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            default=field.default,
            help=f"{field.metadata['help']} Default: {field.default}.",
            **(
                {"action": argparse.BooleanOptionalAction}
                if field.default is False
                else {"type": type(field.default)}
            ),
        )
    options = vars(parser.parse_args())
    port = options.pop("port")
    try:
        settings = Settings(**options)
    except ValueError as error:
        parser.error(str(error))
    add_functions_to_path()
    from serverless_sessions.serve.server import serving
    from serverless_sessions.serve.service import REGION

    try:
        with serving(settings, port) as url, suppress(KeyboardInterrupt):
            print(json.dumps({"url": url, "region": REGION, "table": SESSIONS}), flush=True)
            sys.stdin.read()
    except OSError as error:
        sys.exit(f"Port {port} can't be used: {error}")


if __name__ == "__main__":
    main()
