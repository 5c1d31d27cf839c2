"""From what a stack says to its sites."""

import clusters
import outputs
import settings
from sites import Site

stack = settings.load()
clusters.check(stack.sites)
outputs.export([Site(site, stack.images) for site in stack.sites])
