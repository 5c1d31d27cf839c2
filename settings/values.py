"""What single values of a stack file may be, each with what is allowed in words."""

import ipaddress
import re
from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from components import naming
from components.namespaces import METADATA_NETWORKS


class Closed(BaseModel):
    """Keys are camelCase in YAML; unknown keys, wrong types and later changes are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, alias_generator=to_camel)


def allowed(matches: Callable[[str], bool], words: str) -> AfterValidator:
    """A check of a string, with what is allowed in words, for the sentence."""

    def check(value: str) -> str:
        if not matches(value):
            raise PydanticCustomError("not_allowed", "{words}", {"words": words})
        return value

    return AfterValidator(check)


def like(pattern: str, words: str) -> AfterValidator:
    """A check that the whole of a string matches, with what is allowed in words, for the sentence."""
    return allowed(lambda value: re.fullmatch(pattern, value) is not None, words)


def _is_network(text: str) -> bool:
    try:
        return ipaddress.ip_network(text).prefixlen > 0
    except ValueError:
        return False


def _is_pool_network(text: str) -> bool:
    return _is_network(text) and not any(overlap(text, closed) for closed in METADATA_NETWORKS)


def overlap(one: str, other: str) -> bool:
    """Whether two networks in CIDR form have an address in common."""
    first, second = ipaddress.ip_network(one), ipaddress.ip_network(other)
    return first.version == second.version and first.overlaps(second)


def _is_host_port(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return (
        re.fullmatch(HOST, host) is not None and re.fullmatch("[1-9][0-9]{0,4}", port) is not None and int(port) < 2**16
    )


def _is_certificates(text: str) -> bool:
    return re.fullmatch(rf"\s*({_CERTIFICATE}\s*)+", text) is not None


def _private_key(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if re.search(r"-----BEGIN [A-Z ]*PRIVATE KEY-----", text) is None or "ENCRYPTED" in text:
        raise PydanticCustomError("not_allowed", "a private key in PEM form, without a passphrase", {})
    return value


_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
HOST = rf"{_LABEL}(\.{_LABEL})*"
_LABEL_VALUE = r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?"
_LABEL_KEY = rf"({HOST}/)?[A-Za-z0-9]([A-Za-z0-9._-]{{0,61}}[A-Za-z0-9])?"
_CERTIFICATE = r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----"

LabelKey = Annotated[str, like(_LABEL_KEY, "the key of a Kubernetes label or taint")]
LabelValue = Annotated[str, like(_LABEL_VALUE, "the value of a Kubernetes label or taint")]
SiteName = Annotated[str, allowed(naming.is_site_name, naming.SITE_NAME_ALLOWED)]
ObjectName = Annotated[str, like(HOST, "the name of a Kubernetes object")]
AtlasSite = Annotated[str, like(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", "letters, digits, '_', '.' and '-', at most 64")]
Word = Annotated[str, like(r"[A-Za-z0-9][A-Za-z0-9_.-]*", "letters, digits, '_', '.' and '-'")]
Fqan = Annotated[
    str, like(r"(/[A-Za-z0-9_.-]+)+(/Role=[A-Za-z0-9_.-]+)?", "a VOMS group or role, as in /atlas/Role=production")
]
HostPort = Annotated[str, allowed(_is_host_port, "a lower-case host name and a port, as in pool.example.org:9618")]
Destination = Annotated[
    str, like(rf"\.?{HOST}", "a host name without port, or one with a leading dot for all hosts of a domain")
]
Repository = Annotated[str, like(rf"{_LABEL}(\.{_LABEL})+", "the full name of a CVMFS repository, as in atlas.cern.ch")]
Url = Annotated[str, like(r"https?://[^\s|;]+", "an http:// or https:// address")]
ContainerUrl = Annotated[
    str,
    like(
        rf"https://{HOST}(:[0-9]+)?(/[a-z0-9]+)?/[a-z0-9]([a-z0-9]|-(?!-)){{1,61}}[a-z0-9]",
        "the address of a container, as in https://account.blob.core.windows.net/container, without a SAS",
    ),
]
Network = Annotated[str, allowed(_is_network, "a network in CIDR form, as in 192.0.2.0/24, but not all networks")]
PoolNetwork = Annotated[
    str,
    allowed(_is_pool_network, "a network in CIDR form, as in 192.0.2.0/24, without the clouds' metadata servers"),
]
Currency = Annotated[str, like(r"[A-Z]{3}", "the three letters of a currency by ISO 4217, as in EUR")]
# Nothing else, above all no key: these reach a ConfigMap and the state in clear.
Certificates = Annotated[str, allowed(_is_certificates, "certificates in PEM form, and nothing else")]
FilePath = Annotated[str, like(r"[^\x00-\x1f]{1,1024}", "the path of a file")]
PrivateKey = Annotated[SecretStr, AfterValidator(_private_key)]
Registry = Annotated[str, like(rf"{HOST}(:[0-9]+)?(/[a-z0-9._-]+)*", "a registry and path, as in ghcr.io/example")]
Digest = Annotated[str, like(r"sha256:[0-9a-f]{64}", "a digest, sha256: and 64 hexadecimal digits; a tag can be moved")]
ImageByDigest = Annotated[
    str, like(r"\S+@sha256:[0-9a-f]{64}", "a full reference with a digest, name@sha256:…; a tag can be moved")
]
CvmfsImage = Annotated[
    str,
    like(
        r"(\S+@)?sha256:[0-9a-f]{64}", "a digest, or a full reference with a digest: name@sha256:…; a tag can be moved"
    ),
]
