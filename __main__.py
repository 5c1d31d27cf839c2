"""From what a stack says to its sites."""

import clusters
import hub
import outputs
import registering
import settings
from sites import Site

registering.collect_seldom()
stack = settings.load()
clusters.check(stack.sites)
sites = [registering.begun(Site(site, stack.images, stack.portal)) for site in stack.sites]
outputs.export(sites, hub.make(stack.portal, sites, stack.images))
