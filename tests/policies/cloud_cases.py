"""Resources of the clouds on which the rules about them decide."""

import json
from base64 import b64encode
from typing import Any

from tests.policies.ask import UNKNOWN
from tests.policies.case import Case

AZURE_CLUSTER = "azure-native:containerservice:ManagedCluster"
AZURE_POOL = "azure-native:containerservice:AgentPool"
AZURE_GATEWAY = "azure-native:network:NatGateway"
AZURE_GROUP = "azure-native:resources:ResourceGroup"
AZURE_STORAGE = "azure-native:storage:StorageAccount"
AZURE_CONTAINER = "azure-native:storage:BlobContainer"
AZURE_PROVIDER = "pulumi:providers:azure-native"
GOOGLE_CLUSTER = "gcp:container/cluster:Cluster"
GOOGLE_POOL = "gcp:container/nodePool:NodePool"
GOOGLE_NAT = "gcp:compute/routerNat:RouterNat"
AMAZON_CLUSTER = "aws:eks/cluster:Cluster"
AMAZON_POOL = "aws:eks/nodeGroup:NodeGroup"
AMAZON_TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate"
AMAZON_PROVIDER = "pulumi:providers:aws"
CONFIG_MAP = "kubernetes:core/v1:ConfigMap"
SERVICE = "kubernetes:core/v1:Service"

NOTHING: dict[str, Any] = {}
TAINT = {"key": "atlas-sites.io/jobs", "value": "only", "effect": "NO_SCHEDULE"}
SPOT = "kubernetes.azure.com/scalesetpriority"
SITE_TAGS = {"atlas-sites-site": "here"}
POOL_TAGS = {**SITE_TAGS, "atlas-sites-pool": "jobs1"}


def azure_pool(**changes: Any) -> dict[str, Any]:
    return {
        "mode": "User",
        "vmSize": "Standard_D16ds_v5",
        "osDiskType": "Ephemeral",
        "kubeletDiskType": "OS",
        "nodeTaints": ["atlas-sites.io/jobs=only:NoSchedule"],
        "tags": POOL_TAGS,
        **changes,
    }


def azure_storage(**changes: Any) -> dict[str, Any]:
    shut = {"allowBlobPublicAccess": False, "allowSharedKeyAccess": False}
    return {**shut, "enableHttpsTrafficOnly": True, "minimumTlsVersion": "TLS1_2", **changes}


def azure_spot(**changes: Any) -> dict[str, Any]:
    taints = ["atlas-sites.io/jobs=only:NoSchedule", f"{SPOT}=spot:NoSchedule"]
    return azure_pool(**{"scaleSetPriority": "Spot", "nodeTaints": taints, "nodeLabels": {SPOT: "spot"}, **changes})


def azure_cluster(**changes: Any) -> dict[str, Any]:
    return {
        "sku": {"name": "Base"},
        "networkProfile": {"outboundType": "loadBalancer", "loadBalancerProfile": {"idleTimeoutInMinutes": 30}},
        "apiServerAccessProfile": {"authorizedIPRanges": ["192.0.2.0/24"]},
        "agentPoolProfiles": [{"name": "system", "vmSize": "Standard_D4ds_v5"}],
        "tags": SITE_TAGS,
        **changes,
    }


def by_gateway(minutes: object) -> dict[str, Any]:
    profile = {"outboundType": "managedNATGateway", "natGatewayProfile": {"idleTimeoutInMinutes": minutes}}
    return azure_cluster(networkProfile=profile)


def google_pool(*, disks: object = 2, spot: bool = False, taints: Any = (TAINT,), **changes: Any) -> dict[str, Any]:
    config = {
        "machineType": "n2-standard-16",
        "ephemeralStorageLocalSsdConfig": {"localSsdCount": disks},
        "spot": spot,
        "taints": list(taints),
        "resourceLabels": POOL_TAGS,
    }
    return {"nodeConfig": {**config, **changes}}


def google_cluster(**changes: Any) -> dict[str, Any]:
    blocks = [{"cidrBlock": "192.0.2.0/24"}]
    return {
        "location": "europe-west1-b",
        "masterAuthorizedNetworksConfig": {"cidrBlocks": blocks},
        "resourceLabels": SITE_TAGS,
        **changes,
    }


def amazon_pool(**changes: Any) -> dict[str, Any]:
    return {
        "instanceTypes": ["m6id.4xlarge"],
        "capacityType": "ON_DEMAND",
        "taints": [TAINT],
        "tags": POOL_TAGS,
        **changes,
    }


def amazon_cluster(*networks: str, **changes: Any) -> dict[str, Any]:
    return {"vpcConfig": {"publicAccessCidrs": list(networks or ("192.0.2.0/24",))}, **changes}


def template(user_data: str | None, pool: str | None = "jobs1") -> dict[str, Any]:
    tags = SITE_TAGS if pool is None else {**SITE_TAGS, "atlas-sites-pool": pool}
    return {
        "userData": user_data and b64encode(user_data.encode()).decode(),
        "tagSpecifications": [{"resourceType": "instance", "tags": tags}],
    }


RAID = "spec:\n  instance:\n    localStorage:\n      strategy: RAID0\n"
PRICED = '[{"name": "jobs1", "max": 10, "pricePerHour": 0.5}]'
UNPRICED = '[{"name": "jobs1", "max": 10}]'


def pools(text: str, name: str = "node-pools") -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": {"pools.json": text}}


CLOUD_CASES = {
    "idle-timeout-is-set": Case(
        passing=[
            (AZURE_CLUSTER, azure_cluster()),
            (AZURE_CLUSTER, by_gateway(4)),
            (AZURE_CLUSTER, azure_cluster(networkProfile={"outboundType": "userAssignedNATGateway"})),
            (AZURE_GATEWAY, {"idleTimeoutInMinutes": 30}),
            (GOOGLE_NAT, {"tcpEstablishedIdleTimeoutSec": 1200}),
        ],
        failing=[
            (AZURE_CLUSTER, azure_cluster(networkProfile={"outboundType": "loadBalancer"}), "leaves networkProfile."),
            (AZURE_CLUSTER, azure_cluster(networkProfile=None), "leaves networkProfile.loadBalancerProfile."),
            (AZURE_CLUSTER, by_gateway(None), "leaves networkProfile.natGatewayProfile.idleTimeoutInMinutes"),
            (AZURE_GATEWAY, NOTHING, "leaves idleTimeoutInMinutes to the cloud"),
            (GOOGLE_NAT, {"tcpEstablishedIdleTimeoutSec": 239}, "after 239 s; allowed: at least 240"),
        ],
        not_applicable=[(GOOGLE_CLUSTER, google_cluster()), (SERVICE, NOTHING)],
        unknown=[(AZURE_GATEWAY, {"idleTimeoutInMinutes": UNKNOWN})],
    ),
    "protected-clusters": Case(
        passing=[],
        failing=[
            (AZURE_CLUSTER, azure_cluster(), "thing is not protected"),
            (GOOGLE_CLUSTER, google_cluster(), "thing is not protected"),
            (AMAZON_CLUSTER, amazon_cluster(), "thing is not protected"),
        ],
        not_applicable=[(AZURE_POOL, azure_pool()), (SERVICE, NOTHING)],
        unknown=[],
    ),
    "no-open-storage": Case(
        passing=[
            (AZURE_STORAGE, azure_storage()),
            (AZURE_CONTAINER, {"publicAccess": "None"}),
            (AZURE_CONTAINER, NOTHING),
        ],
        failing=[
            (AZURE_STORAGE, azure_storage(allowBlobPublicAccess=None), "lets containers be read by everybody"),
            (AZURE_STORAGE, azure_storage(allowSharedKeyAccess=True), "lets in whoever has its key"),
            (AZURE_STORAGE, azure_storage(enableHttpsTrafficOnly=False), "may be spoken to in clear"),
            (AZURE_STORAGE, azure_storage(minimumTlsVersion=None), "takes versions of TLS that are broken"),
            (AZURE_STORAGE, azure_storage(minimumTlsVersion="TLS1_1"), "takes versions of TLS that are broken"),
            (AZURE_CONTAINER, {"publicAccess": "Blob"}, "can be read by everybody"),
        ],
        not_applicable=[(AZURE_GROUP, NOTHING), (SERVICE, NOTHING)],
        unknown=[(AZURE_STORAGE, azure_storage(allowSharedKeyAccess=UNKNOWN))],
    ),
    "no-managed-modes": Case(
        passing=[
            (AZURE_CLUSTER, azure_cluster()),
            (GOOGLE_CLUSTER, google_cluster(enableAutopilot=False)),
            (AMAZON_CLUSTER, amazon_cluster()),
        ],
        failing=[
            (AZURE_CLUSTER, azure_cluster(sku={"name": "Automatic"}), "is of AKS Automatic"),
            (GOOGLE_CLUSTER, google_cluster(enableAutopilot=True), "is of GKE Autopilot"),
            (AMAZON_CLUSTER, amazon_cluster(computeConfig={"enabled": True}), "is of EKS Auto Mode"),
        ],
        not_applicable=[(AZURE_POOL, azure_pool())],
        unknown=[(AZURE_CLUSTER, azure_cluster(sku={"name": UNKNOWN}))],
    ),
    "api-server-not-open-to-all": Case(
        passing=[
            (AZURE_CLUSTER, azure_cluster()),
            (GOOGLE_CLUSTER, google_cluster()),
            (AMAZON_CLUSTER, amazon_cluster()),
            (AMAZON_CLUSTER, {"vpcConfig": {"endpointPublicAccess": False}}),
        ],
        failing=[
            (
                GOOGLE_CLUSTER,
                google_cluster(masterAuthorizedNetworksConfig={"gcpPublicCidrsAccessEnabled": True}),
                "from all of Google Cloud",
            ),
            (AZURE_CLUSTER, azure_cluster(apiServerAccessProfile=None), "may be reached from everywhere"),
            (GOOGLE_CLUSTER, google_cluster(masterAuthorizedNetworksConfig=None), "may be reached from everywhere"),
            (AMAZON_CLUSTER, amazon_cluster("192.0.2.0/24", "0.0.0.0/0"), "may be reached from 0.0.0.0/0"),
        ],
        not_applicable=[(GOOGLE_POOL, google_pool())],
        unknown=[(AMAZON_CLUSTER, amazon_cluster(UNKNOWN))],
    ),
    "idle-timeout-keeps-the-cluster": Case(
        passing=[
            (AZURE_PROVIDER, {"version": "3.29.0"}),
            (AZURE_PROVIDER, {"version": "4.0.0-alpha.1"}),
            (AZURE_PROVIDER, NOTHING),
        ],
        failing=[(AZURE_PROVIDER, {"version": "3.19.2"}, "has version 3.19.2")],
        not_applicable=[(AMAZON_PROVIDER, {"version": "7.0.0"}), (AZURE_CLUSTER, azure_cluster())],
        unknown=[(AZURE_PROVIDER, {"version": UNKNOWN})],
    ),
    "local-disk-kubelet": Case(
        passing=[
            (AZURE_POOL, azure_pool()),
            (AZURE_POOL, azure_pool(kubeletDiskType="Temporary", osDiskType="Managed")),
            (AZURE_POOL, azure_pool(mode="System", osDiskType="Managed")),
            (GOOGLE_POOL, google_pool()),
            (GOOGLE_POOL, google_pool(disks=0, taints=(), resourceLabels={**SITE_TAGS, "atlas-sites-pool": "system"})),
            (AMAZON_TEMPLATE, template('{"localStorage": {\n"strategy": "RAID0"}}')),
            (AMAZON_TEMPLATE, template(RAID)),
            (AMAZON_TEMPLATE, template(None, pool="system")),
            (AMAZON_TEMPLATE, template(None, pool=None)),
        ],
        failing=[
            (AZURE_POOL, azure_pool(osDiskType="Managed"), "thing has osDiskType Managed and not Ephemeral"),
            (AZURE_POOL, azure_pool(osDiskType=None), "osDiskType left to Azure"),
            (AZURE_POOL, azure_pool(kubeletDiskType=None), "kubeletDiskType left to Azure and not OS"),
            (GOOGLE_POOL, google_pool(disks=0), "on a disk over the network"),
            (GOOGLE_POOL, google_pool(disks=None), "on a disk over the network"),
            (AMAZON_TEMPLATE, template("spec: {}"), "leaves the machine's disks unused"),
            (AMAZON_TEMPLATE, template(None), "leaves the machine's disks unused"),
            (AMAZON_TEMPLATE, template("# strategy: RAID0"), "leaves the machine's disks unused"),
            (GOOGLE_POOL, google_pool(disks=0, taints=()), "on a disk over the network"),
        ],
        not_applicable=[(AMAZON_POOL, amazon_pool()), (SERVICE, NOTHING)],
        unknown=[(AZURE_POOL, azure_pool(osDiskType=UNKNOWN)), (GOOGLE_POOL, google_pool(disks=UNKNOWN))],
    ),
    "job-pools-for-startds-alone": Case(
        passing=[
            (AZURE_POOL, azure_pool()),
            (AZURE_POOL, azure_pool(mode="System", nodeTaints=None)),
            (GOOGLE_POOL, google_pool()),
            (GOOGLE_POOL, google_pool(taints=(), resourceLabels={**SITE_TAGS, "atlas-sites-pool": "system"})),
            (AMAZON_POOL, amazon_pool()),
        ],
        failing=[
            (AZURE_POOL, azure_pool(nodeTaints=None), "without the taint atlas-sites.io/jobs"),
            (GOOGLE_POOL, google_pool(taints=()), "without the taint atlas-sites.io/jobs"),
            (AMAZON_POOL, amazon_pool(taints=None), "without the taint atlas-sites.io/jobs"),
        ],
        not_applicable=[(GOOGLE_CLUSTER, google_cluster())],
        unknown=[(AZURE_POOL, azure_pool(mode=UNKNOWN))],
    ),
    "spot-only-for-job-pools": Case(
        passing=[
            (AZURE_POOL, azure_pool()),
            (AZURE_POOL, azure_spot()),
            (AZURE_CLUSTER, azure_cluster()),
            (GOOGLE_POOL, google_pool(spot=True)),
            (GOOGLE_POOL, google_pool(taints=())),
            (AMAZON_POOL, amazon_pool(capacityType="SPOT")),
        ],
        failing=[
            (AZURE_POOL, azure_spot(nodeTaints=[f"{SPOT}=spot:NoSchedule"]), "no pool of startds alone"),
            (AZURE_POOL, azure_spot(mode="System"), "no pool of startds alone"),
            (AZURE_POOL, azure_spot(nodeLabels=None), f"the taint and the label {SPOT}"),
            (GOOGLE_POOL, google_pool(spot=True, taints=()), "no pool of startds alone"),
            (AMAZON_POOL, amazon_pool(capacityType="SPOT", taints=None), "no pool of startds alone"),
            (
                AZURE_CLUSTER,
                azure_cluster(agentPoolProfiles=[{"name": "system", "scaleSetPriority": "Spot"}]),
                "Pool system of thing is of spot machines",
            ),
        ],
        not_applicable=[(GOOGLE_CLUSTER, google_cluster())],
        unknown=[(AMAZON_POOL, amazon_pool(capacityType=UNKNOWN))],
    ),
    "allowed-regions": Case(
        config={"regions": ["westeurope", "europe-west1"]},
        passing=[
            (AZURE_GROUP, {"location": "westeurope"}),
            (GOOGLE_CLUSTER, google_cluster()),
            (AMAZON_PROVIDER, {"region": "europe-west1"}),
        ],
        failing=[
            (AZURE_GROUP, {"location": "eastus"}, "thing is in eastus; allowed: westeurope, europe-west1"),
            (GOOGLE_CLUSTER, google_cluster(location="europe-west12-b"), "is in europe-west12-b"),
            (AMAZON_PROVIDER, NOTHING, "is in a default region"),
        ],
        not_applicable=[(AZURE_POOL, azure_pool())],
        unknown=[(AZURE_GROUP, {"location": UNKNOWN})],
    ),
    "allowed-sizes": Case(
        config={"sizes": ["Standard_D16ds_v5", "Standard_D4ds_v5", "n2-standard-16", "m6id.4xlarge"]},
        passing=[
            (AZURE_POOL, azure_pool()),
            (AZURE_CLUSTER, azure_cluster()),
            (GOOGLE_POOL, google_pool()),
            (AMAZON_POOL, amazon_pool()),
        ],
        failing=[
            (AZURE_POOL, azure_pool(vmSize="Standard_M416ms_v2"), "is of machines Standard_M416ms_v2"),
            (AMAZON_POOL, amazon_pool(instanceTypes=None), "is of machines the cloud's own choice"),
        ],
        not_applicable=[(GOOGLE_CLUSTER, google_cluster())],
        unknown=[(AMAZON_POOL, amazon_pool(instanceTypes=[UNKNOWN]))],
    ),
    "monthly-cost-ceiling": Case(
        config={"perMonth": 3650},
        passing=[
            (CONFIG_MAP, pools(PRICED)),
            (CONFIG_MAP, pools("[]")),
            (CONFIG_MAP, pools(UNPRICED, name="squid")),
            (CONFIG_MAP, NOTHING),
            (CONFIG_MAP, {"metadata": {"name": "node-pools"}}),
            (CONFIG_MAP, pools('[{"name": "jobs1", "max": 99, "retiring": true}]')),
        ],
        failing=[
            (CONFIG_MAP, pools(PRICED.replace("10", "11")), "allows nodes for 4,015 a month; the ceiling is 3,650"),
            (CONFIG_MAP, pools(UNPRICED), "nobody says what a node of pool jobs1 costs"),
        ],
        not_applicable=[(AZURE_POOL, azure_pool())],
        unknown=[(CONFIG_MAP, pools(UNKNOWN))],
    ),
    "cost-tags": Case(
        passing=[
            (AZURE_CLUSTER, azure_cluster()),
            (AZURE_POOL, azure_pool()),
            (GOOGLE_CLUSTER, google_cluster()),
            (GOOGLE_POOL, google_pool()),
            (AMAZON_PROVIDER, {"defaultTags": {"tags": SITE_TAGS}}),
            (AMAZON_PROVIDER, {"defaultTags": json.dumps({"tags": SITE_TAGS})}),
            (AMAZON_POOL, amazon_pool(tags={"atlas-sites-pool": "jobs1"})),
        ],
        failing=[
            (AZURE_CLUSTER, azure_cluster(tags=None), "thing has no tag atlas-sites-site"),
            (AZURE_POOL, azure_pool(tags=SITE_TAGS), "thing has no tag atlas-sites-pool"),
            (GOOGLE_POOL, google_pool(resourceLabels=None), "no tag atlas-sites-pool and atlas-sites-site"),
            (AMAZON_PROVIDER, NOTHING, "no tag atlas-sites-site"),
            (AMAZON_PROVIDER, {"defaultTags": json.dumps({"tags": {}})}, "no tag atlas-sites-site"),
            (AMAZON_POOL, amazon_pool(tags=None), "no tag atlas-sites-pool"),
        ],
        not_applicable=[(AZURE_GATEWAY, NOTHING)],
        unknown=[(AZURE_POOL, azure_pool(tags=UNKNOWN))],
    ),
}
