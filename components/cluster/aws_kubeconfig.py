"""How a cluster of EKS is reached: whoever reads the file logs in with credentials of their own."""

import json


def kubeconfig(name: str, region: str, endpoint: str, certificate_authority: str) -> str:
    """The text of a kubeconfig file without a secret in it, as JSON.

    Args:
        name: of the cluster.
        region: of the cluster.
        endpoint: URL of the API server.
        certificate_authority: who signed its certificate, in base64.
    """
    login = {
        "apiVersion": "client.authentication.k8s.io/v1beta1",
        "command": "aws",
        "args": ["--region", region, "eks", "get-token", "--cluster-name", name, "--output", "json"],
        "installHint": "Install the AWS Command Line Interface, version 2.",
        "interactiveMode": "Never",
    }
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "clusters": [
            {"name": name, "cluster": {"server": endpoint, "certificate-authority-data": certificate_authority}}
        ],
        "users": [{"name": name, "user": {"exec": login}}],
    }
    return json.dumps(document, sort_keys=True)
