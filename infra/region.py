"""`python -m infra.region` prints the AWS region that is configured, and fails if there is none.

The CDK CLI would then deploy to a region of its own choice.
"""

from __future__ import annotations

import os
import sys

from botocore.exceptions import BotoCoreError
from botocore.session import Session

if __name__ == "__main__":
    try:
        # `sessions smoke` has the same order: botocore itself reads only AWS_DEFAULT_REGION.
        region = os.environ.get("AWS_REGION") or Session().get_config_variable("region")
    except BotoCoreError as error:
        sys.exit(str(error))
    if not region:
        sys.exit("No AWS region is configured: set AWS_REGION, or one in your profile.")
    print(region)
