"""The node's certificates."""

import base64
import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from local.node import pki
from local.node.layout import API_SERVICE_ADDRESS, NODE_ADDRESS, Layout

pytestmark = pytest.mark.fast

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LEAVES = (*pki.CONTROL_PLANE, *pki.of_node(Layout(root=Path("/"))))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(root=tmp_path / "node", run=tmp_path / "run")
    pki.ensure(made, NOW)
    return made


def leaf(layout: Layout, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pki.leaf_file(layout, name).read_bytes())


def contents(layout: Layout) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in layout.root.rglob("*") if file.is_file()}


def test_the_api_server_is_named_by_its_address_its_service_and_the_names_pods_use(layout: Layout) -> None:
    names = leaf(layout, "apiserver").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.IPAddress)) == {NODE_ADDRESS, API_SERVICE_ADDRESS}
    assert "kubernetes.default.svc" in names.get_values_for_type(x509.DNSName)


@pytest.mark.parametrize("name", [leaf.name for leaf in LEAVES])
def test_a_leaf_is_signed_by_the_authority_and_lives_for_a_year(layout: Layout, name: str) -> None:
    certificate = leaf(layout, name)
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(pki.authority_file(layout).read_bytes()))
    assert certificate.not_valid_before_utc < NOW
    assert certificate.not_valid_after_utc == NOW + timedelta(days=365)


def test_only_the_administrator_and_the_api_server_as_kubelets_client_are_masters(layout: Layout) -> None:
    masters = {
        entry.name
        for entry in LEAVES
        for attribute in leaf(layout, entry.name).subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        if attribute.value == "system:masters"
    }
    assert masters == {"admin", "apiserver-to-kubelet"}


def test_nobody_else_can_read_a_key(layout: Layout) -> None:
    keys = [file for file in layout.root.rglob("*") if file.is_file() and b"PRIVATE KEY" in file.read_bytes()]
    assert keys
    assert {stat.S_IMODE(file.stat().st_mode) for file in [*keys, layout.kubeconfig]} == {0o600}


def test_the_authoritys_certificate_file_holds_no_key_because_every_pod_gets_a_copy(layout: Layout) -> None:
    assert b"PRIVATE KEY" not in pki.authority_file(layout).read_bytes()


def test_a_kubeconfig_carries_its_leaf(layout: Layout) -> None:
    config = json.loads(layout.kubeconfig.read_text())
    carried = base64.b64decode(config["users"][0]["user"]["client-certificate-data"])
    assert x509.load_pem_x509_certificate(carried) == leaf(layout, "admin")
    assert config["clusters"][0]["cluster"]["server"] == f"https://{NODE_ADDRESS}:6443"


def test_made_again_nothing_changes(layout: Layout) -> None:
    before = contents(layout)
    pki.ensure(layout, NOW + timedelta(days=300))
    assert contents(layout) == before


def test_leaves_are_renewed_in_their_last_month_and_authority_and_service_account_key_stay(layout: Layout) -> None:
    kept = [pki.authority_file(layout), pki.authority_key(layout), pki.service_account_key(layout)]
    before = [file.read_bytes() for file in kept]
    later = NOW + timedelta(days=340)
    pki.ensure(layout, later)
    assert [file.read_bytes() for file in kept] == before
    assert {leaf(layout, entry.name).not_valid_after_utc for entry in LEAVES} == {later + pki.LEAF_LIFE}


def test_with_another_authority_every_leaf_is_made_anew(layout: Layout) -> None:
    before = leaf(layout, "kubelet")
    pki.authority_file(layout).unlink()
    pki.ensure(layout, NOW)
    authority = x509.load_pem_x509_certificate(pki.authority_file(layout).read_bytes())
    assert leaf(layout, "kubelet") != before
    leaf(layout, "kubelet").verify_directly_issued_by(authority)


def test_a_node_that_joins_is_known_by_its_own_name_and_address_and_gets_no_key_but_its_own(layout: Layout) -> None:
    second = layout.second
    pki.join(second, layout, NOW)
    kubelet = leaf(second, "kubelet")
    authority = x509.load_pem_x509_certificate(pki.authority_file(second).read_bytes())
    kubelet.verify_directly_issued_by(authority)
    names = kubelet.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.IPAddress) == [second.address]
    (user,) = kubelet.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert user.value == "system:node:atlas-local-2"
    held = {file.name for file in second.pki.iterdir() if b"PRIVATE KEY" in file.read_bytes()}
    assert held == {f"{each.name}.pem" for each in pki.of_node(second)}


def test_a_node_that_joins_follows_the_authority(layout: Layout) -> None:
    pki.join(layout.second, layout, NOW)
    before = contents(layout.second)
    pki.join(layout.second, layout, NOW)
    assert contents(layout.second) == before
    pki.authority_file(layout).unlink()
    pki.join(layout.second, layout, NOW)
    authority = x509.load_pem_x509_certificate(pki.authority_file(layout).read_bytes())
    leaf(layout.second, "kubelet").verify_directly_issued_by(authority)
