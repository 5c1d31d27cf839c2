"""What the site's services may do in the API: each permission is spelt out."""

from collections.abc import Iterator

from pulumi_policy import ResourceValidationArgs, Severity

from rules.rule import at, items, kind, rule

ROLES = frozenset({"Role", "ClusterRole"})
BINDINGS = frozenset({"RoleBinding", "ClusterRoleBinding"})
BROAD_ROLES = ("cluster-admin", "admin", "edit")
BROAD_GROUPS = ("system:authenticated", "system:unauthenticated", "system:serviceaccounts")
# Verbs by which a holder gives itself whatever else it wants.
LADDERS = ("bind", "escalate", "impersonate")
READING = ("get", "list", "watch")


def _check_wildcards(args: ResourceValidationArgs) -> Iterator[str]:
    return _broad_bindings(args) if kind(args) in BINDINGS else _broad_roles(args)


def _broad_bindings(args: ResourceValidationArgs) -> Iterator[str]:
    role = at(args.props, "roleRef").get("name")
    if role in BROAD_ROLES:
        yield f"{args.name} gives the role {role}, which allows nearly everything"
    for subject in items(args.props, "subjects"):
        if str(subject.get("name")).startswith(BROAD_GROUPS):
            yield f"{args.name} gives a role to {subject['name']}, who are many"


def _broad_roles(args: ResourceValidationArgs) -> Iterator[str]:
    if args.props.get("aggregationRule"):
        yield f"{args.name} takes in the permissions of other roles"
    for permission in items(args.props, "rules"):
        for key in ("apiGroups", "resources", "verbs", "nonResourceURLs"):
            if any("*" in value for value in items(permission, key)):
                yield f"{args.name} has a wildcard in {key}"
        for verb in items(permission, "verbs"):
            if verb in LADDERS:
                yield f"{args.name} allows to {verb}, by which its holder can give itself more"


def _check_secrets(args: ResourceValidationArgs) -> Iterator[str]:
    for permission in items(args.props, "rules"):
        verbs = [verb for verb in items(permission, "verbs") if verb in READING]
        if verbs and "secrets" in items(permission, "resources") and not list(items(permission, "resourceNames")):
            yield f"{args.name} allows to {', '.join(verbs)} every Secret of the namespace"


RULES = (
    rule(
        name="rbac-without-wildcards",
        description="Roles name each verb, resource and group; no binding gives a broad role or names everybody.",
        severity=Severity.HIGH,
        remedy="Write out what the service needs.",
        kinds=ROLES | BINDINGS,
        check=_check_wildcards,
    ),
    rule(
        name="secrets-are-read-by-name",
        description="A role that may read Secrets names them.",
        severity=Severity.HIGH,
        remedy="List them under resourceNames.",
        kinds=ROLES,
        check=_check_secrets,
    ),
)
