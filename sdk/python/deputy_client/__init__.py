"""How an MCP server on this machine asks Deputy for credentials. Needs nothing but Python's standard library.

    deputy = connect_deputy()
    response = deputy.fetch("notes-api", on_behalf_of=user_token)("https://notes.example/api/notes")
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import http.client
import json
import os
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any, Awaitable, Callable, Mapping, Optional, Protocol, Sequence, Tuple, Union

__all__ = ["connect_deputy", "AsyncFetch", "Deputy", "DeputyError", "Fetch", "Response", "Token", "SERVER", "SESSION"]


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
_THREADS = 64


class DeputyError(Exception):
    """What Deputy, or the way to it, has said no with.

    ``reason`` is Deputy's own code (docs/local-api.md); ``unreachable`` when Deputy was away, ``timeout`` when its answer did not come,
    ``unexpected_answer`` when it was none of Deputy's. As text it has the reason, the next step and the id for ``deputy explain``. ``next`` says what to do, ``connect_url`` where the user connects an account, ``claims`` the service's
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

    def __str__(self) -> str:
        known = "" if self.correlation_id is None else f"; deputy explain {self.correlation_id}"
        return f"{self.args[0]} [{self.reason}{known}]{' ' if self.next else ''}{self.next}"

    def __reduce__(self) -> "tuple[Any, ...]":  # Pickle would call the class with the args alone, which hangs process pools.
        return (type(self), (self.reason, self.error, self.args[0], self.next, self.retry_after, self.correlation_id, self.connect_url, self.claims))


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
    """By their names in small letters; of several of one name the last. All of them are in ``raw_headers``."""
    body: bytes
    raw_headers: Sequence[Tuple[str, str]] = ()


class Fetch(Protocol):
    """A function that sends a request with a credential."""

    def __call__(self, url: str, method: str = "GET", data: Optional[bytes] = None, headers: Optional[Mapping[str, str]] = None,
                 timeout: float = 30) -> Response: ...


class AsyncFetch(Protocol):
    """The same for code on an event loop."""

    def __call__(self, url: str, method: str = "GET", data: Optional[bytes] = None, headers: Optional[Mapping[str, str]] = None,
                 timeout: float = 30) -> Awaitable[Response]: ...


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
                   client_secret: Optional[str] = None, patience: float = 5.0, timeout: float = 60.0) -> "Deputy":
    """The way to the Deputy on this machine. Nothing is sent until a token is asked for, and nothing is kept.

    ``socket_path``: default DEPUTY_SOCKET, else ``run/deputy.sock`` in DEPUTY_HOME, else in /etc/deputy. ``tcp``: ``host:port`` on
    loopback instead; then the server has to authenticate. ``patience``: how long Deputy may be away, in seconds; ``timeout``: how long
    it may take for an answer, which a provider may keep it waiting for.
    """
    if tcp is not None and not _is_loopback(_host_of(tcp)):
        raise ValueError(f"tcp is host:port on this machine, such as 127.0.0.1:7880, not {tcp}: secrets and tokens go over it in clear")
    path = socket_path or os.environ.get("DEPUTY_SOCKET") or os.path.join(os.environ.get("DEPUTY_HOME", "/etc/deputy"), "run/deputy.sock")
    return Deputy(path, tcp, client_id, client_secret, patience, timeout)


class Deputy:
    """See ``connect_deputy``."""

    def __init__(self, path: str, tcp: Optional[str], client_id: Optional[str], client_secret: Optional[str], patience: float,
                 timeout: float = 60.0) -> None:
        self._path = path
        self._tcp = tcp
        self._client = {name: value for name, value in (("client_id", client_id), ("client_secret", client_secret)) if value is not None}
        self._patience = patience
        self._timeout = timeout
        self._pool: Optional[concurrent.futures.ThreadPoolExecutor] = None

    def token(self, downstream: str, on_behalf_of: OnBehalfOf, scopes: Optional[Sequence[str]] = None, tool: Optional[str] = None,
              rejected: Optional[Token] = None) -> Token:
        """A credential of the downstream, for the user whose token is given (RFC 8693), ``SESSION`` or ``SERVER``.

        ``rejected``: the credential that was issued for the same question before and that the service refused (401); Deputy drops
        it and gives another, if there is one. Raises DeputyError with Deputy's reason; ``interaction_required`` has ``connect_url``.
        """
        form = {"audience": downstream, **self._client}
        if scopes is not None:
            form["scope"] = _scope(scopes)
        if tool is not None:
            form["tool"] = tool
        if rejected is not None:
            form["rejected_token"] = rejected.reveal()
        if on_behalf_of is SERVER:
            form["grant_type"] = "client_credentials"
        else:
            session = on_behalf_of is SESSION
            form.update(grant_type=_TOKEN_EXCHANGE, subject_token="current" if session else _subject(on_behalf_of),
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

    async def token_async(self, downstream: str, on_behalf_of: OnBehalfOf, scopes: Optional[Sequence[str]] = None, tool: Optional[str] = None,
                          rejected: Optional[Token] = None) -> Token:
        """``token`` for code on an event loop, which goes on meanwhile."""
        return await self._aside(self.token, downstream, on_behalf_of, scopes, tool, rejected)

    def fetch_async(self, downstream: str, on_behalf_of: OnBehalfOf, scopes: Optional[Sequence[str]] = None, tool: Optional[str] = None) -> AsyncFetch:
        """``fetch`` for code on an event loop: what it returns is awaited, and the loop goes on meanwhile."""
        fetch = self.fetch(downstream, on_behalf_of, scopes, tool)

        async def fetch_async(url: str, method: str = "GET", data: Optional[bytes] = None, headers: Optional[Mapping[str, str]] = None, timeout: float = 30) -> Response:
            return await self._aside(fetch, url, method, data, headers, timeout)

        return fetch_async

    async def _aside(self, work: Callable[..., Any], *args: object) -> Any:
        if self._pool is None:
            # Of its own: the loop's has a few threads, which other work of the server needs.
            self._pool = concurrent.futures.ThreadPoolExecutor(_THREADS, "deputy")
        return await asyncio.get_running_loop().run_in_executor(self._pool, functools.partial(work, *args))

    def fetch(self, downstream: str, on_behalf_of: OnBehalfOf, scopes: Optional[Sequence[str]] = None, tool: Optional[str] = None) -> Fetch:
        """A function ``(url, method="GET", data=None, headers=None, timeout=30)`` that carries the credential.

        It is asked for anew with each request. After a 401 the credential is reported to Deputy, and the request is sent again if
        there is another one; a 401 for that one is reported too, and Deputy says whether the user has to connect again. A redirect to another origin is not followed: its response is what comes back.
        """

        def send(token: Token, url: str, method: str, data: Optional[bytes], headers: Mapping[str, str], timeout: float) -> Response:
            origin = _origin(url)
            # A proxy of the environment would get the credential in clear. Over https it gets a tunnel alone.
            opener = urllib.request.build_opener(_NoRedirects, *([urllib.request.ProxyHandler({})] if origin[0] == "http" else []))
            for left in range(_MOST_REDIRECTS, -1, -1):
                request = urllib.request.Request(url, data=data, method=method, headers={**headers, "Authorization": f"Bearer {token.reveal()}"})
                try:
                    with opener.open(request, timeout=timeout) as answer:
                        response = _response(answer.status, answer)
                except urllib.error.HTTPError as answer:
                    with answer:
                        response = _response(answer.code, answer)
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
            if data is not None and not isinstance(data, (bytes, bytearray, memoryview)):
                raise TypeError("data is bytes: it is sent again after a redirect and after a 401")
            token = self.token(downstream, on_behalf_of, scopes, tool)
            _assert_bearer(downstream, token)
            response = send(token, url, method, data, headers or {}, timeout)
            if response.status != 401:
                return response
            again = self.token(downstream, on_behalf_of, scopes, tool, token)
            if again.reveal() == token.reveal():
                return response
            _assert_bearer(downstream, again)
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

    def _once(self, path: str, form: Mapping[str, str], patience: float) -> "tuple[int, Mapping[str, str], Mapping[str, object]]":
        connection = _UnixConnection(self._path, patience) if self._tcp is None else http.client.HTTPConnection(self._tcp, timeout=patience)
        try:
            connection.connect()
            connection.sock.settimeout(self._timeout)
            try:
                connection.request("POST", path, urllib.parse.urlencode(form), {"Content-Type": "application/x-www-form-urlencoded"})
                response = connection.getresponse()
                text = response.read(_LARGEST + 1)
            except socket.timeout as error:
                # Not sent again: Deputy may be at it, and a second question would cost a second login.
                raise DeputyError("timeout", "temporarily_unavailable", f"Deputy has not answered within {self._timeout:g} seconds.",
                                  "A provider or a vault may be slow (deputy status); set timeout of connect_deputy.", 1.0) from error
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


def _scope(scopes: Sequence[str]) -> str:
    if isinstance(scopes, (str, bytes)) or not all(isinstance(scope, str) for scope in scopes):
        raise TypeError('scopes is a list of texts, such as ["notes:read"]')
    if len(scopes) == 0:
        raise ValueError("scopes names none: leave it out for all that the server, or the tool, is registered for")
    return " ".join(scopes)


def _subject(on_behalf_of: object) -> str:
    if isinstance(on_behalf_of, str) and on_behalf_of != "":
        return on_behalf_of
    raise TypeError(f"on_behalf_of is the user's token as the client sent it (str), SESSION or SERVER, not {type(on_behalf_of).__name__}")


def _response(status: int, answer: Any) -> Response:
    raw = answer.headers.items()
    return Response(status, {name.lower(): value for name, value in raw}, answer.read(), tuple(raw))


def _assert_bearer(downstream: str, token: Token) -> None:
    if token.type.lower() != "bearer":
        raise DeputyError("not_bearer", "invalid_request", f"The credential of {downstream} is no bearer token (token_type {token.type}), and is not sent as one.",
                          "Use deputy.token and send it as the service wants it, or let the proxy put it into the request (docs/proxy.md).")


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
    if scheme == "https" or (scheme == "http" and _is_loopback(host or "")):
        return
    raise DeputyError("insecure_url", "invalid_request", f"A credential is not sent to {scheme}://{host}.", "Use the https URL of the service.")


def _host_of(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")


def _is_loopback(host: str) -> bool:
    numbers = host.split(".")
    return host in ("localhost", "::1") or (len(numbers) == 4 and numbers[0] == "127" and all(number.isdigit() for number in numbers))
