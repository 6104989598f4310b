"""The official Python SDK (1.x and 2.x), used as its documentation says: `with_mcp.py URL TOOL...`, one line of JSON a step."""

import asyncio
import json
import os
import sys
import threading
import webbrowser
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlparse

from mcp import ClientSession
from mcp.client.auth import OAuthClientProvider, TokenStorage
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata

try:
    import httpx2
    from mcp.client.streamable_http import streamable_http_client
    from mcp.shared.auth import AuthorizationCodeResult
except ImportError:
    httpx2 = None
    from mcp.client.streamable_http import streamablehttp_client


def say(step, **facts):
    print(json.dumps({"step": step, **facts}), flush=True)


class InMemory(TokenStorage):
    def __init__(self, redirect_uri):
        self.tokens = self.client = None
        client_id = os.environ.get("DEPUTY_TEST_CLIENT")
        if client_id is not None:
            self.client = OAuthClientInformationFull(client_id=client_id, redirect_uris=[redirect_uri], token_endpoint_auth_method="none")

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client_info):
        self.client = client_info


class Callback:
    """The loopback address to which the browser comes back."""

    def __init__(self):
        callback = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                # A browser also looks for an icon, at a moment of its own.
                if urlparse(self.path).path != "/callback":
                    self.send_error(404)
                    return
                callback.answer = {name: each[0] for name, each in parse_qs(urlparse(self.path).query).items()}
                self.send_response(200)
                self.end_headers()
                callback.came.set()

            def log_message(self, *_):
                pass

        self.answer = {}
        self.came = threading.Event()
        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/callback"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    async def wait(self):
        await asyncio.to_thread(self.came.wait)
        self.came.clear()
        code, state, iss = (self.answer.get(name) for name in ("code", "state", "iss"))
        if code is None:
            raise RuntimeError(str(self.answer))
        return (code, state) if httpx2 is None else AuthorizationCodeResult(code=code, state=state, iss=iss)


async def use(session, tools):
    await session.initialize()
    say("tools", tools=[tool.name for tool in (await session.list_tools()).tools])
    for tool in tools:
        try:
            result = await session.call_tool(tool, {})
            is_error = getattr(result, "is_error", None) if httpx2 else result.isError
            say(tool, text="\n".join(part.text for part in result.content), isError=is_error)
        except Exception as error:
            say(tool, text=str(error), isError=True)


async def main(url, tools):
    callback = Callback()

    async def open_browser(address):
        webbrowser.open(address)

    auth = OAuthClientProvider(
        server_url=url,
        client_metadata=OAuthClientMetadata(client_name="Test", redirect_uris=[callback.url], token_endpoint_auth_method="none"),
        storage=InMemory(callback.url),
        redirect_handler=open_browser,
        callback_handler=callback.wait,
    )
    if httpx2 is None:
        async with streamablehttp_client(url, auth=auth) as (read, write, _), ClientSession(read, write) as session:
            await use(session, tools)
    else:
        async with (
            httpx2.AsyncClient(auth=auth, timeout=30) as http,
            streamable_http_client(url, http_client=http) as (read, write),
            ClientSession(read, write) as session,
        ):
            await use(session, tools)


asyncio.run(main(sys.argv[1], sys.argv[2:]))
