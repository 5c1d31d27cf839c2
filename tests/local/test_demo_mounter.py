"""The mounter's pure parts: the proxy list, the order of proxies, the environment, the mounts."""

import random

import pytest

from local.mounter.mounts import Client, command, mounted
from local.mounter.proxies import AVOIDED_SECONDS, Proxies, parse

pytestmark = pytest.mark.fast

A, B, VIP = ("a", 3128), ("b", 80), ("vip", 3128)


def test_a_bar_shares_load_and_a_semicolon_begins_the_next_group() -> None:
    assert parse("http://a:3128|http://b:80;http://vip") == ((A, B), (VIP,))


@pytest.mark.parametrize(
    "text", ["", ";", "DIRECT", "http://a:3128;DIRECT", "a:3128", "https://a", "http://a/x", "http://a|"]
)
def test_a_list_that_names_no_proxy_or_goes_past_them_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="CVMFS_HTTP_PROXY"):
        parse(text)


def test_the_next_group_comes_last_and_a_failed_proxy_after_it_for_a_while() -> None:
    now = [0.0]
    proxies = Proxies(((A, B), (VIP,)), clock=lambda: now[0], choice=random.Random(1))  # noqa: S311  a share of load, no secret
    assert {tuple(proxies.order()) for _ in range(50)} == {(A, B, VIP), (B, A, VIP)}
    proxies.failed(A)
    assert proxies.order() == [B, VIP, A]
    now[0] = AVOIDED_SECONDS
    assert proxies.order()[-1] == VIP


GOOD = {
    "CVMFS_REPOSITORIES": "one.example, two.example",
    "CVMFS_SERVER_URL": "http://origin/@fqrn@",
    "CVMFS_HTTP_PROXY": "http://a",
    "CVMFS_QUOTA_LIMIT": "1000",
}


def test_repositories_share_the_quota_and_each_has_its_own_url() -> None:
    client = Client.read(GOOD)
    assert client.url("two.example") == "http://origin/two.example/"
    assert "--vfs-cache-max-size=500M" in command(client, "one.example")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CVMFS_REPOSITORIES", ""),
        ("CVMFS_REPOSITORIES", "../etc"),
        ("CVMFS_SERVER_URL", "http://origin/"),
        ("CVMFS_QUOTA_LIMIT", "many"),
        ("CVMFS_QUOTA_LIMIT", "1"),
    ],
)
def test_a_wrong_variable_is_refused_by_its_name(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=name):
        Client.read({**GOOD, name: value})


def test_stacked_mounts_of_one_repository_are_counted_and_no_others() -> None:
    fuse = "91 80 0:50 / /cvmfs/one.example ro shared:9 - fuse.rclone :http: ro"
    other = "92 80 0:51 / /cvmfs/two.example ro shared:9 - fuse.rclone :http: ro"
    disk = "93 80 8:1 / /cvmfs/one.example rw - ext4 /dev/sda1 rw"
    assert mounted("one.example", "\n".join([fuse, fuse, other, disk])) == 2
