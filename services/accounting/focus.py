"""The ledger as other tools read it: CSV with the columns of FOCUS, the FinOps Open Cost and Usage Specification."""

import csv
from collections.abc import Iterable
from datetime import date, timedelta
from decimal import Decimal
from typing import IO, Any

from services.accounting.money import MICROS
from services.accounting.rows import Basis

# Of FOCUS 1.2, those that the ledger can fill; what begins with x_ is ours, as FOCUS has it.
COLUMNS = (
    "BilledCost", "EffectiveCost", "x_EstimatedCost", "BillingCurrency", "ChargePeriodStart", "ChargePeriodEnd",
    "ChargeCategory", "ProviderName", "ServiceName", "SkuMeter", "SubAccountId", "Tags", "x_Flag", "x_AsOf",
)  # fmt: skip
_COST = {Basis.ACTUAL: "BilledCost", Basis.AMORTISED: "EffectiveCost", Basis.ESTIMATED: "x_EstimatedCost"}


def write(rows: Iterable[dict[str, Any]], first: date, last: date, out: IO[str]) -> None:
    """Writes the rows of some days.

    A row of the ledger has one basis, so one of the three costs; the others are empty, and nobody adds them up.

    Args:
        rows: of the ledger.
        first: day.
        last: day, within.
        out: where to.
    """
    writer = csv.DictWriter(out, COLUMNS, restval="")
    writer.writeheader()
    for row in rows:
        day = date.fromisoformat(row["day"])
        if first <= day <= last:
            writer.writerow(
                {
                    _COST[Basis(row["basis"])]: f"{Decimal(row['micros']) / MICROS:f}",
                    "BillingCurrency": row["currency"],
                    "ChargePeriodStart": f"{day}T00:00:00Z",
                    "ChargePeriodEnd": f"{day + timedelta(days=1)}T00:00:00Z",
                    "ChargeCategory": "Credit" if row["micros"] < 0 else "Usage",
                    "ProviderName": row["source"],
                    "ServiceName": row["service"],
                    "SkuMeter": row["meter"],
                    "SubAccountId": row["site"],
                    "Tags": f'{{"atlas-sites-pool": "{row["pool"]}"}}' if row["pool"] else "",
                    "x_Flag": row["flag"],
                    "x_AsOf": row["as_of"],
                }
            )
