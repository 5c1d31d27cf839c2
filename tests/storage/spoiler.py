"""A way to the storage on which one bit falls over, once."""

import asyncio
import io
import ssl
import threading
from types import TracebackType

from aiohttp import ClientSession, web
from aiohttp.test_utils import unused_port
from yarl import URL

from tests.storage.azurite import Azurite

MOST_BYTES = 64 * 2**20
OF_THE_WAY = {"host", "expect", "transfer-encoding", "content-length"}


class Spoiler:
    """Passes on what it gets, but for the first body, and remembers what the storage said to that."""

    def __init__(self, server: Azurite) -> None:
        self.port = unused_port()
        self.said: str | None = None
        self._server = server
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> "Spoiler":
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    async def _start(self) -> None:
        application = web.Application(client_max_size=MOST_BYTES)
        application.router.add_route("*", "/{path:.*}", self._pass_on)
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        shown = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        shown.load_cert_chain(self._server.certificate, self._server.key)
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=shown).start()

    async def _pass_on(self, request: web.Request) -> web.Response:
        body = bytearray(await request.read())
        spoil = bool(body) and self.said is None
        if spoil:
            self.said = "nothing"
            body[len(body) // 2] ^= 1
        trusted = ssl.create_default_context(cafile=self._server.authority)
        url = URL(f"https://127.0.0.1:{self._server.port}{request.raw_path}", encoded=True)
        headers = {name: text for name, text in request.headers.items() if name.lower() not in OF_THE_WAY}
        async with (
            ClientSession() as session,
            session.request(request.method, url, data=io.BytesIO(body), headers=headers, ssl=trusted) as answer,
        ):
            if spoil:
                self.said = answer.headers.get("x-ms-error-code", str(answer.status))
            kept = {name: text for name, text in answer.headers.items() if name.lower() not in OF_THE_WAY}
            if request.method == "HEAD" and "Content-Length" in answer.headers:
                kept["Content-Length"] = answer.headers["Content-Length"]
            return web.Response(status=answer.status, headers=kept, body=await answer.read())
