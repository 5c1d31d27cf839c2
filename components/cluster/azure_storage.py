"""A container of Azure Blob for what payloads make, in a resource group of its own, which outlives the cluster.

Nobody is let in by a key: the account has none that works, and startds come by an identity for which the
cluster vouches.
"""

from dataclasses import dataclass

import pulumi
from pulumi_azure_native import containerservice as aks, managedidentity, resources, storage

from components import naming
from components.after import after
from components.cluster import azure_roles
from components.labels import cost_tags
from components.stageout import ACCOUNT, AUDIENCE, Container, Identity

CONTAINER = "out"
# Azure's built-in role "Storage Blob Data Contributor", the same in each tenant.
CONTRIBUTOR = "ba92f5b4-2d11-453d-a403-e96b0029c9fe"
NOWHERE = "https://issuer.invalid/"


@dataclass(frozen=True, kw_only=True)
class AzureStorage:
    """What is kept, and how.

    Attributes:
        redundancy: LRS, ZRS or GRS.
        keep_days: for which what was deleted or overwritten can be had back.
    """

    redundancy: str
    keep_days: int


@dataclass(frozen=True, kw_only=True)
class Whose:
    """The site that the container is of.

    Attributes:
        site: the name that it bears for good.
        subscription: its UUID.
        region: of the cloud.
        group: the resource group of the cluster.
        cluster: that vouches for startds.
    """

    site: str
    subscription: str
    region: str
    group: pulumi.Output[str]
    cluster: aks.ManagedCluster


def container(name: str, whose: Whose, wanted: AzureStorage, own: pulumi.ResourceOptions) -> Container:
    """The container, and the identity by which startds write to it.

    Args:
        name: of the component.
        whose: the site.
        wanted: what is kept.
        own: options of each resource.
    """
    kept = pulumi.ResourceOptions.merge(own, pulumi.ResourceOptions(protect=True))
    group = resources.ResourceGroup(
        f"{name}-data",
        resource_group_name=naming.azure_data(whose.site),
        location=whose.region,
        tags=cost_tags(whose.site),
        opts=kept,
    )
    account_name = naming.azure_account(whose.site, whose.subscription)
    account = storage.StorageAccount(
        f"{name}-storage",
        account_name=account_name,
        resource_group_name=after(group, naming.azure_data(whose.site)),
        location=whose.region,
        kind="StorageV2",
        sku=storage.SkuArgs(name=f"Standard_{wanted.redundancy}"),
        minimum_tls_version="TLS1_2",
        enable_https_traffic_only=True,
        allow_blob_public_access=False,
        allow_shared_key_access=False,
        allow_cross_tenant_replication=False,
        default_to_o_auth_authentication=True,
        is_local_user_enabled=False,
        # Startds reach public addresses and no private ones.
        public_network_access="Enabled",
        tags=cost_tags(whose.site),
        opts=kept,
    )
    account_known = after(account, account_name)
    _history(name, whose, account_known, wanted.keep_days, own)
    held = storage.BlobContainer(
        f"{name}-container",
        container_name=CONTAINER,
        account_name=account_known,
        resource_group_name=naming.azure_data(whose.site),
        public_access=storage.PublicAccess.NONE,
        opts=kept,
    )
    scope = (
        f"/subscriptions/{whose.subscription}/resourceGroups/{naming.azure_data(whose.site)}/providers"
        f"/Microsoft.Storage/storageAccounts/{account_name}/blobServices/default/containers/{CONTAINER}"
    )
    url = f"https://{account_name}.blob.core.windows.net/{CONTAINER}"
    return Container(url=after(held, url), identity=_identity(name, whose, after(held, scope), own))


def _history(
    name: str, whose: Whose, account: pulumi.Output[str], days: int, own: pulumi.ResourceOptions
) -> storage.ManagementPolicy:
    """What is overwritten or deleted stays for some days, and is paid for no longer."""
    retention = storage.DeleteRetentionPolicyArgs(enabled=True, days=days)
    properties = storage.BlobServiceProperties(
        f"{name}-history",
        blob_services_name="default",
        account_name=account,
        resource_group_name=naming.azure_data(whose.site),
        is_versioning_enabled=True,
        delete_retention_policy=retention,
        container_delete_retention_policy=retention,
        opts=own,
    )
    old = storage.ManagementPolicyVersionArgs(
        delete=storage.DateAfterCreationArgs(days_after_creation_greater_than=days)
    )
    return storage.ManagementPolicy(
        f"{name}-forgetting",
        management_policy_name="default",
        account_name=account,
        resource_group_name=naming.azure_data(whose.site),
        policy=storage.ManagementPolicySchemaArgs(
            rules=[
                storage.ManagementPolicyRuleArgs(
                    name="old-versions",
                    enabled=True,
                    type="Lifecycle",
                    definition=storage.ManagementPolicyDefinitionArgs(
                        actions=storage.ManagementPolicyActionArgs(version=old),
                        filters=storage.ManagementPolicyFilterArgs(blob_types=["blockBlob"]),
                    ),
                )
            ]
        ),
        # Azure refuses rules about versions where there are none.
        opts=pulumi.ResourceOptions.merge(own, pulumi.ResourceOptions(depends_on=[properties])),
    )


def _identity(name: str, whose: Whose, scope: pulumi.Output[str], own: pulumi.ResourceOptions) -> Identity:
    identity = managedidentity.UserAssignedIdentity(
        f"{name}-startds",
        resource_name_=naming.azure_startds(whose.site),
        resource_group_name=whose.group,
        tags=cost_tags(whose.site),
        opts=own,
    )
    managedidentity.FederatedIdentityCredential(
        f"{name}-startds-trust",
        federated_identity_credential_resource_name="startds",
        resource_name_=after(identity, naming.azure_startds(whose.site)),
        resource_group_name=naming.azure(whose.site),
        # Azure alone knows it; where the cluster could not be made the engine leaves this out, but checks it first.
        issuer=whose.cluster.oidc_issuer_profile.apply(lambda known: (known and known.issuer_url) or NOWHERE),
        subject=f"system:serviceaccount:{naming.namespace(whose.site)}:{ACCOUNT}",
        audiences=[AUDIENCE],
        opts=own,
    )
    azure_roles.grant(
        f"{name}-startds-grant",
        site=whose.site,
        subscription=whose.subscription,
        what=CONTAINER,
        role=CONTRIBUTOR,
        scope=scope,
        identity=identity,
        own=own,
    )
    return Identity(client=azure_roles.known(identity.client_id), tenant=azure_roles.known(identity.tenant_id))
