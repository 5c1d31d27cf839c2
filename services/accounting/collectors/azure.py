"""Azure's bill, by Cost Management's query API: a site's two resource groups by meter and pool, day by day."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from urllib.parse import urlsplit

from azure.core.credentials import TokenCredential
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError
from azure.core.pipeline.policies import RetryPolicy
from azure.core.rest import HttpRequest
from azure.mgmt.costmanagement import CostManagementClient
from azure.mgmt.costmanagement.models import (
    QueryAggregation,
    QueryComparisonExpression,
    QueryDataset,
    QueryDefinition,
    QueryFilter,
    QueryGrouping,
    QueryResult,
    QueryTimePeriod,
)

from services.accounting.collectors.source import (
    ATTEMPTS,
    CALL_SECONDS,
    LONGEST_PAUSE_SECONDS,
    Pages,
    day_from,
    retry_after,
)
from services.accounting.money import Refused, micros
from services.accounting.rows import Basis, Row, key_meter

NAME = "azure"
API = "https://management.azure.com"
POOL_TAG = "atlas-sites-pool"
# More days at once are cut off without a word.
DAYS_MAX = 31
# A query changes nothing, though it is a POST.
_ASKED_AGAIN: Mapping[str, Any] = {"retry_on_methods": ["POST"]}
_TYPES = {Basis.ACTUAL: "ActualCost", Basis.AMORTISED: "AmortizedCost"}


class Patience(RetryPolicy[Any, Any]):
    """Waits as long as Cost Management asks for: it counts by entity, by tenant and by units, each with its header."""

    def is_retry(self, settings: Any, response: Any) -> bool:  # noqa: ANN401  of the SDK
        """Whether it is worth waiting; what takes longer is left to the next turn of the loop."""
        return retry_after(response.http_response.headers) <= LONGEST_PAUSE_SECONDS and super().is_retry(
            settings, response
        )

    def get_retry_after(self, response: Any) -> float | None:  # noqa: ANN401  of the SDK
        """Seconds; the longest of all."""
        return retry_after(response.http_response.headers) or super().get_retry_after(response)


class Azure:
    """The bill of a site on Azure."""

    name = NAME
    bases: Sequence[Basis] = tuple(_TYPES)

    def __init__(
        self,
        credential: TokenCredential,
        subscription: str,
        groups: Sequence[str],
        *,
        api: str = API,
        **options: Any,  # noqa: ANN401  of the SDK
    ) -> None:
        """Makes a reader.

        Args:
            credential: of who has the role Cost Management Reader in the subscription.
            subscription: its UUID.
            groups: resource groups that are the site's: its own, and that of its nodes.
            api: where Azure Resource Manager is.
            options: of the SDK's client.
        """
        self._scope = f"/subscriptions/{subscription}"
        self._groups = list(groups)
        self._api = urlsplit(api)
        self._client = CostManagementClient(
            credential,
            base_url=api,
            retry_policy=Patience(retry_total=ATTEMPTS - 1, retry_status=ATTEMPTS - 1),
            connection_timeout=30,
            read_timeout=CALL_SECONDS,
            **options,
        )

    def pages(self, basis: Basis, first: date, last: date) -> Iterator[Sequence[Row]]:
        """The rows of some days; as `Source` has it."""
        while first <= last:
            end = min(last, first + timedelta(days=DAYS_MAX - 1))
            yield from self._window(basis, first, end)
            first = end + timedelta(days=1)

    def _window(self, basis: Basis, first: date, last: date) -> Iterator[Sequence[Row]]:
        asked = self._definition(basis, first, last)
        follow = Pages(NAME)
        result = self._ask(asked)
        while result is not None:
            properties: Mapping[str, Any] = result.get("properties") or {}
            yield rows_of(properties)
            onward = properties.get("nextLink")
            result = self._ask(asked, follow.follow(onward)) if onward else None

    def _definition(self, basis: Basis, first: date, last: date) -> QueryDefinition:
        return QueryDefinition(
            type=_TYPES[basis],
            timeframe="Custom",
            time_period=QueryTimePeriod(
                from_property=datetime.combine(first, time.min, UTC), to=datetime.combine(last, time(23, 59, 59), UTC)
            ),
            dataset=QueryDataset(
                granularity="Daily",
                aggregation={"totalCost": QueryAggregation(name="Cost", function="Sum")},
                grouping=[
                    QueryGrouping(type="Dimension", name="Meter"),
                    QueryGrouping(type="TagKey", name=POOL_TAG),
                ],
                filter=QueryFilter(
                    dimensions=QueryComparisonExpression(
                        name="ResourceGroupName", operator="In", values_property=self._groups
                    )
                ),
            ),
        )

    def _ask(self, asked: QueryDefinition, onward: str | None = None) -> Mapping[str, Any] | None:
        """One page; None for an answer without content.

        Raises:
            Refused: there is none.
        """
        try:
            if onward is None:
                first: QueryResult | None = self._client.query.usage(self._scope, asked, **_ASKED_AGAIN)
                return first
            response = self._client.send_request(
                HttpRequest("POST", self._own(onward), json=asked.as_dict()), **_ASKED_AGAIN
            )
            response.raise_for_status()
            answer = response.json()
        except ClientAuthenticationError as error:
            raise _denied(error) from None
        except HttpResponseError as error:
            if error.status_code in {401, 403}:
                raise _denied(error) from None
            reason = "BillUnreachable" if error.status_code in {408, 429} or (error.status_code or 500) >= 500 else ""
            raise Refused(reason or "BillRefused", f"{NAME}: Cost Management says no ({_said(error)})") from None
        except (AzureError, ValueError) as error:
            raise Refused("BillUnreachable", f"{NAME}: Cost Management cannot be asked ({_said(error)})") from None
        return answer if isinstance(answer, dict) else {}

    def _own(self, onward: str) -> str:
        """The link to the next page, if it leads where our token may go."""
        there = urlsplit(onward)
        if (there.scheme, there.netloc) != (self._api.scheme, self._api.netloc):
            raise Refused("BillUnreadable", f"{NAME}: the next page is said to be at {there.netloc}; nothing is taken")
        return onward


def rows_of(properties: Mapping[str, Any]) -> list[Row]:
    """The rows of a page: columns are found by their names, since their order is nobody's promise.

    Raises:
        Refused: a column is missing, or a value cannot be used.
    """
    columns = [column.get("name") for column in properties.get("columns") or ()]
    lines = properties.get("rows") or ()
    missing = [name for name in ("Cost", "UsageDate", "Meter", "TagValue", "Currency") if name not in columns]
    if lines and missing:
        raise Refused("BillUnreadable", f"{NAME}: the bill has no column {missing[0]}; it has {', '.join(columns)}")
    return [_row(dict(zip(columns, line, strict=True))) for line in lines]


def _row(line: Mapping[str, Any]) -> Row:
    pool = line["TagValue"] or ""
    return Row(
        day=day_from(line["UsageDate"], NAME),
        meter=key_meter(str(line["Meter"]), pool),
        currency=str(line["Currency"]),
        micros=micros(line["Cost"]),
        pool=pool,
        service="Azure",
    )


def _denied(error: AzureError) -> Refused:
    return Refused(
        "PermissionMissing",
        f"{NAME}: the bill may not be read ({_said(error)}); give the accounting's identity the role Cost Management "
        "Reader in the subscription",
    )


def _said(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
