"""The numbers of a comparison: means over seeds, and the differences that matter with their intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ipad_train.bootstrap import Difference, paired_difference

Precisions = dict[str, np.ndarray]  # row -> (Q,) AP of each query, in [0, 1]
_NOT_USED = " (not used)"


def differences(results: Sequence[Mapping[str, Any]], precisions: Sequence[Precisions]) -> list[Difference]:
    """Fused against the better branch and the lens, IP-SP against CSN, what is delivered against the lens and re-ranked.

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
    if any(result["final"] != result["delivered"] for result in results):
        found.append(paired_difference(("re-ranked", "not re-ranked"), np.stack(final), np.stack(delivered)))
    return found


def mean_results(results: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> dict[str, Any]:
    """One table of several seeds' comparisons.

    A row that some seeds lack is the mean of those that have it. A re-ranking that a seed does not use counts as what it
    leaves.

    Returns:
        ``{"split", "queries", "seeds", "rows", "final", "delivered", "localization", "random_localization", "seconds",
        "device", "beta"}``; each row has ``seeds``, its overall MAP by seed (None where it lacks the row), and ``stuck``,
        by attribute the number of seeds in which it stayed at chance.
    """
    tables = [{_common(row["name"]): row for row in result["rows"]} for result in results]
    names = list(dict.fromkeys(name for table in tables for name in table))
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
            }
        )
    betas = [result["beta"] for result in results if result["beta"] is not None]
    return {
        "split": results[0]["split"], "queries": results[0]["queries"], "seeds": list(seeds), "rows": rows,
        "final": _most_common(result["final"] for result in results),
        "delivered": _most_common(result["delivered"] for result in results),
        "localization": _mean_by_key([r["localization"] for r in results if r["localization"]]) or None,
        "random_localization": results[0]["random_localization"], "beta": _mean(betas) if betas else None,
        "seconds": sum(result["seconds"] for result in results), "device": results[0]["device"],
    }  # fmt: skip


def _common(name: str) -> str:
    return name.removesuffix(_NOT_USED)


def _most_common(names: Any) -> str:
    return Counter(map(_common, names)).most_common(1)[0][0]


def _stack(precisions: Sequence[Precisions], name: str) -> np.ndarray:
    return np.stack([mine[name] for mine in precisions])


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))


def _mean_by_key(tables: Sequence[Mapping[str, float]]) -> dict[str, float]:
    keys = dict.fromkeys(key for table in tables for key in table)
    return {key: _mean(table[key] for table in tables if key in table) for key in keys}
