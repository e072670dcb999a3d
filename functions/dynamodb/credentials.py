"""The source of the credentials that requests are signed with."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from dynamodb.errors import NoCredentials, TransientError

if TYPE_CHECKING:
    from botocore.credentials import RefreshableCredentials

# This variable is set instead of the keys under Lambda's SnapStart, and in containers:
# https://docs.aws.amazon.com/lambda/latest/dg/snapstart-activate.html
_CONTAINER_URI = "AWS_CONTAINER_CREDENTIALS_FULL_URI"


class Credentials(NamedTuple):
    """Keys. `token` is empty for keys that do not expire. The `repr` does not show them."""

    access_key: str
    secret_key: str
    token: str

    def __repr__(self) -> str:
        return "Credentials(…)"


class CredentialSource:
    """Credentials from the environment, or from the endpoint that the environment names.

    botocore reads the endpoint, and also renews the credentials before they expire.
    """

    def __init__(self) -> None:
        self._provided: RefreshableCredentials | None = None
        if _CONTAINER_URI in os.environ:
            import botocore.credentials  # noqa: F401  # now rather than in the first request

    def get(self) -> Credentials:
        """Return the credentials.

        Raises `NoCredentials`, or `TransientError` if the endpoint does not answer.
        """
        if _CONTAINER_URI in os.environ:
            return self._from_container()
        try:
            return Credentials(
                os.environ["AWS_ACCESS_KEY_ID"],
                os.environ["AWS_SECRET_ACCESS_KEY"],
                os.environ.get("AWS_SESSION_TOKEN", ""),
            )
        except KeyError:
            raise NoCredentials(
                "neither AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY"
                f" nor {_CONTAINER_URI} is set in the environment"
            ) from None

    def reload(self) -> None:
        """Load the credentials again next time, because DynamoDB says that they have expired."""
        self._provided = None

    def _from_container(self) -> Credentials:
        from botocore.exceptions import BotoCoreError

        try:
            provided = self._provided or _load_from_container()
            keys = provided.get_frozen_credentials()
        except BotoCoreError as error:
            raise TransientError(type(error).__name__) from None
        self._provided = provided
        return Credentials(keys.access_key or "", keys.secret_key or "", keys.token or "")


def _load_from_container() -> RefreshableCredentials:
    from botocore.credentials import ContainerProvider
    from botocore.httpsession import URLLib3Session
    from botocore.utils import ContainerMetadataFetcher

    # One short attempt is enough, because the request that waits for it is sent again anyway.
    fetcher = ContainerMetadataFetcher(URLLib3Session(timeout=1), sleep=lambda _: None)
    fetcher.RETRY_ATTEMPTS = 1
    return ContainerProvider(fetcher=fetcher).load()  # type: ignore[arg-type]
