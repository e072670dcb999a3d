"""Protection of forms that have no CSRF token: whether a page of the app itself sent a request."""

from __future__ import annotations


def is_same_origin(*, fetch_site: str | None, origin: str | None, host: str) -> bool:
    """Whether a request that changes something was sent by a page of this host.

    `fetch_site` and `origin` are the headers `Sec-Fetch-Site` and `Origin`, which a page cannot
    set. The cookie's `SameSite` does not replace this check: it can be configured as `None`, and
    all subdomains of a site share it.

    Browsers send `Sec-Fetch-Site` to every HTTPS site. Older ones, and all of them over HTTP, send
    `Origin` with every form. So a request with neither header is not from a current browser.
    Nobody can tell who made it, and the page is only for browsers, so it is refused.

    Only the host of the origin is compared, because a proxy may have received HTTPS and forwarded
    HTTP.
    """
    if fetch_site is not None:
        # The value is "none" if the user has started the request without any page.
        return fetch_site in ("same-origin", "none")
    return origin is not None and bool(host) and origin.partition("://")[2] == host
