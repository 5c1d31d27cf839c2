"""What a query of Prometheus asks for, by a parser of its language."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import promql_parser as promql


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One metric in a query.

    Attributes:
        metric: its name.
        labels: by which it is picked, or which the query keeps, joins or drops.
    """

    metric: str
    labels: frozenset[str]


def asked(query: str) -> list[Asked]:
    """Each metric that a query names, with the labels that it must have for the query to mean something."""
    return list(_walk(promql.parse(query), frozenset()))


def _walk(node: Any, kept: frozenset[str]) -> Iterator[Asked]:
    match node:
        case promql.VectorSelector():
            yield Asked(metric=node.name or "", labels=kept | {matcher.name for matcher in node.matchers.matchers})
        case promql.MatrixSelector():
            yield from _walk(node.vector_selector, kept)
        case promql.AggregateExpr():
            labels = frozenset(node.modifier.labels) if node.modifier else frozenset()
            # What is not kept here cannot be needed by what is around it: that would be another mistake, found there.
            yield from _walk(node.expr, kept | labels)
        case promql.BinaryExpr():
            matching = node.modifier.matching if node.modifier else None
            labels = frozenset(matching.labels) if matching else frozenset()
            yield from _walk(node.lhs, kept | labels)
            yield from _walk(node.rhs, kept | labels)
        case promql.Call():
            for argument in node.args:
                yield from _walk(argument, kept)
        case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            yield from _walk(node.expr, kept)
        case promql.NumberLiteral() | promql.StringLiteral():
            pass
        case _:
            raise AssertionError(f"a kind of expression that nobody has thought of: {node!r}")
