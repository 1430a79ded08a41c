"""Residencies drawn at random: groups, matrices, memory budgets."""

from itertools import pairwise
from random import Random

from llmsnap.config import EvictCost, Expression, MatrixConfig, MatrixSet
from llmsnap.routing.matrix import Matrix
from llmsnap.routing.memory import Device, Memory, Need, Share
from llmsnap.routing.residency import Groups
from tests.routing.world import group


def expression(chance: Random, names: str, leaves: int) -> Expression:
    """Draw one with that many models at most; the same model may be in it more than once."""
    if leaves == 1 or chance.random() < 0.1:
        return Expression("model", chance.choice(names))
    count = chance.randint(2, min(4, leaves))
    cuts = sorted(chance.sample(range(1, leaves), count - 1))
    parts = tuple(expression(chance, names, b - a) for a, b in pairwise([0, *cuts, leaves]))
    op = chance.choice(["and", "and", "or", "or", "of", "of", "models"])
    if op == "models":  # some of different models: their combinations are counted, not searched
        count = chance.randint(2, len(names))
        parts = tuple(Expression("model", each) for each in chance.sample(names, count))
    if op in {"of", "models"}:
        return Expression("of", count=chance.randint(1, count), operands=parts)
    return Expression(op, operands=parts)


def any_matrix(chance: Random, names: str, leaves: int = 8, learns: float = 0.0) -> Matrix:
    """Draw one; some models may be in no set. *learns* is how likely its costs are learned."""
    sets = {
        f"s{number}": expression(chance, names, leaves) for number in range(chance.randint(1, 3))
    }
    if chance.random() < 0.3:
        refers = Expression("and", operands=(sets["s0"], Expression("set", "before")))
        sets = {"before": expression(chance, names, 3), **sets, "s0": refers}
    learns_costs = chance.random() < learns
    costed = [] if learns_costs else [name for name in names if chance.random() < 0.2]
    return Matrix(
        MatrixConfig(
            sets=tuple(MatrixSet(name, str(each), each) for name, each in sets.items()),
            costs=tuple(EvictCost(name, chance.randint(1, 3)) for name in costed),
            learns_costs=learns_costs,
        )
    )


def any_groups(chance: Random, names: str) -> Groups:
    """Draw groups; some models may be in none."""
    where = [chance.randint(0, 3) for _ in names]
    return Groups(
        group(
            f"g{number}",
            " ".join(name for name, place in zip(names, where, strict=True) if place == number),
            swap=chance.random() < 0.5,
            exclusive=chance.random() < 0.5,
            persistent=chance.random() < 0.5,
        )
        for number in range(3)
    )


def any_shares(chance: Random, most: int) -> tuple[Share, ...]:
    devices = chance.sample(["gpu0", "gpu1", "ram"], chance.randint(0, 2))
    return tuple(Share(each, chance.randint(1, most)) for each in devices)


def any_budget(chance: Random, names: str, *, obstacles: bool = True) -> Memory:
    """Draw a machine and what models take on it; some may never fit.

    *obstacles* are pinned models and other programs, for which others may wait without end.
    """
    others = chance.randint(0, 2) if obstacles else 0
    return Memory(
        [
            Device("gpu0", chance.randint(4, 12), others=others),
            Device("gpu1", chance.randint(4, 12), reserve=1),
            Device("ram", 20),
        ],
        [
            Need(
                name,
                any_shares(chance, 9),
                chance.choice([0, 0, 3]),
                asleep=(Share("ram", chance.randint(0, 4)),),
                is_known=chance.random() < 0.75,
                is_pinned=obstacles and chance.random() < 0.33,
                evict_cost=chance.choice([1.0, 5.0]),
                apart=chance.choice(["", "", "one"]),
            )
            for name in names
        ],
    )


def any_residency(chance: Random, names: str) -> Groups | Matrix | Memory:
    draw = chance.choice([any_groups, any_budget, any_budget, None])
    return draw(chance, names) if draw else any_matrix(chance, names, 6, learns=0.3)
