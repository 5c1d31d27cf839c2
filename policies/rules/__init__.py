"""What must be true of every stack, one concern a module; nothing here starts or declares anything.

A pack is run with its own directory first on the path, away from the program's modules, so what both must agree on is
written here once more, and a test compares it.
"""

from rules import clusters, exposure, images, keepalive, nodes, privilege, rbac, resources, secrets, spending, storage

RULES = (
    *privilege.RULES,
    *exposure.RULES,
    *rbac.RULES,
    *resources.RULES,
    *secrets.RULES,
    *keepalive.RULES,
    *images.RULES,
    *clusters.RULES,
    *nodes.RULES,
    *storage.RULES,
    *spending.RULES,
)
