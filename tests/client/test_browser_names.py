"""The names of browsers by their user agents.

The service cuts the user agent of a renewal at 128 characters.
"""

from __future__ import annotations

import pytest

from serverless_sessions.wording import browser_name

_WEBKIT = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
_IPHONE = f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) {_WEBKIT}"
_IPAD = f"Mozilla/5.0 (iPad; CPU OS 18_6 like Mac OS X) {_WEBKIT}"
_ANDROID = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko)"
_MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko)"
_WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
_LINUX = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"
_CHROMEOS = "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko)"
_CHROME = "Chrome/140.0.0.0 Safari/537.36"
_MOBILE_CHROME = "Chrome/140.0.0.0 Mobile Safari/537.36"
NAMES = {
    f"{_IPHONE} Version/26.0 Mobile/15E148 Safari/604.1": "Safari on iPhone",
    f"{_IPHONE} CriOS/140.0.7339.101 Mobile/15E148 Safari/604.1": "Chrome on iPhone",
    f"{_IPHONE} FxiOS/143.0 Mobile/15E148 Safari/605.1.15": "Firefox on iPhone",
    f"{_IPHONE} Version/18.0 EdgiOS/140.0.3485.71 Mobile/15E148 Safari/604.1": "Edge on iPhone",
    f"{_IPAD} Version/18.6 Mobile/15E148 Safari/604.1": "Safari on iPad",
    f"{_IPAD} CriOS/140.0.7339.101 Mobile/15E148 Safari/604.1": "Chrome on iPad",
    f"{_IPAD} FxiOS/143.0 Mobile/15E148 Safari/605.1.15": "Firefox on iPad",
    f"{_IPAD} Version/18.0 EdgiOS/140.0.3485.71 Mobile/15E148 Safari/604.1": "Edge on iPad",
    f"{_ANDROID} {_MOBILE_CHROME}": "Chrome on Android",
    "Mozilla/5.0 (Android 15; Mobile; rv:143.0) Gecko/143.0 Firefox/143.0": "Firefox on Android",
    f"{_ANDROID} {_MOBILE_CHROME} EdgA/140.0.0.0": "Edge on Android",
    f"{_ANDROID} {_MOBILE_CHROME} OPR/91.0.0.0": "Opera on Android",
    f"{_ANDROID} SamsungBrowser/28.0 {_MOBILE_CHROME}": "Samsung Internet on Android",
    f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_WEBKIT} Version/26.0 Safari/605.1.15": (
        "Safari on macOS"
    ),
    f"{_MAC} {_CHROME}": "Chrome on macOS",
    f"{_MAC} {_CHROME} Edg/140.0.0.0": "Edge on macOS",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:143.0) Gecko/20100101 Firefox/143.0": (
        "Firefox on macOS"
    ),
    f"{_WINDOWS} {_CHROME}": "Chrome on Windows",
    f"{_WINDOWS} {_CHROME} Edg/140.0.0.0": "Edge on Windows",
    f"{_WINDOWS} {_CHROME} OPR/124.0.0.0": "Opera on Windows",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:143.0) Gecko/20100101 Firefox/143.0": (
        "Firefox on Windows"
    ),
    f"{_LINUX} {_CHROME}": "Chrome on Linux",
    "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0": "Firefox on Linux",
    f"{_CHROMEOS} {_CHROME}": "Chrome on ChromeOS",
    "curl/8.14.1": "curl",
}


@pytest.mark.parametrize("length", [512, 128])
@pytest.mark.parametrize("user_agent", NAMES)
def test_name_of_a_browser(user_agent: str, length: int) -> None:
    assert browser_name(user_agent[:length]) == NAMES[user_agent]


@pytest.mark.parametrize(
    "user_agent",
    ["Shop/1.0 (iPhone; iOS 18.6; Scale/3.00)", "python-requests/2.32.5", "Mozilla/5.0", ""],
)
def test_other_programs_have_no_name(user_agent: str) -> None:
    assert browser_name(user_agent) is None
