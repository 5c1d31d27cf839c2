"""Amazon's bill, by Cost Explorer: by usage type and pool, day by day. Each page costs a cent."""

import hashlib
import hmac
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from services.accounting.collectors.source import Caller, Pages, day_from
from services.accounting.money import Refused, micros
from services.accounting.rows import Basis, Row, key_meter

NAME = "aws"
# The one region in which Cost Explorer is.
API = "https://ce.us-east-1.amazonaws.com/"
REGION = "us-east-1"
TARGET = "AWSInsightsIndexService.GetCostAndUsage"
CONTENT = "application/x-amz-json-1.1"
POOL_TAG = "atlas-sites-pool"
SITE_TAG = "atlas-sites-site"
# Where a pod's service-account token is on EKS, and who gives keys for it.
TOKEN_FILE = Path("/var/run/secrets/eks.amazonaws.com/serviceaccount/token")
STS = "https://sts.amazonaws.com/"
_METRICS = {Basis.ACTUAL: "UnblendedCost", Basis.AMORTISED: "AmortizedCost"}


@dataclass(frozen=True, kw_only=True)
class Keys:
    """What a request is signed with; `token` is what goes with keys that end."""

    identifier: str
    secret: str
    token: str = ""


class Aws:
    """The bill of a site on AWS."""

    name = NAME
    bases: Sequence[Basis] = tuple(_METRICS)

    def __init__(
        self,
        keys: Callable[[], Keys],
        site: str,
        *,
        api: str = API,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        """Makes a reader.

        Args:
            keys: of who may call ce:GetCostAndUsage.
            site: the value of the cost allocation tag atlas-sites-site.
            api: where Cost Explorer is.
            clock: the time of day.
            sleep: waits for seconds.
        """
        self._site = site
        self._api = api
        self._caller = Caller(
            NAME,
            headers=lambda body, url: signed(keys(), body, url, clock()),
            permission="allow the accounting's role ce:GetCostAndUsage",
            **({} if sleep is None else {"sleep": sleep}),
        )

    def pages(self, basis: Basis, first: date, last: date) -> Iterator[Sequence[Row]]:
        """The rows of some days; as `Source` has it."""
        metric = _METRICS[basis]
        asked: dict[str, Any] = {
            "TimePeriod": {"Start": first.isoformat(), "End": (last + timedelta(days=1)).isoformat()},
            "Granularity": "DAILY",
            "Metrics": [metric],
            "GroupBy": [{"Type": "DIMENSION", "Key": "USAGE_TYPE"}, {"Type": "TAG", "Key": POOL_TAG}],
            "Filter": {"Tags": {"Key": SITE_TAG, "Values": [self._site], "MatchOptions": ["EQUALS"]}},
        }
        follow = Pages(NAME)
        while True:
            answer = self._caller.call("POST", self._api, asked)
            yield _rows(answer, metric)
            onward = answer.get("NextPageToken")
            if not onward:
                return
            asked = {**asked, "NextPageToken": follow.follow(str(onward))}


def _rows(answer: Mapping[str, Any], metric: str) -> list[Row]:
    found = []
    try:
        for result in answer["ResultsByTime"]:
            day = day_from(result["TimePeriod"]["Start"], NAME)
            for group in result["Groups"]:
                usage, tag = group["Keys"]
                pool = tag.partition("$")[2]
                amount = group["Metrics"][metric]
                found.append(
                    Row(
                        day=day,
                        meter=key_meter(usage, pool),
                        currency=str(amount["Unit"]),
                        micros=micros(amount["Amount"]),
                        pool=pool,
                        service="AWS",
                    )
                )
    except (KeyError, TypeError, ValueError) as error:
        raise Refused("BillUnreadable", f"{NAME}: the answer lacks what it should have ({error!r})") from None
    return found


def signed(keys: Keys, body: bytes, url: str, now: datetime) -> dict[str, str]:
    """The headers of a request, signed by Signature Version 4."""
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{REGION}/ce/aws4_request"
    headers = {"content-type": CONTENT, "host": urlsplit(url).netloc, "x-amz-date": stamp, "x-amz-target": TARGET}
    if keys.token:
        headers["x-amz-security-token"] = keys.token
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    request = f"POST\n{urlsplit(url).path or '/'}\n\n{lines}\n{names}\n{hashlib.sha256(body).hexdigest()}"
    digest = hashlib.sha256(request.encode()).hexdigest()
    key = f"AWS4{keys.secret}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}".encode(), hashlib.sha256).hexdigest()
    credential = f"AWS4-HMAC-SHA256 Credential={keys.identifier}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {**headers, "Authorization": credential}


def web_identity(role: str, *, token: Path = TOKEN_FILE, api: str = STS) -> Keys:
    """Keys for an hour that a pod's service account on EKS may ask for (IRSA).

    Args:
        role: ARN of the role to take.
        token: the pod's own, of its service account.
        api: where STS is.

    Raises:
        Refused: there is no token here, or the role does not trust the account.
    """
    try:
        text = token.read_text().strip()
    except OSError:
        raise Refused(
            "PermissionMissing", f"{NAME}: the pod has no identity; set accounting.bill.identity to a role's ARN"
        ) from None
    asked = {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": "2011-06-15",
        "RoleArn": role,
        "RoleSessionName": "atlas-sites-accounting",
        "WebIdentityToken": text,
    }
    caller = Caller(
        NAME, headers=lambda _body, _url: {"Accept": "application/json"}, permission=f"let {role} trust the account"
    )
    try:
        answer = caller.call("POST", f"{api}?{urlencode(asked)}")
        found = answer["AssumeRoleWithWebIdentityResponse"]["AssumeRoleWithWebIdentityResult"]["Credentials"]
        return Keys(identifier=found["AccessKeyId"], secret=found["SecretAccessKey"], token=found["SessionToken"])
    except KeyError as error:
        raise Refused("BillUnreadable", f"{NAME}: what STS answers lacks {error}") from None
    finally:
        caller.close()
