"""`python -m deploy.region` prints the AWS region to deploy to.

It fails if a deployment could not work: without a region or credentials, and in a shell whose
exports are those of the local stack. The CDK would choose a region itself, and its messages about
the other two do not name the cause.
"""

from __future__ import annotations

import os
import sys
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError
from botocore.session import Session


def configured_region() -> str:
    """Return the configured region. Exits with one sentence for each thing that is missing."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    if urlsplit(endpoint).hostname in ("127.0.0.1", "localhost", "::1"):
        sys.exit(
            f"AWS_ENDPOINT_URL is {endpoint}, so this shell uses the local stack instead of AWS."
            " Use another terminal, or unset the variables that 'make run' has printed."
        )
    session = Session()
    try:
        # `sessions smoke` has the same order: botocore itself reads only AWS_DEFAULT_REGION.
        region = os.environ.get("AWS_REGION") or session.get_config_variable("region")
        credentials = session.get_credentials()
    except BotoCoreError as error:
        sys.exit(str(error))
    missing = []
    if not region:
        missing.append("No AWS region is configured: set AWS_REGION, or one in your profile.")
    if not credentials:
        missing.append(
            "No AWS credentials are configured: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and"
            " AWS_SECRET_ACCESS_KEY."
        )
    if missing:
        sys.exit("\n".join(missing))
    return str(region)


if __name__ == "__main__":
    print(configured_region())
