"""AKS: payloads end in peace, nodes have their local disk, and nothing is replaced by surprise."""

import dataclasses
import json
import re
from typing import Any

import pytest
from hypothesis import given

import settings
from components import naming
from components.cluster import azure_kubeconfig, azure_nodes, azure_pools
from components.cluster.azure import (
    AzureCluster,
    AzureClusterArgs,
    AzureJobPool,
    AzureOutbound,
    AzureStorage,
    upgrade_channel,
)
from components.cluster.machines import machines
from components.cluster.plan import Maintenance, SystemPool
from components.cluster.pools import JOBS, LABEL
from components.namespaces import Namespaces, NamespacesArgs
from settings.azure_contradictions import azure_contradictions
from settings.workload import KEEPALIVE_MAX_SECONDS
from tests.program import answers, tree
from tests.program.answers import BY_DEVICE_CODE, encoded
from tests.program.monitor import Monitor, Resource, deploy
from tests.program.test_stacks import configuration, run
from tests.unit.test_naming import site_names

pytestmark = pytest.mark.fast

AKS = "azure-native:containerservice:"
CLUSTER, POOL, WINDOW = f"{AKS}ManagedCluster", f"{AKS}AgentPool", f"{AKS}MaintenanceConfiguration"
GRANT = "azure-native:authorization:RoleAssignment"
SUBNET = "azure-native:network:Subnet"
GATEWAY = "azure-native:network:NatGateway"
RESOURCE_GROUP = "azure-native:resources:ResourceGroup"
ADDRESS = "azure-native:network:PublicIPAddress"
SUBSCRIPTION = "00000000-0000-0000-0000-00000000000a"
GROUP = "00000000-0000-0000-0000-00000000000b"


def pool(**changes: Any) -> AzureJobPool:
    plain = AzureJobPool(
        name="jobs",
        generation=2,
        size="Standard_D16ds_v5",
        least=0,
        most=20,
        spot=False,
        retiring=False,
        price_per_hour=None,
        os_disk_gib=None,
        kubelet_disk="OS",
        zones=(),
    )
    return dataclasses.replace(plain, **changes)


LOAD_BALANCER = AzureOutbound(by="loadBalancer", idle_minutes=45, ports_per_node=1024, addresses=2)
NAT = AzureOutbound(by="natGateway", idle_minutes=45, ports_per_node=1024, addresses=2)


def declared(
    *pools: AzureJobPool,
    outbound: AzureOutbound = LOAD_BALANCER,
    preview: bool = False,
    site: bool = False,
    **changes: Any,
) -> Monitor:
    args = AzureClusterArgs(
        site="tide",
        region="westeurope",
        kubernetes_version="1.34",
        network="10.224.0.0/16",
        authorized_networks=("192.0.2.0/24",),
        maintenance=Maintenance(day="Tuesday", start_hour_utc=6, hours=8),
        system_pool=SystemPool(size="Standard_D4ds_v5", nodes=3),
        drain_seconds=7200,
        subscription=SUBSCRIPTION,
        tier="Standard",
        admin_groups=[GROUP],
        outbound=outbound,
        job_pools=pools or (pool(),),
    )
    changed = dataclasses.replace(args, **changes)

    def program() -> None:
        cluster = AzureCluster("tide-cluster", changed)
        if site:
            given = NamespacesArgs(site="tide", quota={"pods": "10"}, collector="pool.example.org:9618")
            Namespaces("tide-namespaces", given, cluster.on_it(cluster))

    return deploy(
        program,
        preview=preview,
        invoke=answers.invoke,
    )


def only_pool(**changes: Any) -> Resource:
    return declared(pool(**changes)).one(POOL)


def test_every_part_hangs_on_the_component_and_goes_to_the_sites_own_subscription() -> None:
    monitor = declared(outbound=NAT)
    tree.check(monitor)
    azure = monitor.one("pulumi:providers:azure-native")
    assert azure.inputs["subscriptionId"] == SUBSCRIPTION
    parts = [resource for resource in monitor.all() if resource.type.startswith("azure-native:")]
    assert len(parts) == 12
    assert {resource.provider.rsplit("::", 1)[0] for resource in parts} == {azure.urn}


def test_no_physical_name_is_left_to_chance_and_none_depends_on_what_the_site_is_called_now() -> None:
    monitor = declared(outbound=NAT)
    text = json.dumps([resource.inputs for resource in monitor.all() if resource.type.startswith("azure-native:")])
    # But for the identifiers that the stand-in for the engine made.
    assert "tide-cluster" not in re.sub(r"tide-cluster-[a-z0-9-]+-id", "", text)
    cluster = monitor.one(CLUSTER).inputs
    assert (cluster["resourceName"], cluster["nodeResourceGroup"], cluster["dnsPrefix"]) == (
        "atlas-tide", "atlas-tide-nodes", "atlas-tide",
    )  # fmt: skip


def test_a_preview_declares_all_that_an_up_does() -> None:
    assert {each.urn for each in declared(preview=True).all()} == {each.urn for each in declared().all()}


def test_what_costs_money_says_for_which_site_and_pool() -> None:
    for resource in declared(outbound=NAT).all():
        if resource.type.startswith("azure-native:") and "tags" in resource.inputs:
            assert resource.inputs["tags"]["atlas-sites-site"] == "tide"
    assert only_pool().inputs["tags"] == {"atlas-sites-site": "tide", "atlas-sites-pool": "jobs2"}


def test_the_cluster_is_protected_and_its_list_of_pools_is_never_written_again() -> None:
    cluster = declared().one(CLUSTER)
    assert cluster.protect
    assert cluster.ignore_changes == ["agentPoolProfiles"]
    [system] = cluster.inputs["agentPoolProfiles"]
    assert (system["mode"], system["count"], system["osDiskType"], system["osDiskSizeGB"]) == (
        "System", 3, "Ephemeral", 150,
    )  # fmt: skip
    assert "nodeTaints" not in system


def test_the_cluster_is_one_that_only_named_people_reach() -> None:
    inputs = declared().one(CLUSTER).inputs
    assert inputs["sku"] == {"name": "Base", "tier": "Standard"}
    assert inputs["disableLocalAccounts"] is True
    assert inputs["aadProfile"] == {"managed": True, "enableAzureRBAC": True, "adminGroupObjectIDs": [GROUP]}
    assert inputs["apiServerAccessProfile"]["authorizedIPRanges"] == ["192.0.2.0/24"]
    assert inputs["oidcIssuerProfile"] == {"enabled": True}
    assert inputs["securityProfile"] == {"workloadIdentity": {"enabled": True}}
    assert inputs["azureMonitorProfile"] == {"metrics": {"enabled": False}}


def test_the_load_balancer_has_a_time_out_and_ports_that_do_not_depend_on_the_number_of_nodes() -> None:
    monitor = declared()
    profile = monitor.one(CLUSTER).inputs["networkProfile"]
    assert profile["outboundType"] == "loadBalancer"
    balancer = profile["loadBalancerProfile"]
    assert (balancer["allocatedOutboundPorts"], balancer["idleTimeoutInMinutes"]) == (1024, 45)
    assert balancer["managedOutboundIPs"]["count"] == 2
    assert not monitor.all(GATEWAY)


def test_the_nat_gateway_is_ours_with_its_own_time_out_and_reaches_the_api_server() -> None:
    monitor = declared(outbound=NAT)
    gateway, subnet = monitor.one(GATEWAY), monitor.one(SUBNET)
    assert gateway.inputs["idleTimeoutInMinutes"] == 45
    assert len(monitor.all(ADDRESS)) == len(gateway.inputs["publicIpAddresses"]) == 2
    assert gateway.urn in subnet.depends_on
    profile = monitor.one(CLUSTER).inputs["networkProfile"]
    assert profile["outboundType"] == "userAssignedNATGateway"
    assert "loadBalancerProfile" not in profile
    assert len(monitor.one(CLUSTER).inputs["apiServerAccessProfile"]["authorizedIPRanges"]) == 3


def test_another_time_out_changes_no_more_than_the_time_out() -> None:
    before, after = (
        declared(outbound=dataclasses.replace(LOAD_BALANCER, idle_minutes=minutes)).one(CLUSTER).inputs
        for minutes in (30, 60)
    )
    for inputs in (before, after):
        del inputs["networkProfile"]["loadBalancerProfile"]["idleTimeoutInMinutes"]
    assert before == after


def test_the_cluster_waits_for_its_right_to_the_network() -> None:
    monitor = declared()
    grant = monitor.one(GRANT)
    assert grant.urn in monitor.one(CLUSTER).depends_on
    assert grant.inputs["principalType"] == "ServicePrincipal"
    assert grant.inputs["roleDefinitionId"].startswith(f"/subscriptions/{SUBSCRIPTION}/")


def test_the_autoscaler_waits_for_startds_and_is_not_kept_by_what_is_on_each_node() -> None:
    profile = declared().one(CLUSTER).inputs["autoScalerProfile"]
    assert len(profile) == 20, "a value that is not said differs between AKS's API and its pages"
    assert profile["maxGracefulTerminationSec"] == "7200"
    assert profile["skipNodesWithLocalStorage"] == "false"
    assert profile["ignoreDaemonsetsUtilization"] is True
    assert profile["daemonsetEvictionForOccupiedNodes"] is False


def test_renewal_of_nodes_keeps_to_the_window() -> None:
    windows = declared().all(WINDOW)
    assert {window.inputs["configName"] for window in windows} == {
        "aksManagedAutoUpgradeSchedule", "aksManagedNodeOSUpgradeSchedule",
    }  # fmt: skip
    for window in windows:
        assert window.inputs["maintenanceWindow"] == {
            "durationHours": 8,
            "startTime": "06:00",
            "utcOffset": "+00:00",
            "schedule": {"weekly": {"dayOfWeek": "Tuesday", "intervalWeeks": 1}},
        }


def test_a_version_with_its_patch_is_kept_and_one_without_gets_patches() -> None:
    assert (upgrade_channel("1.34"), upgrade_channel("1.34.2")) == ("patch", "none")


def test_a_job_pool_has_the_local_disk_and_takes_startds_alone() -> None:
    inputs = only_pool().inputs
    assert (inputs["osDiskType"], inputs["osDiskSizeGB"], inputs["kubeletDiskType"]) == ("Ephemeral", 600, "OS")
    assert inputs["mode"] == "User"
    assert inputs["nodeLabels"] == {LABEL: "jobs2"}
    assert inputs["nodeTaints"] == [f"{JOBS.key}=only:NoSchedule"]


def test_a_kubelet_on_the_temporary_disk_leaves_it_to_the_kubelet() -> None:
    inputs = only_pool(kubelet_disk="Temporary").inputs
    assert (inputs["osDiskType"], inputs["osDiskSizeGB"], inputs["kubeletDiskType"]) == ("Managed", 128, "Temporary")


def test_the_autoscaler_has_the_say_over_the_number_of_nodes() -> None:
    resource = only_pool()
    assert (resource.inputs["minCount"], resource.inputs["maxCount"], resource.inputs["count"]) == (0, 20, 0)
    assert resource.inputs["enableAutoScaling"] is True
    assert resource.ignore_changes == ["count"]


def test_a_pool_that_retires_stays_as_it_is_where_a_change_would_make_it_anew() -> None:
    retiring = only_pool(retiring=True)
    assert not retiring.protect
    assert set(retiring.ignore_changes) == {"count", *azure_pools.IMMUTABLE}


def test_a_spot_pool_declares_what_azure_would_add_by_itself() -> None:
    inputs = only_pool(spot=True).inputs
    assert (inputs["scaleSetPriority"], inputs["scaleSetEvictionPolicy"], inputs["spotMaxPrice"]) == (
        "Spot", "Delete", -1,
    )  # fmt: skip
    assert inputs["nodeLabels"]["kubernetes.azure.com/scalesetpriority"] == "spot"
    assert "kubernetes.azure.com/scalesetpriority=spot:NoSchedule" in inputs["nodeTaints"]


@pytest.mark.parametrize(("seconds", "minutes"), [(30, 5), (7200, 120), (7201, 121), (7 * 24 * 3600, 1440)])
def test_an_upgrade_waits_for_payloads_as_long_as_aks_lets_it(seconds: int, minutes: int) -> None:
    assert azure_pools.drain_minutes(seconds) == minutes


def test_a_node_whose_payloads_do_not_end_is_left_alone() -> None:
    assert only_pool().inputs["upgradeSettings"] == {
        "drainTimeoutInMinutes": 120,
        "maxSurge": "10%",
        "undrainableNodeBehavior": "Cordon",
    }


def test_a_pool_is_protected_from_the_engine_until_it_retires() -> None:
    staying, leaving = only_pool(least=2), only_pool(least=2, retiring=True)
    assert (staying.protect, leaving.protect) == (True, False)
    assert (staying.inputs["minCount"], leaving.inputs["minCount"]) == (2, 0)
    assert staying.inputs["maxCount"] == leaving.inputs["maxCount"]
    assert set(staying.replace_on_changes) >= {"vmSize", "osDiskType", "osDiskSizeGB", "kubeletDiskType", "maxPods"}


def test_every_property_that_a_change_replaces_is_one_that_a_pool_has() -> None:
    [given_names] = [set(only_pool(spot=True, zones=("1",)).inputs)]
    assert set(azure_pools.IMMUTABLE) <= given_names


def test_the_kubeconfig_is_secret_and_asks_nobody_anything() -> None:
    monitor = declared()
    component = monitor.one("atlas-sites:cluster:AzureCluster")
    assert component.outputs is not None
    assert component.outputs_secret == ["kubeconfig"]
    assert "devicecode" not in component.outputs["kubeconfig"]
    provider = monitor.one("pulumi:providers:kubernetes")
    assert provider.secrets == ["kubeconfig"]
    assert provider.inputs["clusterIdentifier"] == "tide-cluster"
    # The engine ends the update of all sites over a provider that it left out.
    assert provider.depends_on == []


def test_what_is_in_the_cluster_waits_for_nodes_and_their_right_to_the_network() -> None:
    monitor = declared(site=True)
    objects = [each for each in monitor.all() if each.type.startswith("kubernetes:")]
    needs = {monitor.one(POOL).urn, monitor.one(GRANT).urn, monitor.one(CLUSTER).urn}
    assert len(objects) > 5
    assert [each.name for each in objects if not needs <= set(each.depends_on)] == []
    assert needs.isdisjoint(monitor.one("atlas-sites:index:Namespaces").depends_on)


def test_a_login_keeps_the_server_and_the_tenant_and_drops_the_client_that_asks() -> None:
    [user] = json.loads(azure_kubeconfig.unattended(encoded()))["users"]
    assert user["user"]["exec"]["args"] == [
        "get-token", "--environment", "AzurePublicCloud", "--server-id", "the-server", "--tenant-id", "the-tenant",
        "--login", "azurecli",
    ]  # fmt: skip
    assert user["user"]["exec"]["interactiveMode"] == "Never"


def test_options_of_a_login_may_be_written_in_one_word() -> None:
    document = json.loads(json.dumps(BY_DEVICE_CODE))
    document["users"][0]["user"]["exec"]["args"] = ["get-token", "--login=devicecode", "--client-id=x", "-l", "msi"]
    [user] = json.loads(azure_kubeconfig.unattended(encoded(document)))["users"]
    assert user["user"]["exec"]["args"] == ["get-token", "--login", "azurecli"]


def test_a_kubeconfig_with_a_certificate_is_refused() -> None:
    document = {**BY_DEVICE_CODE, "users": [{"name": "me", "user": {"client-key-data": "x"}}]}
    with pytest.raises(ValueError, match="does not log in by kubelogin"):
        azure_kubeconfig.unattended(encoded(document))


@pytest.mark.parametrize(("cores", "kept"), [(1, 60), (2, 100), (4, 140), (8, 180), (16, 260), (32, 420), (64, 740)])
def test_aks_keeps_of_the_cores_what_its_page_says(cores: int, kept: int) -> None:
    assert azure_nodes.reserved_cores(cores) * 1000 == pytest.approx(kept)


def test_aks_keeps_of_the_memory_what_its_page_says() -> None:
    # 650 MB for 30 pods on 8 GB; a quarter of 4 GB where 70 pods would take 1450 MB.
    assert azure_nodes.reserved_memory_mib(8192, 30) == int(650e6 / 2**20) + 100
    assert azure_nodes.reserved_memory_mib(4096, 70) == 1024 + 100


@pytest.mark.parametrize("size", machines("azure"))
def test_the_table_of_sizes_is_sound(size: str) -> None:
    machine = machines("azure")[size]
    assert int(re.findall(r"\d+", size)[0]) == machine.cores
    assert 2 <= machine.memory_mib / machine.cores / 1024 <= 8
    assert machine.disk_gib <= azure_nodes.OS_DISK_MAX_GIB
    room = azure_nodes.room(machine, kubelet_disk="OS", wanted_disk_gib=None)
    assert 0 < room.cores < machine.cores
    assert 0 < room.memory_mib < machine.memory_mib
    assert room.disk_mib <= machine.disk_gib * 1024
    assert machine.price_per_hour is None or 0.03 < machine.price_per_hour / machine.cores < 0.2


def test_pods_may_request_what_the_wanted_disk_has() -> None:
    machine = machines("azure")["Standard_D16ds_v5"]
    whole = azure_nodes.room(machine, kubelet_disk="OS", wanted_disk_gib=None)
    part = azure_nodes.room(machine, kubelet_disk="OS", wanted_disk_gib=300)
    temporary = azure_nodes.room(machine, kubelet_disk="Temporary", wanted_disk_gib=None)
    assert part.disk_mib < whole.disk_mib == temporary.disk_mib


def test_the_vacuum_controller_is_told_what_a_node_will_have() -> None:
    told = azure_pools.node_pool(pool(spot=True, price_per_hour=0.3))
    assert (told.name, told.most, told.spot, told.price_per_hour, told.pods) == ("jobs2", 20, True, 0.3, 36)
    assert [taint.key for taint in told.taints] == [JOBS.key, azure_pools.SPOT.key]
    assert azure_pools.node_pool(pool()).price_per_hour == machines("azure")["Standard_D16ds_v5"].price_per_hour
    assert azure_pools.node_pool(pool(spot=True)).price_per_hour is None


@given(site_names)
def test_names_keep_to_azures_limits(site: str) -> None:
    assert len(naming.azure(site)) <= 63
    assert len(naming.azure_nodes(site)) <= 80
    assert len(naming.azure_address(site, 15)) <= 80
    assert re.fullmatch(r"[a-z][a-z0-9-]{0,52}[a-z0-9]", naming.azure_dns_prefix(site))


def test_long_names_that_begin_alike_have_prefixes_and_grants_of_their_own() -> None:
    one, other = "a" * 55 + "b", "a" * 55 + "c"
    assert naming.azure_dns_prefix(one) != naming.azure_dns_prefix(other)
    assert naming.azure_role_assignment(one, "x", "network") != naming.azure_role_assignment(other, "x", "network")


STORAGE = AzureStorage(redundancy="ZRS", keep_days=30)
BLOB = "azure-native:storage:"
DATA = "atlas-tide-data"


def test_a_container_has_a_group_of_its_own_that_is_protected_as_all_is_that_holds_data() -> None:
    monitor = declared(storage=STORAGE)
    tree.check(monitor)
    account, container = monitor.one(f"{BLOB}StorageAccount"), monitor.one(f"{BLOB}BlobContainer")
    (group,) = (each for each in monitor.all(RESOURCE_GROUP) if each.inputs["resourceGroupName"] == DATA)
    assert group.protect
    assert account.protect
    assert container.protect
    assert {each.inputs["resourceGroupName"] for each in monitor.all() if each.type.startswith(BLOB)} == {DATA}
    assert account.inputs["sku"] == {"name": "Standard_ZRS"}


def test_nobody_is_let_in_by_a_key_without_tls_or_without_a_name() -> None:
    monitor = declared(storage=STORAGE)
    account = monitor.one(f"{BLOB}StorageAccount").inputs
    assert account["minimumTlsVersion"] == "TLS1_2"
    assert account["enableHttpsTrafficOnly"] is True
    shut = ("allowBlobPublicAccess", "allowSharedKeyAccess", "allowCrossTenantReplication", "isLocalUserEnabled")
    assert [account[key] for key in shut] == [False] * len(shut)
    assert monitor.one(f"{BLOB}BlobContainer").inputs["publicAccess"] == "None"


def test_what_is_overwritten_or_deleted_can_be_had_back_and_is_paid_for_no_longer_than_that() -> None:
    monitor = declared(storage=STORAGE)
    history = monitor.one(f"{BLOB}BlobServiceProperties").inputs
    assert history["isVersioningEnabled"] is True
    assert (
        history["deleteRetentionPolicy"] == history["containerDeleteRetentionPolicy"] == {"enabled": True, "days": 30}
    )
    (rule,) = monitor.one(f"{BLOB}ManagementPolicy").inputs["policy"]["rules"]
    assert rule["definition"]["actions"] == {"version": {"delete": {"daysAfterCreationGreaterThan": 30}}}


def test_startds_alone_may_write_there_and_there_alone() -> None:
    monitor = declared(storage=STORAGE)
    (grant,) = (each for each in monitor.all(GRANT) if "storageAccounts" in each.inputs["scope"])
    account = naming.azure_account("tide", SUBSCRIPTION)
    assert grant.inputs["scope"].endswith(f"/{DATA}/providers/Microsoft.Storage/storageAccounts/{account}"
                                          "/blobServices/default/containers/out")  # fmt: skip
    assert grant.inputs["roleDefinitionId"].endswith("/ba92f5b4-2d11-453d-a403-e96b0029c9fe")
    trust = monitor.one("azure-native:managedidentity:FederatedIdentityCredential").inputs
    assert (trust["subject"], trust["audiences"]) == (
        "system:serviceaccount:tide:startd", ["api://AzureADTokenExchange"],
    )  # fmt: skip


def test_without_stage_out_nothing_of_a_storage_is_made() -> None:
    assert [each for each in declared().all() if each.type.startswith(BLOB)] == []


def test_the_stack_that_is_shown_with_a_container_tells_startds_of_it() -> None:
    stack = configuration("azure")
    stack["atlas-sites:sites"][0]["stageOut"] = {"own": {}}
    monitor = run(stack)
    maps = [each.inputs.get("data", {}) for each in monitor.all("kubernetes:core/v1:ConfigMap")]
    (told,) = (each for each in maps if "container" in each)
    account = naming.azure_account("tide", stack["atlas-sites:sites"][0]["cluster"]["subscription"])
    assert told["container"] == f"https://{account}.blob.core.windows.net/out"
    pod = monitor.one("kubernetes:vacuum.atlas-sites.io/v1alpha1:StartdSet").inputs["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "startd"


@given(site_names)
def test_the_name_of_a_storage_account_keeps_to_azures_limits(site: str) -> None:
    assert re.fullmatch(r"[a-z0-9]{3,24}", naming.azure_account(site, SUBSCRIPTION))
    assert naming.azure_account(site, SUBSCRIPTION) != naming.azure_account(site, GROUP)


def site(**changes: dict[str, Any]) -> settings.AzureSite:
    """The site of the stack that is shown, with changes to its blocks `cluster`, `startds` and its first pool."""
    [block] = configuration("azure")["atlas-sites:sites"]
    first, *_ = block["jobPools"]
    block |= {"jobPools": [{**first, **changes.pop("pool", {})}]}
    for key, change in changes.items():
        block[key] = {**block[key], **change}
    return settings.AzureSite.model_validate_json(json.dumps(block))


def refusals(**changes: dict[str, Any]) -> list[str]:
    return list(azure_contradictions(site(**changes)))


def test_the_shown_stack_is_not_refused() -> None:
    assert refusals() == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"pool": {"size": "Standard_D16ds_v55"}},
            r"jobPools\[0\].size is Standard_D16ds_v55, which .* take one like Standard_D16ds_v5 or .*",
        ),
        ({"pool": {"size": "Standard_D16s_v5"}}, r"jobPools\[0\].size is .*no local disk: .*Standard_D16ds_v5"),
        (
            {"cluster": {"systemPool": {"size": "Standard_D4s_v5"}}},
            r"cluster.systemPool.size is .*no local disk: .* as in Standard_D4ds_v5",
        ),
        ({"pool": {"osDiskGib": 601}}, r"jobPools\[0\].osDiskGib is 601: the local disk .* takes at most 600; .*"),
        (
            {"pool": {"size": "Standard_D16ds_v6", "kubeletDisk": "Temporary"}},
            r"jobPools\[0\].kubeletDisk is Temporary, and the disks of Standard_D16ds_v6 are raw NVMe.*",
        ),
        ({"startds": {"requestedCores": 16}}, r"jobPools\[0\].size is .*requestedCores takes 16, .* 15.24 .*"),
        ({"startds": {"memoryMib": 65536}}, r"jobPools\[0\].size is .* startds.memoryMib takes 65536.*"),
        ({"startds": {"diskMib": 600_000}}, r"jobPools\[0\].size is .* startds.diskMib takes 600256 with its logs.*"),
        (
            {"cluster": {"outbound": {"portsPerNode": 2048}}},
            r"cluster.outbound.portsPerNode is 2048: 48 nodes.* 98304 ports, and 1 addresses have 64000; .* to 2",
        ),
        ({"cluster": {"network": "10.130.0.0/16"}}, r"cluster.network is 10.130.0.0/16, and pods have 10.128.0.0/11.*"),
        ({"cluster": {"network": "10.0.64.0/18"}}, r"cluster.network is .*, and services have 10.0.0.0/16.*"),
        ({"cluster": {"network": "10.224.0.0/27"}}, r"cluster.network is .*: it has 27 addresses.* may be 48 .*"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_with_the_key_and_what_is_allowed(changes: Any, sentence: str) -> None:
    [said] = refusals(**changes)
    assert re.fullmatch(sentence, said), said


def test_a_pool_that_retires_need_not_fit_startds_any_more() -> None:
    assert refusals(pool={"retiring": True}, startds={"memoryMib": 65536}) == []


def test_no_time_out_that_may_be_written_is_shorter_than_what_keeps_connections_alive() -> None:
    least = settings.clouds.AzureOutbound.model_fields["idle_minutes"].metadata[0].ge
    assert least * 60 / 1.2 >= KEEPALIVE_MAX_SECONDS


def test_the_stack_azure_is_a_whole_site() -> None:
    [shown] = configuration("azure")["atlas-sites:sites"]
    assert shown["name"] == "tide"
    monitor = run(configuration("azure"))
    assert len(monitor.all(POOL)) == 2
    assert monitor.all("kubernetes:vacuum.atlas-sites.io/v1alpha1:StartdSet")
