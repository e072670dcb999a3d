"""Calls that schemathesis generates from the contract."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from local.stack import REGION, ROOT, LocalStack, tool

EXAMPLES = os.environ.get("EXAMPLES") or "10"
SEED = os.environ.get("SEED") or "1"


def test_api_keeps_its_contract(stack: LocalStack, tmp_path: Path) -> None:
    """Allowed calls succeed, forbidden calls are rejected, and every answer matches the contract.

    `make fuzz` runs longer. Every phase ends after `EXAMPLES` calls per operation.
    """
    keys = stack.credentials("fuzz", "execute-api:Invoke")

    done = subprocess.run(
        [
            tool(ROOT / ".venv/bin/schemathesis"),
            *("--config-file", ROOT / "tests/e2e/schemathesis.toml"),
            *("run", ROOT / "docs/openapi.yaml", "--url", stack.url),
            *("--max-examples", EXAMPLES, "--seed", SEED),
        ],
        cwd=tmp_path,  # schemathesis writes files there
        env=os.environ
        | {
            "PYTHONPATH": str(ROOT),
            "API_URL": stack.url,
            "AWS_ACCESS_KEY_ID": keys.access_key,
            "AWS_SECRET_ACCESS_KEY": keys.secret_key,
            "AWS_DEFAULT_REGION": REGION,
        },
    )

    assert done.returncode == 0, "its report is above"
