"""Where payloads put what they made: nobody is let in who does not say who he is, and nothing is sent in clear."""

from collections.abc import Iterator

from pulumi_policy import ResourceValidationArgs, Severity

from rules.clouds import AZURE_CONTAINER, AZURE_STORAGE
from rules.rule import rule

OLD_TLS = frozenset({"TLS1_0", "TLS1_1"})
# What Azure takes for true where a stack does not say.
DOORS = {
    "allowBlobPublicAccess": "lets containers be read by everybody",
    "allowSharedKeyAccess": "lets in whoever has its key, which never ends",
}


def _check(args: ResourceValidationArgs) -> Iterator[str]:
    props = args.props
    if args.resource_type == AZURE_CONTAINER:
        if props.get("publicAccess", "None") != "None":
            yield f"{args.name} can be read by everybody"
        return
    for key, what in DOORS.items():
        if props.get(key) is not False:
            yield f"{args.name} {what}: {key} is not false"
    if props.get("enableHttpsTrafficOnly") is False:
        yield f"{args.name} may be spoken to in clear"
    if props.get("minimumTlsVersion") is None or props["minimumTlsVersion"] in OLD_TLS:
        yield f"{args.name} takes versions of TLS that are broken"


RULES = (
    rule(
        name="no-open-storage",
        description="A storage lets nobody in by a key or without a name, and nothing is sent to it in clear.",
        severity=Severity.CRITICAL,
        remedy="Let identities in, by TLS 1.2 or later.",
        kinds={AZURE_STORAGE, AZURE_CONTAINER},
        check=_check,
    ),
)
