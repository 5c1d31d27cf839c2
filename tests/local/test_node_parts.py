"""The node's smaller parts: mounts, names, images, DNS messages, logs."""

import json
import struct
import tarfile
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from local.node import dns, host, images, lifecycle, logs
from local.node.images import StaticImage
from local.node.layout import Layout
from local.refusal import Refusal

pytestmark = pytest.mark.fast

ELF_AMD64 = b"\x7fELF" + bytes(14) + (62).to_bytes(2, "little") + b"\0the rest of a program"


MOUNTINFO = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw
36 22 98:0 /mnt1 /a\\040b rw,noatime master:1 - ext3 /dev/sdb rw
37 22 0:44 / /home rw - nfs4 server:/home rw
38 22 0:45 / /home rw shared:7 master:1 - xfs /dev/sdc rw
"""


def test_a_mount_point_with_a_space_is_read_right() -> None:
    assert host.mounts(MOUNTINFO)[1] == host.Mount(point=Path("/a b"), kind="ext3", peers=None)


@pytest.mark.parametrize(
    ("place", "kind", "peers"),
    [("/homes", "ext4", "shared:1"), ("/a b/c", "ext3", None), ("/home/eve/x", "xfs", "shared:7")],
)
def test_a_path_lies_on_the_last_mount_of_its_longest_parent(place: str, kind: str, peers: str | None) -> None:
    found = host.mount_of(Path(place), host.mounts(MOUNTINFO))
    assert (found.kind, found.peers) == (kind, peers)


def test_the_bridge_of_each_state_directory_has_an_address_of_its_own() -> None:
    first, second = (host.bridge_hardware_address(Layout(root=Path(place))) for place in ("/a", "/b"))
    assert first != second
    assert first == host.bridge_hardware_address(Layout(root=Path("/a")))
    head = int(first[:2], 16)
    assert head & 0b10, "locally administered"
    assert not head & 0b1, "of one station, not of a group"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    place = tmp_path / "program"
    place.write_bytes(ELF_AMD64)
    return place


def test_a_static_image_is_the_same_bytes_each_time(program: Path, tmp_path: Path) -> None:
    image = StaticImage(name="thing", program=program, arguments=("-x",))
    image.write(tmp_path / "one.tar")
    image.write(tmp_path / "two.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


def test_a_static_image_runs_its_program_on_the_machine_it_is_for(program: Path, tmp_path: Path) -> None:
    StaticImage(name="thing", program=program, arguments=("-x",)).write(tmp_path / "image.tar")
    with tarfile.open(tmp_path / "image.tar") as tar:
        member = tar.extractfile(json.load(tar.extractfile("manifest.json") or pytest.fail("no manifest"))[0]["Config"])
        assert member is not None
        config = json.load(member)
    assert config["architecture"] == "amd64"
    assert config["config"]["Entrypoint"] == ["/program", "-x"]


def test_a_static_image_is_named_by_its_content(program: Path, tmp_path: Path) -> None:
    before = StaticImage(name="thing", program=program).reference
    program.write_bytes(ELF_AMD64 + b"more")
    assert StaticImage(name="thing", program=program).reference != before


def test_a_docker_archive_tells_its_references_and_image_ids(program: Path, tmp_path: Path) -> None:
    image = StaticImage(name="thing", program=program)
    image.write(tmp_path / "image.tar")
    ((reference, identity),) = images.contents(tmp_path / "image.tar").items()
    assert reference == image.reference
    assert identity.startswith("sha256:")


def test_an_oci_archive_tells_its_references_and_image_ids(tmp_path: Path) -> None:
    files = {
        "index.json": {
            "manifests": [
                {"digest": "sha256:aa", "annotations": {"org.opencontainers.image.ref.name": "localhost/thing:1"}}
            ]
        },
        "blobs/sha256/aa": {"config": {"digest": "sha256:bb"}},
    }
    with tarfile.open(tmp_path / "image.tar", "w") as tar:
        for name, content in files.items():
            (tmp_path / "part").write_text(json.dumps(content))
            tar.add(tmp_path / "part", name)
    assert images.contents(tmp_path / "image.tar") == {"localhost/thing:1": "sha256:bb"}


def test_what_is_no_image_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.tar").write_bytes(b"half a download")
    with pytest.raises(Refusal, match=r"broken\.tar: cannot be read"):
        images.contents(tmp_path / "broken.tar")


def test_a_dns_answer_is_taken_only_when_it_is_to_our_question() -> None:
    query = dns.question("kubernetes.default", 7)
    reply = struct.pack("!6H", 7, 0x8180, 1, 1, 0, 0) + query[12:] + b"\xc0\x0c" + struct.pack("!2HIH", 1, 1, 5, 4)
    reply += bytes([10, 213, 1, 1])
    assert dns.answer(reply, 7) == IPv4Address("10.213.1.1")
    assert dns.answer(reply, 8) is None
    refused = struct.pack("!6H", 7, 0x8185, 1, 0, 0, 0) + query[12:]
    assert dns.answer(refused, 7) is None


def test_a_dns_question_is_laid_out_as_the_standard_says() -> None:
    assert dns.question("a.bc", 1) == b"\0\1\1\0\0\1\0\0\0\0\0\0" + b"\1a\2bc\0" + b"\0\1\0\1"


def test_a_small_log_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "some.log"
    log.write_text("a line\n")
    assert not logs.trim(log, limit=100, keep=50)
    assert log.read_text() == "a line\n"


def test_a_large_log_keeps_its_last_whole_lines_and_its_writer_goes_on_behind_them(tmp_path: Path) -> None:
    log = tmp_path / "some.log"
    with log.open("ab", buffering=0) as writer:
        for number in range(100):
            writer.write(f"line {number:03}\n".encode())
        assert logs.trim(log, limit=500, keep=50)
        writer.write(b"the next\n")
    assert log.read_text().splitlines() == [f"line {number:03}" for number in range(95, 100)] + ["the next"]


READY_AT_NOON = {
    "status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T12:00:00Z"}]}
}


def test_a_node_is_ready_only_by_the_word_of_the_kubelet_that_runs_now() -> None:
    assert lifecycle.is_ready(READY_AT_NOON, since=datetime(2026, 1, 1, 12, 0, 0, 700_000, tzinfo=UTC))
    assert not lifecycle.is_ready(READY_AT_NOON, since=datetime(2026, 1, 1, 12, 0, 1, tzinfo=UTC))
    assert not lifecycle.is_ready({"status": {}}, since=datetime(2026, 1, 1, tzinfo=UTC))
