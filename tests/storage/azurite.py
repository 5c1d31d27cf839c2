"""Azure Blob as Azurite serves it: Microsoft's own stand-in, by TLS, with accounts, SAS, MD5 checks and all of blocks.

What it does not have: Entra ID. It looks at a bearer token's times, audience and issuer, and at no signature.
"""

import base64
import hashlib
import hmac
import os
import secrets
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

import httpx

from local import commands, lock, packages
from local.authority import SERVER, Authority, Leaf, elliptic, pem, write
from local.paths import cache_dir
from local.progress import Progress
from local.refusal import Refusal

LOCK = Path(__file__).with_name("package-lock.json")
OLDEST_NODE = 20  # that it was seen to run on; its package asks for 22
INSTALL_SECONDS = 900.0
START_SECONDS = 60
ACCOUNT = "atlas"
CONTAINER = "out"
# Of the service; SAS are signed for it.
VERSION = "2022-11-02"
DAY = timedelta(days=1)


def ensure(log: Path) -> Path:
    """Its program, installed where it is missing from what the lock file says and nothing else."""
    progress = Progress(total=0)
    packages.ensure({"/usr/bin/npm": "npm", "/usr/bin/node": "nodejs"}, purpose="Azurite", log=log, progress=progress)
    version = commands.output(["node", "--version"], what="asking node for its version", seconds=20).strip()
    if int(version.removeprefix("v").partition(".")[0]) < OLDEST_NODE:
        raise Refusal(
            f"Azurite runs on Node {OLDEST_NODE} or later, and this machine's is {version}: install a newer one"
        )
    home = cache_dir() / "azurite"
    target = home / hashlib.sha256(LOCK.read_bytes()).hexdigest()[:16]
    with lock.held(home / "lock", progress, "Azurite: another process is installing it"):
        if not target.is_dir():
            half_made = home / "half-made"
            shutil.rmtree(half_made, ignore_errors=True)
            half_made.mkdir()
            for file in (LOCK, LOCK.with_name("package.json")):
                shutil.copy(file, half_made)
            # No package's scripts: what is run is what was hashed.
            commands.run(
                ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
                what="installing Azurite",
                log=log,
                seconds=INSTALL_SECONDS,
                directory=half_made,
            )
            half_made.rename(target)
    return target / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"


@dataclass(frozen=True, kw_only=True)
class Blob:
    """What is there under a name."""

    content: bytes
    md5: str | None


class Azurite:
    """One server with one account and one container; what it holds outlives it, as a storage's does.

    Attributes:
        url: the container's.
        authority, certificate, key: files: who vouches for the server, and what it shows.
    """

    def __init__(self, program: Path, directory: Path, *, address: str = "127.0.0.1") -> None:
        self._program, self._directory = program, directory
        self._process: subprocess.Popen[bytes] | None = None
        self._secret = base64.b64encode(secrets.token_bytes(64)).decode()
        self._address = address
        with socket.socket() as free:
            free.bind((address, 0))
            self.port = int(free.getsockname()[1])
        self.endpoint = f"https://{address}:{self.port}/{ACCOUNT}"
        self.url = f"{self.endpoint}/{CONTAINER}"
        self.authority = directory / "ca.pem"
        now = datetime.now(UTC)
        authority = Authority.ensure("storage of a test", directory / "ca.key", self.authority, now)
        leaf = Leaf(
            name="storage",
            user="storage",
            usages=(SERVER,),
            addresses=(IPv4Address(address),),
            life=DAY,
            renew_before=DAY / 2,
        )
        key = elliptic()
        self.key, self.certificate = directory / "key.pem", directory / "certificate.pem"
        write(self.key, pem(key))
        write(self.certificate, pem(authority.issue(leaf, key, now)))
        self.start()
        self._ask("PUT", "", {"restype": "container"}).raise_for_status()

    def start(self) -> None:
        """Starts it, or starts it again."""
        words = [
            "node", self._program, "--blobHost", self._address, "--blobPort", str(self.port), "--silent",
            "--location", self._directory / "data", "--cert", self.certificate,
            "--key", self.key, "--oauth", "basic", "--disableTelemetry",
            # Clients ask for newer versions of the service than this one knows, and use nothing of them.
            "--skipApiVersionCheck",
        ]  # fmt: skip
        environment = {**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{self._secret}"}
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen([str(word) for word in words], stdout=log, stderr=log, env=environment)
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                self._ask("GET", "", {"comp": "list"})
            except httpx.TransportError:
                if self._process.poll() is not None or time.monotonic() > until:
                    raise AssertionError((self._directory / "log").read_text()[-2000:]) from None
                time.sleep(0.1)
            else:
                return

    def stop(self) -> None:
        """Cuts off whoever is connected; killed, it would forget the last seconds, as a storage does not."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(60)

    def sas(self, permissions: str = "rcw", *, hours: float = 1, container: str = CONTAINER) -> str:
        """A signature for all blobs of the container: to read, create and write them, for that long from now."""
        start, expiry = (f"{datetime.now(UTC) + timedelta(hours=each):%Y-%m-%dT%H:%M:%SZ}" for each in (-24, hours))
        resource = f"/blob/{ACCOUNT}/{container}"
        signed = "\n".join([permissions, start, expiry, resource, "", "", "", VERSION, "c", *[""] * 7])
        signature = base64.b64encode(
            hmac.new(base64.b64decode(self._secret), signed.encode(), hashlib.sha256).digest()
        ).decode()
        return urlencode({"sv": VERSION, "st": start, "se": expiry, "sr": "c", "sp": permissions, "sig": signature})

    def blob(self, path: str) -> Blob:
        """What is there, as any other client reads it."""
        answer = self._ask("GET", f"/{quote(path)}").raise_for_status()
        md5 = answer.headers.get("content-md5")
        return Blob(content=answer.content, md5=base64.b64decode(md5).hex() if md5 else None)

    def changed(self, path: str) -> str:
        """What differs when it was written again."""
        return str(self._ask("HEAD", f"/{quote(path)}").raise_for_status().headers["etag"])

    def put(self, path: str, content: bytes) -> None:
        """Puts something there, as any other client would."""
        self._ask("PUT", f"/{quote(path)}", content=content).raise_for_status()

    def put_in_blocks(self, path: str, content: bytes) -> None:
        """The same as who does not tell an MD5 does it: the storage then has none."""
        block = base64.b64encode(b"0").decode()
        self._ask("PUT", f"/{quote(path)}", {"comp": "block", "blockid": block}, content).raise_for_status()
        whole = f"<BlockList><Latest>{block}</Latest></BlockList>".encode()
        self._ask("PUT", f"/{quote(path)}", {"comp": "blocklist"}, whole).raise_for_status()

    def names(self, *, uncommitted: bool = False) -> list[str]:
        """Of all blobs; of those too that nobody sees, for their blocks are not all there."""
        words = {"restype": "container", "comp": "list", **({"include": "uncommittedblobs"} if uncommitted else {})}
        answer = self._ask("GET", "", words).raise_for_status()
        return [str(name.text) for name in ElementTree.fromstring(answer.text).iter("Name")]  # noqa: S314  our own server

    def _ask(
        self, method: str, path: str, words: Mapping[str, str] = MappingProxyType({}), content: bytes | None = None
    ) -> httpx.Response:
        """One request as the account's owner."""
        now = f"{datetime.now(UTC):%a, %d %b %Y %H:%M:%S GMT}"
        headers = {"x-ms-date": now, "x-ms-version": VERSION}
        if method == "PUT" and not words:
            headers["x-ms-blob-type"] = "BlockBlob"
        length = str(len(content)) if content else ""
        named = "\n".join(f"{name}:{text}" for name, text in sorted(headers.items()))
        asked = "".join(f"\n{name}:{text}" for name, text in sorted(words.items()))
        # The account's name is in the path once for the address and once for the resource, as Azurite has it.
        resource = f"/{ACCOUNT}/{ACCOUNT}/{CONTAINER}{path}{asked}"
        kind = "application/octet-stream" if content else ""
        signed = "\n".join([method, "", "", length, "", kind, "", "", "", "", "", "", named, resource])
        signature = hmac.new(base64.b64decode(self._secret), signed.encode(), hashlib.sha256).digest()
        headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(signature).decode()}"
        if content:
            headers["Content-Type"] = kind
        context = ssl.create_default_context(cafile=self.authority)
        with httpx.Client(verify=context, timeout=60, trust_env=False) as client:
            return client.request(method, f"{self.url}{path}", params=dict(words), headers=headers, content=content)
