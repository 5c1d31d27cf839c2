"""Google's bill, by its export to BigQuery: one query for each reading, by SKU and pool, day by day.

The export has a line for each hour and resource; BigQuery adds them up, in its exact NUMERIC. A day of Google's bill is
one of Pacific time; we ask for days of UTC by when the usage began.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from services.accounting.collectors.source import Caller, Pages, day_from
from services.accounting.money import Refused, micros
from services.accounting.rows import Basis, Row, key_meter

NAME = "google"
API = "https://bigquery.googleapis.com"
# Within a pod on GKE, or wherever Google's metadata server is; nothing else tells a workload's token.
METADATA = "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token"
WAIT_MILLISECONDS = 60_000
PAGE_ROWS = 5000
# The export writes credits beside the cost that they lower, as negative amounts.
QUERY = """
SELECT FORMAT_DATE('%Y%m%d', DATE(usage_start_time, 'UTC')) AS day, service.description AS service,
       CONCAT(sku.description, ' (', sku.id, ')') AS meter, currency,
       IFNULL((SELECT value FROM UNNEST(labels) WHERE key = 'atlas-sites-pool' LIMIT 1), '') AS pool,
       CAST(SUM(CAST(cost AS NUMERIC)
                + IFNULL((SELECT SUM(CAST(c.amount AS NUMERIC)) FROM UNNEST(credits) c), 0)) AS STRING) AS cost
FROM `{table}`
WHERE usage_start_time >= TIMESTAMP(@first, 'UTC')
  AND usage_start_time < TIMESTAMP_ADD(TIMESTAMP(@last, 'UTC'), INTERVAL 1 DAY)
  AND EXISTS (SELECT 1 FROM UNNEST(labels) WHERE key = 'atlas-sites-site' AND value = @site)
GROUP BY day, service, meter, currency, pool
ORDER BY day, meter, currency, pool
"""
_COLUMNS = ("day", "service", "meter", "currency", "pool", "cost")


class Google:
    """The bill of a site on Google Cloud.

    Its export tells what was billed, credits within; what is spread over a commitment's time it does not.
    """

    name = NAME
    bases: Sequence[Basis] = (Basis.ACTUAL,)

    def __init__(
        self,
        token: Callable[[], str],
        table: str,
        site: str,
        *,
        api: str = API,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        """Makes a reader.

        Args:
            token: an access token of who may read the table and run queries.
            table: the export's, as project.dataset.table.
            site: the value of the label atlas-sites-site.
            api: where BigQuery is.
            sleep: waits for seconds.
        """
        project = table.partition(".")[0]
        self._queries = f"{api}/bigquery/v2/projects/{project}/queries"
        self._table = table
        self._site = site
        self._caller = Caller(
            NAME,
            headers=lambda _body, _url: {"Authorization": f"Bearer {token()}", "Content-Type": "application/json"},
            permission="give the accounting's service account the roles BigQuery Job User and, on the export's "
            "dataset, BigQuery Data Viewer",
            **({} if sleep is None else {"sleep": sleep}),
        )

    def pages(self, basis: Basis, first: date, last: date) -> Iterator[Sequence[Row]]:
        """The rows of some days; as `Source` has it."""
        if basis not in self.bases:
            raise ValueError(basis)
        answer = self._caller.call("POST", self._queries, self._request(first, last))
        follow, empty = Pages(NAME), 0
        while True:
            complete = bool(answer.get("jobComplete"))
            if complete:
                yield _rows(answer)
            onward = str(answer.get("pageToken") or "")
            if complete and not onward:
                return
            if not complete:
                empty += 1
                if empty > 10:
                    raise Refused("BillUnreachable", f"{NAME}: BigQuery is not done after {empty} minutes; later again")
            where = answer.get("jobReference") or {}
            page = f"&pageToken={follow.follow(onward)}" if onward else ""
            answer = self._caller.call(
                "GET",
                f"{self._queries}/{where.get('jobId')}?location={where.get('location', '')}"
                f"&timeoutMs={WAIT_MILLISECONDS}&maxResults={PAGE_ROWS}{page}",
            )

    def _request(self, first: date, last: date) -> dict[str, Any]:
        values = {"first": first.isoformat(), "last": last.isoformat(), "site": self._site}
        return {
            "query": QUERY.format(table=self._table),
            "useLegacySql": False,
            "timeoutMs": WAIT_MILLISECONDS,
            "maxResults": PAGE_ROWS,
            "parameterMode": "NAMED",
            "queryParameters": [
                {"name": name, "parameterType": {"type": "STRING"}, "parameterValue": {"value": value}}
                for name, value in values.items()
            ],
        }


def _rows(answer: Mapping[str, Any]) -> list[Row]:
    fields = [field.get("name") for field in (answer.get("schema") or {}).get("fields") or ()]
    lines = answer.get("rows") or ()
    missing = [name for name in _COLUMNS if name not in fields]
    if lines and missing:
        raise Refused("BillUnreadable", f"{NAME}: the answer has no column {missing[0]}")
    found = []
    for line in lines:
        values = dict(zip(fields, (cell.get("v") for cell in line["f"]), strict=True))
        pool = str(values["pool"] or "")
        found.append(
            Row(
                day=day_from(values["day"], NAME),
                meter=key_meter(str(values["meter"]), pool),
                currency=str(values["currency"]),
                micros=micros(values["cost"]),
                pool=pool,
                service=str(values["service"] or ""),
            )
        )
    return found


def metadata_token(url: str = METADATA) -> str:
    """An access token from Google's metadata server.

    Raises:
        Refused: there is none here.
    """
    caller = Caller(
        NAME,
        headers=lambda _body, _url: {"Metadata-Flavor": "Google"},
        permission="bind the pod's account to a Google service account (Workload Identity)",
    )
    try:
        return str(caller.call("GET", url).get("access_token"))
    finally:
        caller.close()
