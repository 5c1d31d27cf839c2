"""What must hold for the resources of any component, whatever it is."""

from tests.policies.ask import about, violations
from tests.program.monitor import STACK_TYPE, Monitor


def check(monitor: Monitor) -> None:
    """Each resource has its place and a name made of its parent's; each component has outputs; no rule is broken."""
    by_urn = {resource.urn: resource for resource in monitor.resources}
    for resource in monitor.resources:
        if resource.type == STACK_TYPE:
            continue
        parent = by_urn[resource.parent]
        if parent.type != STACK_TYPE:
            assert resource.name.startswith(f"{parent.name}-"), resource.urn
        if not resource.custom:
            assert resource.outputs, f"{resource.urn} registers no outputs"
        assert not violations(about(resource.type, resource.inputs, stack="azure", protect=resource.protect))
