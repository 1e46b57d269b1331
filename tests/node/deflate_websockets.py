"""Exchanges compressed messages with a server, using Python's websockets. Started by deflate.test.mjs with its address."""

import asyncio
import json
import os
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

URL = sys.argv[1]
OFFERS = [
    {},
    {"server_no_context_takeover": True, "client_no_context_takeover": True},
    {"server_max_window_bits": 9},
    {"server_max_window_bits": 12, "client_max_window_bits": True},
    {"client_max_window_bits": 10, "client_no_context_takeover": True},
]
TICKS = json.dumps([{"symbol": f"S{n % 50}", "bid": n, "ask": n + 1} for n in range(20_000)])
PAYLOADS = ["", "short", TICKS[:4096], TICKS, "p\u0159\u00edli\u0161 " * 900, b"", bytes(1 << 20), os.urandom(40_000)]


def deflate(connection):
    return [extension for extension in connection.protocol.extensions if extension.name == "permessage-deflate"]


async def exchange(number, offer):
    factory = ClientPerMessageDeflateFactory(**offer)
    url = f"{URL}/topics/python.t{number}"
    async with connect(url, extensions=[factory], compression=None, max_size=None) as member:
        async with connect(url, compression=None, max_size=None) as plain:
            (agreed,) = deflate(member)
            assert agreed.remote_no_context_takeover and agreed.local_no_context_takeover, agreed
            assert agreed.remote_max_window_bits == offer.get("server_max_window_bits", 15), agreed
            assert not deflate(plain)
            for sender in (member, plain):
                for payload in PAYLOADS:
                    await sender.send(payload)
                    for receiver in (member, plain):
                        assert await receiver.recv() == payload, f"{offer}: {len(payload)} bytes"


async def fragments():
    """Compressed messages in fragments, with pings between them."""
    async with connect(f"{URL}/topics/python.fragments", max_size=None) as member:
        assert deflate(member)

        async def parts():
            for at in range(0, len(TICKS), 10_000):
                yield TICKS[at:at + 10_000]
                await member.ping()

        await member.send(parts())
        assert await member.recv() == TICKS


async def bomb():
    async with connect(f"{URL}/topics/python.bomb", max_size=None) as member:
        try:
            await member.send(bytes(64 << 20))
            await member.recv()
        except ConnectionClosed as closed:
            assert closed.rcvd.code == 1009, closed
        else:
            raise AssertionError("a bomb was taken")


async def main():
    for number, offer in enumerate(OFFERS):
        await exchange(number, offer)
    await fragments()
    await bomb()
    print(f"{len(OFFERS) + 2} connections, all as they should be")


asyncio.run(asyncio.wait_for(main(), 50))
