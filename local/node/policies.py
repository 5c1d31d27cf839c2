"""Network policies on the node: what the component that enforces them may read."""

from local.node import pki

ROLE = "kube-network-policies"


def objects() -> list[dict[str, object]]:
    """What is applied: the right to watch what policies speak of."""
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ROLE}
    user = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": pki.NETWORK_POLICIES}
    return [
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": ROLE},
            "rules": [
                {"apiGroups": [""], "resources": ["pods", "namespaces"], "verbs": ["list", "watch"]},
                {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["list", "watch"]},
            ],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": ROLE},
            "roleRef": role,
            "subjects": [user],
        },
    ]
