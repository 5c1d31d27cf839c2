"""From what a stack says to its sites."""

import outputs
import settings
from sites import Site

stack = settings.load()
outputs.export([Site(site, stack.images) for site in stack.sites])
