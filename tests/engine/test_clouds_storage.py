"""A container of a site's own on Azure, by the real engine; the cloud is a stand-in."""

import pytest

from tests.engine.stacks import Stack, cloud_site, planned

pytestmark = pytest.mark.engine


def test_a_container_of_the_sites_own_passes_the_policies_changes_in_place_and_is_not_given_up_by_a_missing_line(
    world: Stack,
) -> None:
    site = cloud_site("azure")
    world.of([site | {"stageOut": {"own": {}}}])
    status, output = world.preview()
    assert status == 0, output
    assert "mandatory" not in output
    assert "warning" not in output
    world.up()
    assert planned(world.project) == {}, "a second look finds nothing to do"

    longer = planned(world.of([site | {"stageOut": {"own": {"keepDays": 30}}}]).project)
    assert set(longer.values()) == {"update"}

    (container,) = world.names("azure-native:storage:BlobContainer")
    status, output = world.of([site]).preview()
    assert status != 0
    assert "protect" in output
    assert container in output
