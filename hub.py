"""The portal of a stack: one of its sites is the hub, and each site, the hub too, tells it of itself."""

from collections.abc import Sequence

import pulumi

import registering
import settings
from components import portal
from components.portal import Portal, PortalArgs
from components.pusher import Pusher, PusherArgs
from sites import Site


def make(told: settings.Portal | None, sites: Sequence[Site], images: settings.Images) -> Portal | None:
    """Declares the hub on its site and a pusher on each; none of it for a stack without a portal."""
    if told is None:
        return None
    hub = next(site for site in sites if site.settings.name == told.hub)
    name = hub.settings.lasting_name
    made = Portal(
        f"{told.hub}-portal",
        PortalArgs(
            site=name,
            namespace=hub.namespaces.site,
            priority=hub.namespaces.priority,
            image=images.services,
            # In no order but that of their names: a site that moves in the stack file changes nothing.
            sites=sorted(site.settings.lasting_name for site in sites),
            outside=told.address is not None,
            store_mib=told.store.mib if told.store.mode == "claim" else None,
            storage_class=told.store.storage_class,
        ),
        hub.cluster.on_it(hub),
    )
    on_hub = pulumi.ResourceOptions(provider=hub.cluster.provider, depends_on=list(hub.cluster.needs))
    for site in sites:
        pusher = Pusher(
            f"{site.settings.name}-pusher",
            PusherArgs(
                site=site.settings.lasting_name,
                namespace=site.namespaces.site,
                priority=site.namespaces.priority,
                image=images.services,
                atlas_site=site.settings.atlas_site,
                address=portal.address(name) if site is hub else str(told.address),
                authority=None if site is hub else told.certificate_authority,
                seconds=told.seconds,
                squids=site.settings.squid.replicas,
                credentials=site.credentials.metrics,
                accounting=site.accounting.metrics if site.accounting else None,
                hub=hub.namespaces.site,
                hub_site=name,
                on_hub=on_hub,
            ),
            site.cluster.on_it(site),
        )
        registering.begun(pusher)
    return made
