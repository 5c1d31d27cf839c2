"""Who may do what on Azure: built-in roles, given to identities of ours."""

import pulumi
from pulumi_azure_native import authorization, managedidentity

from components import naming

_NOBODY = "00000000-0000-0000-0000-000000000000"


def known(told: pulumi.Output[str]) -> pulumi.Output[str]:
    """What Azure alone knows; where what it is of could not be made the engine leaves it out, but checks it first."""
    return told.apply(lambda value: value or _NOBODY)


def grant(
    name: str,
    *,
    site: str,
    subscription: str,
    what: str,
    role: str,
    scope: pulumi.Input[str],
    identity: managedidentity.UserAssignedIdentity,
    own: pulumi.ResourceOptions,
) -> authorization.RoleAssignment:
    """Gives an identity a role.

    Args:
        name: of the resource.
        site: the name that it bears for good.
        subscription: its UUID.
        what: the word for what may be used, by which the site's grants differ.
        role: its UUID, the same in each tenant.
        scope: the ID of what may be used.
        identity: that may.
        own: options of the resource.
    """
    return authorization.RoleAssignment(
        name,
        role_assignment_name=naming.azure_role_assignment(site, subscription, what),
        scope=scope,
        role_definition_id=f"/subscriptions/{subscription}/providers/Microsoft.Authorization/roleDefinitions/{role}",
        principal_id=known(identity.principal_id),
        # Else Azure looks for an identity that is seconds old, and does not find it.
        principal_type="ServicePrincipal",
        opts=own,
    )
