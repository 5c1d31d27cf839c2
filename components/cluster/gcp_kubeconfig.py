"""How a cluster of GKE is reached: whoever reads the file logs in with credentials of their own."""

import json

PLUGIN = "gke-gcloud-auth-plugin"


def kubeconfig(name: str, endpoint: str, certificate_authority: str) -> str:
    """The text of a kubeconfig file without a secret in it, as JSON.

    Args:
        name: of the cluster.
        endpoint: address of the API server.
        certificate_authority: who signed its certificate, in base64.
    """
    login = {
        "apiVersion": "client.authentication.k8s.io/v1beta1",
        "command": PLUGIN,
        "installHint": "Install gke-gcloud-auth-plugin, a component of the Google Cloud CLI.",
        "interactiveMode": "Never",
        "provideClusterInfo": True,
    }
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "clusters": [
            {
                "name": name,
                "cluster": {"server": f"https://{endpoint}", "certificate-authority-data": certificate_authority},
            }
        ],
        "users": [{"name": name, "user": {"exec": login}}],
    }
    return json.dumps(document, sort_keys=True)
