"""`python3 -m local.mounter` mounts and stays; with readiness, liveness or unmount it answers and ends."""

import asyncio
import logging
import os
import signal
import sys
import urllib.error
import urllib.request

from local.mounter import mounts
from local.mounter.mounts import Client
from local.mounter.proxies import Proxies, Relay, parse

STOP_SECONDS = 5.0
ASK_SECONDS = 3.0

log = logging.getLogger("cvmfs")


async def stay(client: Client) -> None:
    """Mounts every repository, and takes the mounts off on SIGTERM or SIGINT.

    As in CERN's image nobody here mounts anew what has ended: the liveness probe does, by another container.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server, proxy = await Relay(Proxies(parse(client.proxies))).listen()
    async with server:
        mounted = [await _mount(client, name, proxy) for name in client.repositories]
        await stop.wait()
        for name in client.repositories:
            mounts.unmount(name)
        await asyncio.gather(*map(_end, mounted))


async def _mount(client: Client, repository: str, proxy: str) -> asyncio.subprocess.Process:
    """Starts the rclone of one repository."""
    (mounts.ROOT / repository).mkdir(parents=True, exist_ok=True)
    log.info("mounting %s from %s", repository, client.url(repository))
    return await asyncio.create_subprocess_exec(
        *mounts.command(client, repository), env=_environment(proxy), stdin=asyncio.subprocess.DEVNULL
    )


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()


def _environment(proxy: str) -> dict[str, str]:
    """rclone's: the relay is its only way out."""
    inherited = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    return {**inherited, "HTTP_PROXY": proxy, "http_proxy": proxy}


def readiness(client: Client) -> list[str]:
    """What keeps the site's jobs from reading their software, a sentence for each repository."""
    return [
        f"{trouble}; {_server_says(client, name)}"
        for name in client.repositories
        if (trouble := mounts.look(name)) is not None
    ]


def _server_says(client: Client, repository: str) -> str:
    """What the repository's server answers through the first proxy that does: the mount itself says `I/O error`."""
    url = client.url(repository)
    trouble = ""
    for host, port in (address for group in parse(client.proxies) for address in group):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": f"http://{host}:{port}"}))
        try:
            with opener.open(url, timeout=ASK_SECONDS) as answer:
                return f"{url} answers {answer.status}"
        except urllib.error.HTTPError as error:
            return f"{url} answers {error.code} {error.reason}"
        except OSError as error:
            trouble = f"no proxy answers, the last one being {host}:{port} ({error})"
    return trouble


def main(arguments: list[str]) -> int:
    """The exit code: 0 well, 1 not, 2 asked wrongly."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        client = Client.read(os.environ)
        parse(client.proxies)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    match arguments:
        case []:
            asyncio.run(stay(client))
            return 0
        case ["unmount"]:
            for name in client.repositories:
                mounts.unmount(name)
            return 0
        case ["readiness"]:
            troubles = readiness(client)
        case ["liveness"]:
            troubles = [trouble for name in client.repositories if (trouble := mounts.dead(name)) is not None]
        case _:
            print("one of: readiness, liveness, unmount, or nothing", file=sys.stderr)
            return 2
    print("\n".join(troubles) or "ok")
    return 1 if troubles else 0


sys.exit(main(sys.argv[1:]))
