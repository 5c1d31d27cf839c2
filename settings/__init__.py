"""What a stack may say, and the one reader of `pulumi.Config`.

A stack file is closed: a key that is not here is a mistake, and every mistake is one sentence with the path of the key,
what is wrong and what is allowed. All of them are told at once, before a resource is declared.
"""

import pulumi

from settings.accounting import Accounting, Ledger, Series
from settings.clouds import AmazonSite, AzureSite, CloudSite, GoogleSite
from settings.contradictions import Site
from settings.existing import ExistingSite
from settings.images import Images, images_of
from settings.portal import Portal, portal_of
from settings.sites import sites_of
from settings.values import Closed
from settings.workload import Metrics, Monitoring, StageOut

__all__ = [
    "Accounting", "AmazonSite", "AzureSite", "CloudSite", "ExistingSite", "GoogleSite", "Images", "Ledger",
    "Metrics", "Monitoring", "Portal", "Series", "Settings", "Site", "StageOut", "load",
]  # fmt: skip


class Settings(Closed):
    """All that a stack says, checked."""

    images: Images
    sites: tuple[Site, ...]
    portal: Portal | None = None


def load() -> Settings:
    """The settings of the running stack.

    Raises:
        pulumi.RunError: one sentence for each mistake in them; the engine prints it without a traceback.
    """
    config = pulumi.Config()
    secret = any(pulumi.runtime.is_config_secret(config.full_key(key)) for key in ("sites", "defaults"))
    images, found = images_of(config.get("images"), pulumi.get_stack())
    sites, more = sites_of(config.get("sites"), config.get("defaults"), secret=secret)
    portal, others = portal_of(config.get("portal"), sites)
    if found or more or others or images is None:
        told = [f"Pulumi.{pulumi.get_stack()}.yaml cannot be used:", *found, *more, *others]
        raise pulumi.RunError("\n".join(told))
    return Settings(images=images, sites=sites, portal=portal)
