"""Networks that a user registered, on their way to the workers.

Enters, in the driver: the names of a run's students. Leaves, in a worker: those names registered
there too, so that a network of a script or a notebook needs no package. The functions travel by
Ray's pickling: by value if they are of ``__main__``, else as the module to import them from.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from raymd.models import names, registry
from raymd.models.entry import ModelEntry


@dataclass(frozen=True)
class ShippedModel:
    """A registered network with what a worker needs to know of it.

    Attributes:
        entry: Its definition.
        facts: What recipes go by.
    """

    entry: ModelEntry
    facts: names.NameFacts


def shipped_models(students: Iterable[str]) -> list[ShippedModel]:
    """What workers need to know of these networks; nothing of raymd's own, timm's and functions.

    Args:
        students: Names as ``--students`` takes them.
    """
    own = [registry.registered(name) for name in dict.fromkeys(students)]
    return [
        ShippedModel(entry, names.facts(entry.name)) for entry in own if entry and entry.users_own
    ]


def adopt_models(models: Iterable[ShippedModel]) -> None:
    """Register what the driver sent, over what was registered by these names before."""
    for model in models:
        entry, facts = model.entry, model.facts
        names.add_model(entry.name, family=facts.family, batchnorm=facts.batchnorm)
        registry.adopt(entry)
