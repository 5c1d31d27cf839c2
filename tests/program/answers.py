"""What the clouds' functions answer where a program asks them: as little as the program reads."""

import base64
from typing import Any

import yaml

# As AKS gives it: with a login that asks whoever sits there.
BY_DEVICE_CODE = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "here",
    "clusters": [{"name": "here", "cluster": {"server": "https://here.example.org:443"}}],
    "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
    "users": [
        {
            "name": "me",
            "user": {
                "exec": {
                    "apiVersion": "client.authentication.k8s.io/v1beta1",
                    "command": "kubelogin",
                    "args": [
                        "get-token", "--environment", "AzurePublicCloud", "--server-id", "the-server",
                        "--client-id", "the-client", "--tenant-id", "the-tenant", "--login", "devicecode",
                    ],
                }
            },
        }
    ],
}  # fmt: skip


def encoded(document: object = BY_DEVICE_CODE) -> str:
    """A kubeconfig as AKS writes it."""
    return base64.b64encode(yaml.safe_dump(document).encode()).decode()


def invoke(function: str, _arguments: dict[str, Any]) -> dict[str, Any]:
    """The answer of a provider's function."""
    if function == "azure-native:containerservice:listManagedClusterUserCredentials":
        return {"kubeconfigs": [{"name": "clusterUser", "value": encoded()}]}
    return {}
