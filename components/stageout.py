"""Where payloads put what they made, as startds tell them: a container of Azure Blob, and what lets the site in.

What is mounted into a startd's pod is what `stage-out` of its image reads: `container`, and either `sas`, or `client`,
`tenant` and `token`. A payload can read all of that, and is meant to: it is good for this one container alone.
"""

from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.meta import v1 as meta

from components.after import after
from components.labels import labels

NAME = "stage-out"
# Whose token stands for the identity; it has no right in the cluster.
ACCOUNT = "startd"
SAS = "sas"
# For whom the token is: Entra ID takes it, and the API server does not.
AUDIENCE = "api://AzureADTokenExchange"
TOKEN_SECONDS = 3600


@dataclass(frozen=True, kw_only=True)
class Identity:
    """By which a cloud lets startds in, without a secret: client and tenant, as UUIDs."""

    client: pulumi.Input[str]
    tenant: pulumi.Input[str]


@dataclass(frozen=True, kw_only=True)
class Container:
    """A container of Azure Blob.

    Attributes:
        url: its own.
        identity: that may write to it.
    """

    url: pulumi.Input[str]
    identity: Identity


@dataclass(frozen=True, kw_only=True)
class StageOutArgs:
    """What a site offers.

    Attributes:
        site: the site's name.
        namespace: the unprivileged one.
        container: its URL.
        secret: of the namespace, made by somebody else; its key `sas` lets the site in.
        identity: that lets the site in, in place of a secret.
    """

    site: str
    namespace: pulumi.Input[str]
    container: pulumi.Input[str]
    secret: str | None = None
    identity: Identity | None = None


class StageOut(pulumi.ComponentResource):
    """The site's way out for files.

    Attributes:
        container: its URL.
        sources: of the volume that startds mount.
        account: that startds run as; None for that which each pod has.
    """

    container: pulumi.Output[str]
    sources: list[dict[str, Any]]
    account: pulumi.Output[str] | None

    def __init__(self, name: str, args: StageOutArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("atlas-sites:index:StageOut", name, None, opts)
        own = pulumi.ResourceOptions(parent=self)
        identity = args.identity
        told = {"client": identity.client, "tenant": identity.tenant} if identity else {}
        place = core.ConfigMap(
            f"{name}-place", metadata=_metadata(NAME, args), data={"container": args.container, **told}, opts=own
        )
        self.container = pulumi.Output.from_input(args.container)
        self.sources = [{"configMap": {"name": after(place, NAME)}}]
        self.account = None
        if identity is not None:
            account = core.ServiceAccount(
                f"{name}-account", metadata=_metadata(ACCOUNT, args), automount_service_account_token=False, opts=own
            )
            self.account = after(account, ACCOUNT)
            token = {"audience": AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": "token"}
            self.sources.append({"serviceAccountToken": token})
        if args.secret is not None:
            # A startd without it runs, and does not tell the pool that files can go out from there.
            sas = {"name": args.secret, "items": [{"key": SAS, "path": SAS}], "optional": True}
            self.sources.append({"secret": sas})
        self.register_outputs({"container": self.container})


def _metadata(name: str, args: StageOutArgs) -> meta.ObjectMetaArgs:
    return meta.ObjectMetaArgs(name=name, namespace=args.namespace, labels=labels(args.site, NAME))
