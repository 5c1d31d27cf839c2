"""Images on the node: which are there, which come in; and two of one static program each, made here."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local import commands
from local.node.layout import Layout
from local.refusal import Refusal

IMPORT_SECONDS = 300.0
LIST_SECONDS = 30.0
PAUSE = Path("/usr/bin/catatonit")


@dataclass(frozen=True, kw_only=True)
class StaticImage:
    """An image that holds nothing but one static program; its tag is the hash of that program."""

    name: str
    program: Path
    arguments: tuple[str, ...] = ()

    @property
    def reference(self) -> str:
        """How pods call it."""
        with self.program.open("rb") as file:
            return f"localhost/atlas-sites/{self.name}:{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"

    def write(self, place: Path) -> None:
        """Writes it as a Docker archive, the same bytes each time."""
        program = self.program.read_bytes()
        layer = _tar({self.program.name: program}, mode=0o755)
        config = json.dumps(
            {
                "architecture": _architecture(program),
                "os": "linux",
                "config": {"Entrypoint": [f"/{self.program.name}", *self.arguments]},
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
            }
        ).encode()
        config_name = f"{hashlib.sha256(config).hexdigest()}.json"
        manifest = json.dumps([{"Config": config_name, "RepoTags": [self.reference], "Layers": ["layer.tar"]}]).encode()
        place.write_bytes(_tar({"layer.tar": layer, config_name: config, "manifest.json": manifest}, mode=0o644))


def pause() -> StaticImage:
    """What holds a pod's namespaces open. catatonit is what Podman's pods use, and it is linked statically."""
    return StaticImage(name="pause", program=PAUSE, arguments=("-P",))


def coredns(binaries: Path) -> StaticImage:
    """The cluster's DNS server."""
    return StaticImage(name="coredns", program=(binaries / "coredns").resolve())


def contents(archive: Path) -> dict[str, str]:
    """Reference to image id (the digest of its configuration) of what a Docker or OCI archive holds.

    Raises:
        Refusal: it is neither.
    """
    try:
        with tarfile.open(archive) as tar:
            names = set(tar.getnames())
            if "manifest.json" in names:
                return {
                    reference: f"sha256:{Path(image['Config']).name.removesuffix('.json')}"
                    for image in _read(tar, "manifest.json")
                    for reference in image["RepoTags"] or ()
                }
            return {
                image["annotations"]["org.opencontainers.image.ref.name"]: _read(tar, _blob(image["digest"]))["config"][
                    "digest"
                ]
                for image in _read(tar, "index.json")["manifests"]
            }
    except (OSError, tarfile.TarError, KeyError, ValueError) as error:
        raise Refusal(f"image archive {archive}: cannot be read ({error}); build it again") from None


def present(layout: Layout) -> dict[str, str]:
    """Reference to image id of what is on the node."""
    found: dict[str, str] = {}
    for line in _ctr(layout, "images", "list", what="listing images").splitlines()[1:]:
        reference, _, digest, *_ = line.split()
        if not reference.startswith("sha256:"):
            manifest = json.loads(_ctr(layout, "content", "get", digest, what=f"reading image {reference}"))
            if "config" in manifest:
                found[reference] = str(manifest["config"]["digest"])
    return found


def bring_in(layout: Layout, archives: Iterable[Path]) -> list[str]:
    """Imports the archives whose images are not on the node with the same content; what was imported, by reference.

    Raises:
        Refusal: an archive cannot be read or imported.
    """
    there = present(layout)
    imported: list[str] = []
    for archive in archives:
        wanted = contents(archive)
        if any(there.get(reference) != image for reference, image in wanted.items()):
            _ctr(layout, "images", "import", str(archive), what=f"importing {archive.name}", seconds=IMPORT_SECONDS)
            imported += wanted
    return imported


def _ctr(layout: Layout, *words: str, what: str, seconds: float = LIST_SECONDS) -> str:
    return commands.output(
        ["ctr", "--address", layout.containerd_socket, "--namespace", "k8s.io", *words], what=what, seconds=seconds
    )


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _read(tar: tarfile.TarFile, name: str) -> Any:  # noqa: ANN401 - JSON
    file = tar.extractfile(name)
    if file is None:
        raise KeyError(name)
    return json.load(file)


def _tar(files: dict[str, bytes], *, mode: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _architecture(program: bytes) -> str:
    """What OCI calls the machine that an ELF program is for."""
    return {62: "amd64", 183: "arm64"}[int.from_bytes(program[18:20], "little")]
