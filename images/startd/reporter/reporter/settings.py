"""What the pod template says about a startd: read from the environment, checked, and turned into HTCondor's terms."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from reporter.fault import Fault

CONFIGURATION = "/etc/atlas-sites-defaults/startd.conf"

# What HTCondor's daemons and this program use themselves; measured: 17 MiB with one job, 2 for each further one.
OVERHEAD_MIB = 64
# Logs and copies of credentials on the scratch volume.
OVERHEAD_DISK_MIB = 64

# Part of ClassAd strings and of the jobs' environment, so nothing that has to be quoted there.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
ADDRESS = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]):[0-9]{1,5}")
PROMISE = re.compile(r"userNamespaces|none")
URL = re.compile(r"http://[A-Za-z0-9.:\[\]_-]+/?")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One startd.

    Attributes:
        collector: host and port.
        proxy: the squids' address, for payloads.
        cores: to offer.
        memory_mib, disk_mib: the pod's limits; a little less is offered.
        noclaim_seconds: without a claim, until it leaves.
        drain_seconds: for payloads to end once it is asked to stop; they are told 30 s before.
        lifetime_seconds: until it takes no more jobs; none: no end.
        keepalive_seconds: between signs of life on idle connections.
        payload_containers: whether the site promises that payloads can start containers of their own.
    """

    collector: str
    trust_domain: str
    atlas_site: str
    site: str
    pod: str
    node: str
    proxy: str
    cores: int
    memory_mib: int
    disk_mib: int
    noclaim_seconds: int
    drain_seconds: int
    lifetime_seconds: int | None
    keepalive_seconds: int
    payload_containers: bool

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "Settings":
        """Reads the startd container's environment.

        Raises:
            Fault: a variable is missing or wrong.
        """
        settings = cls(
            collector=_text(environment, "COLLECTOR", ADDRESS, "host:port"),
            trust_domain=_name(environment, "TRUST_DOMAIN"),
            atlas_site=_name(environment, "ATLAS_SITE"),
            site=_name(environment, "SITE"),
            pod=_name(environment, "POD_NAME"),
            node=_name(environment, "NODE_NAME"),
            proxy=_text(environment, "http_proxy", URL, "http://host:port"),
            cores=number(environment, "CORES"),
            memory_mib=number(environment, "MEMORY_MIB"),
            disk_mib=number(environment, "DISK_MIB"),
            noclaim_seconds=number(environment, "NOCLAIM_SECONDS"),
            drain_seconds=number(environment, "DRAIN_SECONDS"),
            # From an annotation of the pod: empty if it has none.
            lifetime_seconds=number(environment, "LIFETIME_SECONDS") if environment.get("LIFETIME_SECONDS") else None,
            keepalive_seconds=number(environment, "KEEPALIVE_SECONDS"),
            payload_containers=_text(environment, "PAYLOAD_CONTAINERS", PROMISE, "userNamespaces or none") != "none",
        )
        for variable, given, overhead in (
            ("MEMORY_MIB", settings.memory_mib, OVERHEAD_MIB),
            ("DISK_MIB", settings.disk_mib, OVERHEAD_DISK_MIB),
        ):
            if given <= overhead:
                raise Fault(
                    "Environment",
                    f"{variable} is {given}, which HTCondor needs itself: give the startd more than {overhead} MiB",
                )
        return settings

    def environment(
        self,
        methods: tuple[str, ...],
        credentials: Path,
        *,
        user_namespaces: bool,
        apptainer: Path | None,
        stage_out: bool,
    ) -> dict[str, str]:
        """What images/startd/condor/startd.conf takes from the environment, and nothing else.

        Args:
            methods: of authentication, in the order in which they are offered to the pool.
            credentials: where the private copies lie.
            user_namespaces: whether payloads can make them.
            apptainer: the program, if the software has it.
            stage_out: whether they can bring files out.
        """
        return {
            "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
            "CONDOR_CONFIG": CONFIGURATION,
            "COLLECTOR": self.collector,
            "TRUST_DOMAIN": self.trust_domain,
            "ATLAS_SITE": self.atlas_site,
            "SITE": self.site,
            "POD_NAME": self.pod,
            "NODE_NAME": self.node,
            "http_proxy": self.proxy,
            "CORES": str(self.cores),
            "OFFERED_MEMORY_MIB": str(self.memory_mib - OVERHEAD_MIB),
            "OFFERED_DISK_KIB": str((self.disk_mib - OVERHEAD_DISK_MIB) * 1024),
            "KEEPALIVE_SECONDS": str(self.keepalive_seconds),
            # 120 of 180: what is sent through the collector's connection, not only acknowledged by its kernel.
            "HEARTBEAT_SECONDS": str(self.keepalive_seconds * 2 // 3),
            "HAS_USER_NAMESPACES": str(user_namespaces),
            "APPTAINER": str(apptainer or ""),
            "HAS_STAGE_OUT": str(stage_out),
            "AUTHENTICATION_METHODS": ", ".join(methods),
            "TOKENS": str(credentials / "tokens"),
            "AUTHORITY": str(credentials / "ca.pem"),
            "X509_USER_PROXY": str(credentials / "proxy"),
        }


def number(environment: Mapping[str, str], variable: str) -> int:
    """A whole number above nought.

    Raises:
        Fault: the variable is missing or says something else.
    """
    return int(_text(environment, variable, re.compile(r"0*[1-9][0-9]{0,9}"), "a whole number above 0"))


def _name(environment: Mapping[str, str], variable: str) -> str:
    return _text(environment, variable, NAME, "letters, digits, dots, dashes and underscores")


def _text(environment: Mapping[str, str], variable: str, form: re.Pattern[str], wanted: str) -> str:
    given = environment.get(variable, "")
    if not given:
        raise Fault("Environment", f"{variable} is not set: the pod template must set it to {wanted}")
    if not form.fullmatch(given):
        raise Fault("Environment", f"{variable} is {given[:80]!r}: the pod template must set it to {wanted}")
    return given
