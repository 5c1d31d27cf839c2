"""Money as whole millionths of a currency, so that sums are exact in whatever order they are made. Pure."""

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import TypeVar

MICROS = 1_000_000
# SQLite's integers; a sum of a billion rows of a thousand million each would still fit.
_LARGEST = 2**63 - 1
# ISO 4217, without funds, metals and what is there for tests.
CURRENCIES = frozenset(
    """
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CLP
    CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR
    ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT
    MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD
    SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED VES
    VND VUV WST XAF XCD XOF XPF YER ZAR ZMW ZWG
    """.split()  # noqa: SIM905  a line for each code says no more
)

Part = TypeVar("Part")


class Refused(Exception):
    """What a bill, or a stack, says cannot be used: nothing of it was taken.

    Attributes:
        reason: one word in camel case, for metrics.
    """

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


def micros(amount: object) -> int:
    """An amount of a currency in millionths of it, rounded half to even.

    Args:
        amount: a number, or a text that is one; a binary fraction counts as the shortest decimal that names it.

    Raises:
        Refused: it is no number, or too large.
    """
    if isinstance(amount, bool) or not isinstance(amount, int | float | str | Decimal):
        raise Refused("AmountUnreadable", f"an amount is {amount!r}; a number is needed")
    try:
        exact = Decimal(str(amount))
        scaled = int((exact * MICROS).to_integral_value(ROUND_HALF_EVEN)) if exact.is_finite() else None
    except InvalidOperation:
        scaled = None
    if scaled is None or abs(scaled) > _LARGEST:
        raise Refused("AmountUnreadable", f"an amount is {amount!r}; a number is needed")
    return scaled


def currency(text: object) -> str:
    """The code of a currency.

    Raises:
        Refused: nobody has such a currency.
    """
    code = str(text).upper()
    if code not in CURRENCIES:
        raise Refused("CurrencyUnknown", f"the currency is {text!r}; a code of ISO 4217 is needed, as in EUR")
    return code


def shown(amount: int) -> str:
    """An amount as people read it, to the hundredth; nothing is rounded that is stored."""
    return f"{Decimal(amount) / MICROS:.2f}"


def split(amount: int, weights: Mapping[Part, int]) -> dict[Part, int]:
    """Divides an amount in proportion, to the last millionth: the parts add up to it exactly.

    Args:
        amount: to divide, in millionths; it may be negative.
        weights: of each part; with none above 0 nothing is divided.
    """
    whole = sum(weights.values())
    if whole <= 0:
        return {}
    parts = {part: amount * weight // whole for part, weight in weights.items()}
    # What is left is less than one millionth a part; those with the largest remainders get it, the first ones first.
    left = amount - sum(parts.values())
    by_remainder = sorted(weights, key=lambda part: -(amount * weights[part] % whole))
    for part in by_remainder[:left]:
        parts[part] += 1
    return parts
