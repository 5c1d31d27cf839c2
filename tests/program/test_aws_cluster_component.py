"""A cluster of EKS: what is declared, what is told of its nodes, and what is refused before AWS is asked."""

import base64
import email
import email.policy
import ipaddress
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import naming
from components.cluster import aws_nodes, aws_roles
from components.cluster.aws import AmazonCluster, AmazonClusterArgs, AmazonJobPool
from components.cluster.aws_kubeconfig import kubeconfig
from components.cluster.machines import machines
from components.cluster.plan import SystemPool
from components.cluster.pools import LABEL
from settings.images import images_of
from settings.sites import sites_of
from settings.workload import KEEPALIVE_MAX_SECONDS
from tests.program import tree
from tests.program.monitor import Monitor, Resource, deploy

pytestmark = pytest.mark.fast

CHECKOUT = Path(__file__).parents[2]
CLUSTER, POOL, TEMPLATE = (
    "aws:eks/cluster:Cluster",
    "aws:eks/nodeGroup:NodeGroup",
    "aws:ec2/launchTemplate:LaunchTemplate",
)
NAT, ROUTE, ADDON = "aws:ec2/natGateway:NatGateway", "aws:ec2/route:Route", "aws:eks/addon:Addon"
DEPLOYMENT = "kubernetes:apps/v1:Deployment"
MADE: dict[str, dict[str, Any]] = {
    CLUSTER: {"endpoint": "https://192.0.2.1", "certificateAuthority": {"data": "Q0E="}},
    POOL: {"resources": [{"autoscalingGroups": [{"name": "eks-group"}]}]},
    TEMPLATE: {"latestVersion": 3},
}
ADMIN = "arn:aws:iam::123456789012:role/deploy"
IMAGE = f"registry.k8s.io/autoscaling/cluster-autoscaler@sha256:{'0' * 64}"


def pool(**change: Any) -> AmazonJobPool:
    own: dict[str, Any] = {
        "name": "jobs", "generation": 1, "size": "m6id.4xlarge", "least": 0, "most": 10, "spot": False,
        "retiring": False, "price_per_hour": None, "release": None,
    }  # fmt: skip
    return AmazonJobPool(**{**own, **change})


def declared(*pools: AmazonJobPool, preview: bool = False, size: str = "m7i.xlarge") -> Monitor:
    args = AmazonClusterArgs(
        site="hill", region="eu-central-1", kubernetes_version="1.34", network="10.224.0.0/16",
        authorized_networks=("192.0.2.0/24",), system_pool=SystemPool(size=size, nodes=3), drain_seconds=86520,
        account="123456789012", zone="eu-central-1a", second_zone="eu-central-1b", admins=(ADMIN,),
        autoscaler_image=IMAGE, job_pools=pools or (pool(),),
    )  # fmt: skip

    def program() -> None:
        cluster = AmazonCluster("hill-cluster", args)
        assert cluster.region == "eu-central-1"
        assert cluster.pools is not None
        assert [each.name for each in cluster.pools] == [each.full_name for each in args.job_pools]

    return deploy(program, preview=preview, made=MADE)


def pool_named(monitor: Monitor, name: str) -> Resource:
    return monitor.one(POOL, f"hill-cluster-pool-{name}")


def node_config(monitor: Monitor, name: str) -> dict[str, Any]:
    """What nodeadm reads of a pool's user data."""
    data = monitor.one(TEMPLATE, f"hill-cluster-template-{name}").inputs["userData"]
    (part,) = email.message_from_bytes(base64.b64decode(data), policy=email.policy.default).iter_parts()
    assert part.get_content_type() == "application/node.eks.aws"
    config: dict[str, Any] = yaml.safe_load(str(part.get_payload()))
    assert (config["apiVersion"], config["kind"]) == ("node.eks.aws/v1alpha1", "NodeConfig")
    return config


def flags(monitor: Monitor) -> list[str]:
    (container,) = monitor.one(DEPLOYMENT).inputs["spec"]["template"]["spec"]["containers"]
    told: list[str] = container["args"]
    return told


def test_every_part_hangs_on_the_component_and_goes_to_the_sites_own_account() -> None:
    monitor = declared()
    tree.check(monitor)
    amazon = monitor.one("pulumi:providers:aws")
    assert amazon.inputs["region"] == "eu-central-1"
    assert json.loads(amazon.inputs["allowedAccountIds"]) == ["123456789012"]
    assert json.loads(amazon.inputs["defaultTags"]) == {"tags": {"atlas-sites-site": "hill"}}
    parts = [resource for resource in monitor.all() if resource.type.startswith("aws:")]
    assert {resource.provider.rsplit("::", 1)[0] for resource in parts} == {amazon.urn}


def test_a_preview_declares_all_that_an_up_does() -> None:
    assert {each.urn for each in declared(preview=True).all()} == {each.urn for each in declared().all()}


def test_the_cluster_is_reached_by_whom_the_stack_names_and_cannot_go_by_mistake() -> None:
    monitor = declared()
    cluster = monitor.one(CLUSTER)
    assert cluster.protect
    assert cluster.inputs["deletionProtection"] is True
    assert cluster.inputs["vpcConfig"]["publicAccessCidrs"] == ["192.0.2.0/24"]
    assert cluster.inputs["vpcConfig"]["endpointPrivateAccess"] is True
    assert cluster.inputs["accessConfig"] == {
        "authenticationMode": "API",
        "bootstrapClusterCreatorAdminPermissions": False,
    }
    entry, rights = (
        monitor.one("aws:eks/accessEntry:AccessEntry"),
        monitor.one("aws:eks/accessPolicyAssociation:AccessPolicyAssociation"),
    )
    assert entry.inputs["principalArn"] == rights.inputs["principalArn"] == ADMIN
    assert rights.inputs["policyArn"] == "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"


def test_nodes_are_ours_and_support_is_not_the_dear_one() -> None:
    inputs = declared().one(CLUSTER).inputs
    assert "computeConfig" not in inputs
    assert inputs["bootstrapSelfManagedAddons"] is False
    assert inputs["upgradePolicy"] == {"supportType": "STANDARD"}


def test_nodes_are_in_one_zone_and_leave_by_the_nat_gateway() -> None:
    monitor = declared()
    zones = {
        each.name.rsplit("-", 1)[-1]: each.inputs["availabilityZone"] for each in monitor.all("aws:ec2/subnet:Subnet")
    }
    assert zones == {"nodes": "eu-central-1a", "public": "eu-central-1a", "second": "eu-central-1b"}
    for each in monitor.all(POOL):
        assert each.inputs["subnetIds"] == ["hill-cluster-subnet-nodes-id"]
    route = monitor.one(ROUTE, "hill-cluster-nodes-route")
    assert (route.inputs["natGatewayId"], route.inputs["destinationCidrBlock"]) == ("hill-cluster-nat-id", "0.0.0.0/0")
    assert monitor.one(NAT).inputs["subnetId"] == "hill-cluster-subnet-public-id"
    endpoint = monitor.one("aws:ec2/vpcEndpoint:VpcEndpoint")
    assert (endpoint.inputs["vpcEndpointType"], endpoint.inputs["serviceName"]) == (
        "Gateway",
        "com.amazonaws.eu-central-1.s3",
    )


@pytest.mark.parametrize("network", ["10.224.0.0/16", "10.0.0.0/24"])
def test_the_parts_of_a_network_lie_in_it_and_not_in_each_other(network: str) -> None:
    parts = [ipaddress.IPv4Network(each) for each in vars(aws_nodes.subnets(network)).values()]
    for index, part in enumerate(parts):
        assert part.subnet_of(ipaddress.IPv4Network(network))
        assert not any(part.overlaps(other) for other in parts[:index])
    assert parts[0].prefixlen == ipaddress.IPv4Network(network).prefixlen + 1


def test_keepalive_comes_before_whatever_forgets_connections() -> None:
    assert min(240, aws_nodes.NAT_IDLE_SECONDS) >= KEEPALIVE_MAX_SECONDS * 1.2


def test_nodes_come_when_they_may_register_have_addresses_and_a_way_out() -> None:
    monitor = declared()
    before = {f"hill-cluster-addon-{name}" for name in ("vpc-cni", "kube-proxy", "eks-pod-identity-agent")}
    for each in monitor.all(POOL):
        waits = {urn.rsplit("::", 1)[1] for urn in each.depends_on}
        assert waits >= before | {"hill-cluster-nodes-route", "hill-cluster-eks", "hill-cluster-role-nodes"}
        assert {name for name in waits if "grant-nodes" in name} == {f"hill-cluster-grant-nodes-{n}" for n in range(3)}
    dns = monitor.one(ADDON, "hill-cluster-addon-coredns")
    assert pool_named(monitor, "system").urn in dns.depends_on
    cni = json.loads(monitor.one(ADDON, "hill-cluster-addon-vpc-cni").inputs["configurationValues"])
    assert cni["enableNetworkPolicy"] == "true"


def test_job_nodes_put_kubelet_and_images_on_all_local_disks() -> None:
    monitor = declared()
    assert node_config(monitor, "jobs1")["spec"] == {
        "instance": {"localStorage": {"strategy": "RAID0"}},
        "kubelet": {"config": {"maxPods": 36}},
    }
    assert "userData" not in monitor.one(TEMPLATE, "hill-cluster-template-system").inputs
    with_disks = declared(size="m6id.xlarge")
    assert node_config(with_disks, "system")["spec"] == {"instance": {"localStorage": {"strategy": "RAID0"}}}


def test_what_auto_scaling_makes_bears_the_tags_of_the_bill_and_pods_cannot_ask_for_the_nodes_rights() -> None:
    template = declared().one(TEMPLATE, "hill-cluster-template-jobs1").inputs
    tags = {each["resourceType"]: each["tags"] for each in template["tagSpecifications"]}
    assert tags["instance"] == tags["volume"] == {"atlas-sites-site": "hill", "atlas-sites-pool": "jobs1"}
    assert template["metadataOptions"] == {
        "httpEndpoint": "enabled",
        "httpTokens": "required",
        "httpPutResponseHopLimit": 1,
    }


def test_only_job_nodes_are_kept_for_startds() -> None:
    monitor = declared()
    jobs, system = (pool_named(monitor, name).inputs for name in ("jobs1", "system"))
    assert jobs["labels"] == {LABEL: "jobs1"}
    assert jobs["taints"] == [{"key": "atlas-sites.io/jobs", "value": "only", "effect": "NO_SCHEDULE"}]
    assert not system.get("labels")
    assert not system.get("taints")
    assert jobs["tags"] == {"atlas-sites-site": "hill", "atlas-sites-pool": "jobs1"}


@pytest.mark.parametrize(("spot", "capacity"), [(False, "ON_DEMAND"), (True, "SPOT")])
def test_a_pool_is_of_machines_on_demand_or_of_spot_ones(*, spot: bool, capacity: str) -> None:
    assert pool_named(declared(pool(spot=spot)), "jobs1").inputs["capacityType"] == capacity


def test_the_autoscaler_alone_knows_how_many_nodes_there_may_be() -> None:
    few, many = declared(pool(least=2, most=10)), declared(pool(least=2, most=40))
    assert pool_named(few, "jobs1").inputs == pool_named(many, "jobs1").inputs
    assert pool_named(few, "jobs1").inputs["scalingConfig"] == {"minSize": 0, "desiredSize": 2, "maxSize": 450}
    assert pool_named(few, "jobs1").ignore_changes == ["scalingConfig"]
    assert "--nodes=2:40:eks-group" in flags(many)
    assert "--enforce-node-group-min-size=true" in flags(many)


def test_the_autoscaler_is_told_what_a_node_would_be_that_is_not_there_yet() -> None:
    told = {
        each.inputs["tag"]["key"].removeprefix("k8s.io/cluster-autoscaler/node-template/"): each.inputs["tag"]["value"]
        for each in declared().all("aws:autoscaling/tag:Tag")
    }
    assert told == {
        "label/atlas-sites.io/pool": "jobs1",
        "taint/atlas-sites.io/jobs": "only:NoSchedule",
        "resources/ephemeral-storage": f"{aws_nodes.room(machines('aws')['m6id.4xlarge']).disk_mib}Mi",
    }


def test_the_autoscaler_has_an_identity_of_its_own_before_its_pod_is_there() -> None:
    monitor = declared()
    identity = monitor.one("aws:eks/podIdentityAssociation:PodIdentityAssociation")
    assert identity.inputs["roleArn"] == "arn:aws:iam::123456789012:role/atlas-hill-autoscaler"
    deployment = monitor.one(DEPLOYMENT)
    pod = deployment.inputs["spec"]["template"]["spec"]
    assert (identity.inputs["namespace"], identity.inputs["serviceAccount"]) == (
        deployment.inputs["metadata"]["namespace"],
        pod["serviceAccountName"],
    )
    assert identity.urn in deployment.depends_on
    assert pod["containers"][0]["image"] == IMAGE
    assert {each.urn for each in monitor.all("aws:autoscaling/tag:Tag")} <= set(deployment.depends_on)


def test_the_autoscaler_may_change_the_nodes_of_its_own_cluster_alone() -> None:
    looks, acts = aws_roles.scaling("atlas-hill")["Statement"]
    assert acts["Condition"] == {"StringEquals": {"aws:ResourceTag/eks:cluster-name": "atlas-hill"}}
    assert {action.split(":")[1] for action in acts["Action"]} == {
        "SetDesiredCapacity",
        "TerminateInstanceInAutoScalingGroup",
    }
    assert all(action.split(":")[1].startswith(("Describe", "Get")) for action in looks["Action"])


@pytest.mark.parametrize(
    ("region", "cloud", "service"),
    [
        ("eu-central-1", "aws", "ec2.amazonaws.com"),
        ("us-gov-west-1", "aws-us-gov", "ec2.amazonaws.com"),
        ("cn-north-1", "aws-cn", "ec2.amazonaws.com.cn"),
    ],
)
def test_each_of_amazons_clouds_has_names_of_its_own(region: str, cloud: str, service: str) -> None:
    assert aws_roles.partition(region) == cloud
    (statement,) = aws_roles.trust(aws_roles.NODES, cloud)["Statement"]
    assert statement["Principal"] == {"Service": service}


def test_job_nodes_stay_as_they_are_made_while_the_version_rises() -> None:
    monitor = declared(pool(release="1.34.1-20260720"))
    jobs, system = pool_named(monitor, "jobs1"), pool_named(monitor, "system")
    assert "version" not in jobs.inputs
    assert jobs.inputs["launchTemplate"] == {"name": "atlas-hill-jobs1", "version": "1"}
    assert jobs.inputs["releaseVersion"] == "1.34.1-20260720"
    assert set(jobs.replace_on_changes) >= {"releaseVersion", "launchTemplate"}
    assert system.inputs["version"] == "1.34"
    assert system.inputs["launchTemplate"] == {"name": "atlas-hill-system", "version": "3"}


def test_a_pool_may_go_only_after_it_was_retired() -> None:
    monitor = declared(pool(retiring=True, least=3), pool(generation=2))
    old, new = pool_named(monitor, "jobs1"), pool_named(monitor, "jobs2")
    assert (old.protect, new.protect) == (False, True)
    assert "--nodes=0:10:eks-group" in flags(monitor)


def test_the_site_waits_for_nodes_and_the_way_out_and_its_access_is_secret() -> None:
    monitor = declared()
    provider = monitor.one("pulumi:providers:kubernetes")
    assert provider.secrets == ["kubeconfig"]
    assert provider.inputs["clusterIdentifier"] == "hill-cluster"
    # The engine ends the update of all sites over a provider that it left out.
    assert provider.depends_on == []
    objects = [each for each in monitor.all() if each.type.startswith("kubernetes:")]
    needs = {monitor.one(ROUTE, "hill-cluster-nodes-route").urn, *(each.urn for each in monitor.all(POOL))}
    assert len(objects) > 5
    assert [each.name for each in objects if not needs <= set(each.depends_on)] == []
    assert monitor.one("atlas-sites:cluster:AmazonCluster").outputs_secret == ["kubeconfig"]
    document = json.loads(provider.inputs["kubeconfig"])
    assert document["clusters"][0]["cluster"] == {
        "server": "https://192.0.2.1",
        "certificate-authority-data": "Q0E=",
    }


def test_a_kubeconfig_holds_no_secret_and_asks_nobody() -> None:
    document = json.loads(kubeconfig("atlas-hill", "eu-central-1", "https://192.0.2.1", "Q0E="))
    login = document["users"][0]["user"]["exec"]
    assert (login["command"], login["interactiveMode"]) == ("aws", "Never")
    assert " ".join(login["args"]) == "--region eu-central-1 eks get-token --cluster-name atlas-hill --output json"
    assert document["current-context"] == document["contexts"][0]["name"]


@pytest.mark.parametrize(("cores", "kept"), [(1, 0.06), (2, 0.07), (4, 0.08), (16, 0.11)])
def test_cores_are_kept_as_nodeadm_reckons(cores: int, kept: float) -> None:
    assert aws_nodes.reserved_cores(cores) == pytest.approx(kept)


def test_what_pods_may_have_of_a_node_is_what_karpenter_reckons_without_our_agents_and_images() -> None:
    machine = machines("aws")["m6id.4xlarge"]
    room = aws_nodes.room(machine)
    # aws/karpenter-provider-aws, reference/instance-types.md: 15890m and 57691Mi.
    assert (room.cores, room.memory_mib) == (15.39, 57691 - 1024)
    assert room.disk_mib == int(884 * 1024 * 0.98 * 0.9) - 31 * 1024
    assert room.pods == 16


def test_a_node_takes_no_more_pods_than_eks_lets_it_or_than_it_has_addresses_for() -> None:
    for name, machine in machines("aws").items():
        most = aws_nodes.most_pods(machine)
        assert most <= (110 if machine.cores < 30 else 250), name
        assert most <= machine.address_pods, name
        assert machine.cores <= 128 or most == 212 or machine.cores > 192, name


def test_each_machine_type_has_a_price_and_disks_where_its_name_says_so() -> None:
    table = machines("aws")
    assert len(table) >= 60
    for name, machine in table.items():
        family = name.split(".")[0]
        assert bool(machine.disk_gib) == (family.endswith("d") or family.startswith("i")), name
        assert machine.price_per_hour, name
        assert machine.price(spot=True) is None, name


def test_names_on_aws_fit_and_do_not_meet() -> None:
    longest = "a" * naming.SITE_NAME_MAX
    other = f"{longest[:-1]}b"
    assert len(naming.amazon(longest)) <= 100
    assert len(naming.amazon_template(longest, "a" * 10)) <= 128
    for part in aws_roles.TRUSTED:
        assert len(naming.amazon_role(longest, part)) <= naming.AMAZON_ROLE_MAX
        assert naming.amazon_role(longest, part) != naming.amazon_role(other, part)
    assert naming.amazon_role("hill", "nodes") == "atlas-hill-nodes"


def stack() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((CHECKOUT / "Pulumi.aws.yaml").read_text())["config"]
    return values


def told(*, job_pool: dict[str, Any] | None = None, startds: dict[str, Any] | None = None, **cluster: Any) -> list[str]:
    """What is said of the example stack with these changes."""
    [site] = stack()["atlas-sites:sites"]
    site["cluster"].update(cluster)
    site["jobPools"][0].update(job_pool or {})
    site["startds"].update(startds or {})
    return sites_of(json.dumps([site]), None, secret=False)[1]


def test_a_cache_of_cvmfs_that_fills_the_nodes_disk_is_one_sentence() -> None:
    [site] = stack()["atlas-sites:sites"]
    site["cvmfs"]["quotaMib"] = 60 * 1024
    assert sites_of(json.dumps([site]), None, secret=False)[1] == []
    site["cvmfs"]["quotaMib"] += 1
    (sentence,) = sites_of(json.dumps([site]), None, secret=False)[1]
    assert sentence.startswith("sites[0].cvmfs.quotaMib is 61441: ")
    assert "allowed: at most 61440" in sentence


def test_the_example_stack_is_right() -> None:
    assert told() == []
    images, found = images_of(json.dumps(stack()["atlas-sites:images"]), "aws")
    assert (images is not None, found) == (True, [])


@pytest.mark.parametrize(
    ("job_pool", "words"),
    [
        ({"size": "m6id.5xlarge"}, "size is m6id.5xlarge, which components/cluster/machines_aws.json"),
        ({"size": "m6i.4xlarge"}, "size is m6i.4xlarge, which has no local disk: take a size with a d in its name"),
        ({"size": "m6id.xlarge"}, "size is m6id.xlarge, too small for one startd: its startds.requestedCores"),
        ({"max": 451}, "max is 451: EKS makes at most 450 nodes of one pool"),
        ({"release": "1.34"}, "release is '1.34'; allowed: a release of EKS's node images"),
    ],
)
def test_a_pool_that_eks_cannot_make_or_a_startd_not_use_is_told(job_pool: dict[str, Any], words: str) -> None:
    assert told(job_pool=job_pool)[0].startswith(f"sites[0].jobPools[0].{words}")


def test_a_retiring_pool_need_not_fit() -> None:
    assert told(job_pool={"size": "m6id.xlarge", "retiring": True}) == []


@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        ({"zone": "eu-west-1a"}, "zone is 'eu-west-1a': allowed is a zone of cluster.region, eu-central-1"),
        ({"secondZone": "eu-central-1a"}, "secondZone is 'eu-central-1a', as is cluster.zone: EKS wants two"),
        ({"kubernetesVersion": "1.34.2"}, "kubernetesVersion is '1.34.2': EKS chooses the patch; say '1.34'"),
        ({"network": "172.20.0.0/16"}, "network is 172.20.0.0/16, and services have 172.20.0.0/16"),
        ({"network": "10.224.0.0/24"}, "network is 10.224.0.0/24: half of it has 123 addresses for nodes and their"),
        ({"network": "10.0.0.0/8"}, "network is 10.0.0.0/8: allowed is a network from /16 to /24"),
        ({"network": "fd00::/64"}, "network is fd00::/64: nodes of EKS have IPv4 addresses"),
        ({"systemPool": {"size": "m7i.3xlarge"}}, "systemPool.size is m7i.3xlarge, which components/cluster"),
        ({"mode": "Auto"}, "mode is 'Auto'; allowed: Standard; Auto forbids the privileged pods"),
        ({"account": "1"}, "account is '1'; allowed: the number of an AWS account, 12 digits"),
        ({"admins": ["deploy"]}, "admins[0] is 'deploy'; allowed: the ARN of an IAM role or user"),
        ({"autoscalerImage": "cluster-autoscaler:1.34"}, "autoscalerImage is 'cluster-autoscaler:1.34'; allowed: a"),
        ({"maintenance": {"day": "Monday"}}, "maintenance is not a key"),
    ],
)
def test_a_cluster_that_amazon_would_refuse_is_one_sentence(cluster: dict[str, Any], words: str) -> None:
    (sentence,) = told(**cluster)
    assert sentence.startswith(f"sites[0].cluster.{words}")
