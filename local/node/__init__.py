"""One real Kubernetes node on this machine, from etcd and API server to kubelet, DNS and enforced network policies.

A second one stands beside it for whoever wants to see what a node's death costs.

`start` takes the machine from whatever state it is in to a node that works, `stop` to one that never had a node.
Neither touches what it did not make; one caller at a time.
"""

from local.node.configuration import TOOLS
from local.node.lifecycle import KUBECONFIG, KUBECTL, check, environment, import_images, running, start, stop

__all__ = ["KUBECONFIG", "KUBECTL", "TOOLS", "check", "environment", "import_images", "running", "start", "stop"]
