"""The numbers of a comparison: means over seeds, and the differences that matter with their intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ipad_train.bootstrap import Difference, paired_difference
from ipad_train.evaluate import VALUES
from ipad_train.run_results import NOT_USED

Precisions = dict[str, np.ndarray]  # row -> (Q,) AP of each query, in [0, 1]


def differences(results: Sequence[Mapping[str, Any]], precisions: Sequence[Precisions]) -> list[Difference]:
    """Fused against the better branch and the lens, IP-SP against CSN, what is delivered against the lens, without the
    probabilities of values in it, and re-ranked.

    Args:
        results: Of each seed, over the same queries.
        precisions: Of each seed, by the names of its rows.

    Pairs of which a row is missing in some seed are left out.
    """
    branches = [name for name in ("IP-SP", "IP-SE") if all(name in mine for mine in precisions)]
    pairs = [("IP-SP", "CSN mask"), ("fused", "lens")]
    if branches:
        mean = {name: float(np.mean([mine[name].mean() for mine in precisions])) for name in branches}
        pairs.insert(0, ("fused", max(branches, key=mean.get)))
    found = [
        paired_difference((first, second), _stack(precisions, first), _stack(precisions, second))
        for first, second in pairs
        if all(first in mine and second in mine for mine in precisions)
    ]
    delivered = [mine[result["delivered"]] for result, mine in zip(results, precisions, strict=True)]
    final = [mine[result["final"]] for result, mine in zip(results, precisions, strict=True)]
    if all("lens" in mine for mine in precisions):
        found.append(paired_difference(("delivered", "lens"), np.stack(delivered), _stack(precisions, "lens")))
    plain = [result["delivered"].removesuffix(VALUES) for result in results]
    if any(name != result["delivered"] for name, result in zip(plain, results, strict=True)):
        before = [mine[name] for name, mine in zip(plain, precisions, strict=True)]
        found.append(paired_difference(("with values", "without"), np.stack(delivered), np.stack(before)))
    if any(result["final"] != result["delivered"] for result in results):
        found.append(paired_difference(("re-ranked", "not re-ranked"), np.stack(final), np.stack(delivered)))
    return found


def add_differences(results: dict[str, Any], precisions: Sequence[Precisions], against: str | None) -> None:
    """Give every row its ``difference`` to the row ``against``, by paired bootstrap, where all seeds have both.

    Args:
        results: Of one seed, or the means of several; ``against`` is noted in them.
        precisions: Of each seed, by the names of its rows.
        against: None takes differences of before away.

    Raises:
        ValueError: no seed has such a row; those that there are are named.
    """
    results["against"] = against
    named = [{_common(name): values for name, values in mine.items()} for mine in precisions]
    if against is not None and not any(against in mine for mine in named):
        raise ValueError(f"against must be a row of the table: {', '.join(named[0])}; got {against!r}")
    for row in results["rows"]:
        row.pop("difference", None)
        name = _common(row["name"])
        if against is not None and name != against and all({name, against} <= set(mine) for mine in named):
            pair = paired_difference((name, against), _stack(named, name), _stack(named, against))
            row["difference"] = {"mean": pair.mean, "low": pair.low, "high": pair.high}


def mean_results(results: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> dict[str, Any]:
    """One table of several seeds' comparisons.

    A row that some seeds lack is the mean of those that have it. A re-ranking that a seed does not use counts as what it
    leaves.

    Returns:
        ``{"split", "queries", "seeds", "rows", "final", "delivered", "localization", "random_localization", "seconds",
        "device", "beta", "dataset", "models", "budget"}``; each row has ``seeds``, its overall MAP by seed (None where it
        lacks the row), and ``stuck``, by attribute the number of seeds in which it stayed at chance.
    """
    tables = [{_common(row["name"]): row for row in result["rows"]} for result in results]
    names = _merged(tables)
    rows = []
    for name in names:
        mine = [table[name] for table in tables if name in table]
        rows.append(
            {
                "name": name,
                "overall": _mean(row["overall"] for row in mine),
                "macro": _mean(row["macro"] for row in mine),
                "attributes": _mean_by_key([row["attributes"] for row in mine]),
                "seeds": [table[name]["overall"] if name in table else None for table in tables],
                "stuck": dict(Counter(attribute for row in mine for attribute in row["stuck"])),
                **({"costs": _mean_costs([row["costs"] for row in mine])} if "costs" in mine[0] else {}),
                **({"paper": mine[0]["paper"]} if "paper" in mine[0] else {}),
            }
        )
    betas = [result["beta"] for result in results if result["beta"] is not None]
    return {
        "split": results[0]["split"],
        "queries": results[0]["queries"],
        "seeds": list(seeds),
        "rows": rows,
        "final": _most_common(result["final"] for result in results),
        "delivered": _most_common(result["delivered"] for result in results),
        "localization": _mean_by_key([r["localization"] for r in results if r["localization"]]) or None,
        "random_localization": results[0]["random_localization"],
        "beta": _mean(betas) if betas else None,
        "seconds": sum(result["seconds"] for result in results),
        "device": results[0]["device"],
        **{key: results[0][key] for key in ("dataset", "models", "budget") if key in results[0]},
    }


def _merged(tables: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of all tables, each where its own table has it: before the next name that is known."""
    names: list[str] = []
    for table in tables:
        place = len(names)
        for name in reversed(table):
            if name in names:
                place = names.index(name)
            else:
                names.insert(place, name)
    return names


def _common(name: str) -> str:
    return name.removesuffix(NOT_USED)


def _most_common(names: Any) -> str:
    return Counter(map(_common, names)).most_common(1)[0][0]


def _stack(precisions: Sequence[Precisions], name: str) -> np.ndarray:
    return np.stack([mine[name] for mine in precisions])


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))


def _mean_costs(costs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sizes are those of the first seed, times the mean of those that measured them."""
    mean = dict(costs[0])
    for key in ("milliseconds", "images_per_second"):
        known = [cost[key] for cost in costs if cost.get(key) is not None]
        mean[key] = _mean(known) if known else None
    return mean


def _mean_by_key(tables: Sequence[Mapping[str, float]]) -> dict[str, float]:
    keys = dict.fromkeys(key for table in tables for key in table)
    return {key: _mean(table[key] for table in tables if key in table) for key in keys}
