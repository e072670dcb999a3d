"""schemathesis, with calls that it makes up from the written contract."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from local.stack import REGION, ROOT, LocalStack, tool

EXAMPLES = os.environ.get("EXAMPLES") or "10"
SEED = os.environ.get("SEED") or "1"


def test_api_keeps_its_contract(stack: LocalStack, tmp_path: Path) -> None:
    """What the contract allows is accepted, what it forbids is refused, and no answer surprises.

    `make fuzz` does the same for longer. Each phase stops by itself after `EXAMPLES` per operation.
    """
    keys = stack.credentials("fuzz", "execute-api:Invoke")

    done = subprocess.run(
        [
            tool(ROOT / ".venv/bin/schemathesis"),
            *("--config-file", ROOT / "tests/e2e/schemathesis.toml"),
            *("run", ROOT / "docs/openapi.yaml", "--url", stack.url),
            *("--max-examples", EXAMPLES, "--seed", SEED),
        ],
        cwd=tmp_path,  # where it leaves its files
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
