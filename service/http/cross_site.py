"""Cross-site requests: the pages of other sites may not make a browser send work to a service without keys.

Such a page cannot read the answers, but a form or a picture of it could make the service compute. Browsers say which
page a request comes from, in headers that the page cannot write. Other clients do not send these headers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import OtherSite
from .problems import respond


class OtherSites:
    """Pure ASGI that refuses the requests of pages of other sites, but for pages of the allowed origins.

    Links that a person follows lead here from anywhere. So do preflights, which tell the browser to send no more.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._app = app
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        is_refused = (
            scope["type"] == "http"
            and scope["method"] != "OPTIONS"
            and self._is_foreign(headers := Headers(scope=scope))
            and not (scope["method"] == "GET" and is_visit(headers))
        )
        app = respond(scope["state"], OtherSite(origin_of(headers))) if is_refused else self._app
        await app(scope, receive, send)

    def _is_foreign(self, headers: Mapping[str, str]) -> bool:
        """Whether a page of another site sends the request.

        Two ports of one host are one site and two origins. Browsers of before 2023, and pages over plain HTTP from
        other machines, send no Sec-Fetch-Site.
        """
        site = headers.get("sec-fetch-site", "")
        if site in {"same-origin", "none"} or origin_of(headers) in self._origins:
            return False
        if site not in {"", "same-site"}:
            return True
        own = headers.get("host", "").lower()
        return "origin" in headers and headers["origin"].lower() not in {f"http://{own}", f"https://{own}"}


def origin_of(headers: Mapping[str, str]) -> str:
    """The origin of the page that sends the request. A picture has no Origin, so its Referer tells the page."""
    return headers.get("origin") or "/".join(headers.get("referer", "").split("/")[:3])


def is_visit(headers: Mapping[str, str]) -> bool:
    """Whether a person has followed a link, and sees the answer. A script that opens windows is not a person."""
    how = [headers.get(name) for name in ("sec-fetch-mode", "sec-fetch-dest", "sec-fetch-user")]
    return how == ["navigate", "document", "?1"] and "sec-purpose" not in headers  # nor is a page that is fetched ahead
