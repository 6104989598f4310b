"""How an MCP server on this machine asks Deputy for credentials. Needs nothing but Python's standard library.

    deputy = connect_deputy()
    response = deputy.fetch("notes-api", on_behalf_of=user_token)("https://notes.example/api/notes")
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Callable, Mapping, Optional, Sequence, Union

__all__ = ["connect_deputy", "Deputy", "DeputyError", "Response", "Token", "SERVER", "SESSION"]


class _Principal:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


SESSION = _Principal("SESSION")
"""The login session of the Unix user (``deputy login``), for stdio servers."""
SERVER = _Principal("SERVER")
"""This server itself (client credentials)."""

_TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
_LOGIN_SESSION = "urn:deputy:params:oauth:token-type:login-session"
_LARGEST = 1_048_576
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
_MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)


class DeputyError(Exception):
    """What Deputy, or the way to it, has said no with.

    ``reason`` is Deputy's own code (docs/local-api.md); ``unreachable`` when there was no answer, ``unexpected_answer`` when it
    was none of Deputy's. ``next`` says what to do, ``connect_url`` where the user connects an account, ``claims`` the service's
    claims challenge, with which the user signs in anew where there is no ``connect_url``.
    """

    def __init__(self, reason: str, error: str, message: str, next: str = "", retry_after: Optional[float] = None,
                 correlation_id: Optional[str] = None, connect_url: Optional[str] = None, claims: Optional[str] = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.error = error
        self.next = next
        self.retry_after = retry_after
        self.correlation_id = correlation_id
        self.connect_url = connect_url
        self.claims = claims


_STANDARD = frozenset(("access_token", "issued_token_type", "token_type", "expires_in", "scope", "refresh_token"))
"""Members of an answer that the standards have a meaning for (RFC 6749 section 5.1, RFC 8693 section 2.2.1)."""


class Token:
    """A credential. It prints itself as ``[token]``; ``reveal()`` is the one way to what it is."""

    __slots__ = ("_value", "type", "scopes", "expires_at", "warning", "fields")

    def __init__(self, value: str, type: str, scopes: Sequence[str], expires_at: float, warning: Optional[str],
                 fields: Optional[Mapping[str, str]] = None) -> None:
        self._value = value
        self.type = type
        self.scopes = tuple(scopes)
        self.expires_at = expires_at
        """Use it no longer (seconds since the epoch)."""
        self.warning = warning
        self.fields = dict(fields or {})
        """What the provider said beside the token, as far as its file in Deputy lists it, for example ``instance_url``."""

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "[token]"

    def __reduce__(self):  # No copy on a disk.
        raise TypeError("a token is not pickled")


@dataclass(frozen=True)
class Response:
    """An HTTP response, read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


OnBehalfOf = Union[str, _Principal]


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def connect_deputy(socket_path: Optional[str] = None, tcp: Optional[str] = None, client_id: Optional[str] = None,
                   client_secret: Optional[str] = None, patience: float = 5.0) -> "Deputy":
    """The way to the Deputy on this machine. Nothing is sent until a token is asked for, and nothing is kept.

    ``socket_path``: default DEPUTY_SOCKET, else ``run/deputy.sock`` in DEPUTY_HOME, else in /etc/deputy. ``tcp``: ``host:port`` on
    loopback instead; then the server has to authenticate. ``patience``: how long Deputy may be away, in seconds.
    """
    path = socket_path or os.environ.get("DEPUTY_SOCKET") or os.path.join(os.environ.get("DEPUTY_HOME", "/etc/deputy"), "run/deputy.sock")
    return Deputy(path, tcp, client_id, client_secret, patience)


class Deputy:
    """See ``connect_deputy``."""

    def __init__(self, path: str, tcp: Optional[str], client_id: Optional[str], client_secret: Optional[str], patience: float) -> None:
        self._path = path
        self._tcp = tcp
        self._client = {name: value for name, value in (("client_id", client_id), ("client_secret", client_secret)) if value is not None}
        self._patience = patience

    def token(self, downstream: str, on_behalf_of: OnBehalfOf, scopes: Optional[Sequence[str]] = None, tool: Optional[str] = None,
              rejected: Optional[Token] = None) -> Token:
        """A credential of the downstream, for the user whose token is given (RFC 8693), ``SESSION`` or ``SERVER``.

        ``rejected``: the credential that was issued for the same question before and that the service refused (401); Deputy drops
        it and gives another, if there is one. Raises DeputyError with Deputy's reason; ``interaction_required`` has ``connect_url``.
        """
        form = {"audience": downstream, **self._client}
        if scopes is not None:
            form["scope"] = " ".join(scopes)
        if tool is not None:
            form["tool"] = tool
        if rejected is not None:
            form["rejected_token"] = rejected.reveal()
        if on_behalf_of is SERVER:
            form["grant_type"] = "client_credentials"
        else:
            session = on_behalf_of is SESSION
            form.update(grant_type=_TOKEN_EXCHANGE, subject_token="current" if session else str(on_behalf_of),
                        subject_token_type=_LOGIN_SESSION if session else _ACCESS_TOKEN)
        asked_at = time.time()
        status, headers, body = self._post("/oauth2/token", form)
        if status != 200:
            raise _error(status, headers, body)
        try:
            return Token(_text(body["access_token"]), _text(body["token_type"]), _text(body.get("scope", "")).split(), asked_at + float(body["expires_in"]), headers.get("warning"),
                         {name: value for name, value in body.items() if name not in _STANDARD and isinstance(value, str)})
        except (KeyError, TypeError, ValueError):
            raise _unexpected(status) from None

    def fetch(self, downstream: str, on_behalf_of: OnBehalfOf, scopes: Optional[Sequence[str]] = None, tool: Optional[str] = None) -> Callable[..., Response]:
        """A function ``(url, method="GET", data=None, headers=None, timeout=30)`` that carries the credential.

        It is asked for anew with each request. After a 401 the credential is reported to Deputy, and the request is sent again if
        there is another one; a 401 for that one is reported too, and Deputy says whether the user has to connect again. A redirect to another origin is not followed: its response is what comes back.
        """

        def send(token: Token, url: str, method: str, data: Optional[bytes], headers: Mapping[str, str], timeout: float) -> Response:
            opener = urllib.request.build_opener(_NoRedirects)
            origin = _origin(url)
            for left in range(_MOST_REDIRECTS, -1, -1):
                request = urllib.request.Request(url, data=data, method=method, headers={**headers, "Authorization": f"Bearer {token.reveal()}"})
                try:
                    with opener.open(request, timeout=timeout) as answer:
                        response = Response(answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read())
                except urllib.error.HTTPError as answer:
                    with answer:
                        response = Response(answer.code, {name.lower(): value for name, value in answer.headers.items()}, answer.read())
                location = response.headers.get("location")
                if response.status not in _REDIRECTS or location is None or left == 0:
                    return response
                target = urllib.parse.urljoin(url, location)
                if _origin(target) != origin:
                    return response
                if response.status == 303 or (response.status in (301, 302) and method == "POST"):
                    method, data = "GET", None
                url = target
            raise AssertionError("unreachable")

        def fetch(url: str, method: str = "GET", data: Optional[bytes] = None, headers: Optional[Mapping[str, str]] = None, timeout: float = 30) -> Response:
            _assert_safe(url)
            token = self.token(downstream, on_behalf_of, scopes, tool)
            response = send(token, url, method, data, headers or {}, timeout)
            if response.status != 401:
                return response
            again = self.token(downstream, on_behalf_of, scopes, tool, token)
            if again.reveal() == token.reveal():
                return response
            response = send(again, url, method, data, headers or {}, timeout)
            if response.status == 401:
                self.token(downstream, on_behalf_of, scopes, tool, again)
            return response

        return fetch

    def _post(self, path: str, form: Mapping[str, str]) -> "tuple[int, Mapping[str, str], Mapping[str, object]]":
        until = time.monotonic() + self._patience
        pause = _FIRST_PAUSE
        while True:
            left = until - time.monotonic()
            try:
                status, headers, body = self._once(path, form, max(1.0, left))
                if not (status == 503 and body.get("reason") == "draining") or left <= pause:
                    return status, headers, body
            except (OSError, http.client.HTTPException) as error:
                # The daemon may be restarting, and a request for a token may be sent again. A socket that may not be opened stays so.
                if left <= pause or isinstance(error, PermissionError):
                    where = self._tcp or self._path
                    todo = ("This user may not open the socket: ask for listen.socket_mode and listen.socket_group in deputy.yaml." if isinstance(error, PermissionError)
                            else "Look whether the daemon runs (deputy status), and set DEPUTY_SOCKET to the path of its socket.")
                    raise DeputyError("unreachable", "temporarily_unavailable", f"Deputy could not be reached at {where} ({type(error).__name__}).", todo, 1.0) from error
            time.sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * 2)

    def _once(self, path: str, form: Mapping[str, str], timeout: float) -> "tuple[int, Mapping[str, str], Mapping[str, object]]":
        connection = _UnixConnection(self._path, timeout) if self._tcp is None else http.client.HTTPConnection(self._tcp, timeout=timeout)
        try:
            connection.request("POST", path, urllib.parse.urlencode(form), {"Content-Type": "application/x-www-form-urlencoded"})
            response = connection.getresponse()
            text = response.read(_LARGEST + 1)
            if len(text) > _LARGEST:
                raise _unexpected(response.status)
            try:
                body = json.loads(text)
            except ValueError:
                raise _unexpected(response.status) from None
            if not isinstance(body, dict):
                raise _unexpected(response.status)
            return response.status, {name.lower(): value for name, value in response.getheaders()}, body
        finally:
            connection.close()


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _unexpected(status: int) -> DeputyError:
    return DeputyError("unexpected_answer", "server_error", f"What answered ({status}) is not Deputy.", "Check the path of the socket, or the port.")


def _error(status: int, headers: Mapping[str, str], body: Mapping[str, object]) -> DeputyError:
    def text(name: str) -> Optional[str]:
        value = body.get(name)
        return value if isinstance(value, str) else None

    error = text("error")
    if error is None:
        return _unexpected(status)
    wait = headers.get("retry-after", "")
    return DeputyError(text("reason") or error, error, text("error_description") or error, text("next") or "", float(wait) if wait.isdigit() else None,
                       text("correlation_id") or headers.get("x-correlation-id"), text("connect_url"), text("claims"))


def _origin(url: str) -> "tuple[str, Optional[str], Optional[int]]":
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def _assert_safe(url: str) -> None:
    """A credential goes over https, or stays on this machine."""
    scheme, host, _ = _origin(url)
    numbers = (host or "").split(".")
    loopback = host in ("localhost", "::1") or (len(numbers) == 4 and numbers[0] == "127" and all(number.isdigit() for number in numbers))
    if scheme == "https" or (scheme == "http" and loopback):
        return
    raise DeputyError("insecure_url", "invalid_request", f"A credential is not sent to {scheme}://{host}.", "Use the https URL of the service.")
