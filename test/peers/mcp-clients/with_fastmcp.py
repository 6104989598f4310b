"""fastmcp, with nothing but `auth="oauth"`: `with_fastmcp.py URL TOOL...`, one line of JSON a step."""

import asyncio
import json
import os
import sys

from fastmcp import Client
from fastmcp.client.auth import OAuth


def say(step, **facts):
    print(json.dumps({"step": step, **facts}), flush=True)


async def main(url, tools):
    client_id = os.environ.get("DEPUTY_TEST_CLIENT")
    async with Client(url, auth="oauth" if client_id is None else OAuth(client_id=client_id)) as client:
        say("tools", tools=[tool.name for tool in await client.list_tools()])
        for tool in tools:
            try:
                result = await client.call_tool(tool, {}, raise_on_error=False)
                say(tool, text="\n".join(part.text for part in result.content), isError=result.is_error)
            except Exception as error:
                say(tool, text=str(error), isError=True)


asyncio.run(main(sys.argv[1], sys.argv[2:]))
