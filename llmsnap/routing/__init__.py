"""Which request is served when: names, the scheduler, and the driver that carries out decisions.

The scheduler is pure: events in, effects out. Read ``messages`` first (events, effects and the
contract between scheduler and driver), then ``scheduler`` (what each event leads to) with ``swaps``
(which swaps begin) and ``state`` (what is remembered, and every change of it). ``policies`` say
when a swap may begin, ``residency`` which models leave for it, ``timing`` what moves took and how
long failures are held against a model, ``pools`` which models leave a cluster that has no machine
free. ``explain`` makes views, reasons and errors of the state, ``preview`` says what a load would
do, ``sentences`` puts that and finished swaps into words, ``occupancy`` says what the devices of a
memory budget hold, and ``together`` what fits on them.
``budget`` makes that budget of the configuration and what was found and measured, ``yielding`` says
which idle models leave for memory that other programs take, and where there is no room to sleep.
``driver`` gives out leases and runs swaps in greenlets, ``barrier`` holds their loads until memory
is free, ``recording`` writes decisions down and replays them, ``names`` finds what serves the name
in a request, ``selectors`` chooses where that name has several targets.
"""

from llmsnap.routing.barrier import Barrier
from llmsnap.routing.budget import (
    Figures,
    FoundDevice,
    FoundNode,
    KnownSizes,
    Nodes,
    budget_of,
)
from llmsnap.routing.driver import Driver, Lease, Ticket
from llmsnap.routing.explain import ModelView
from llmsnap.routing.matrix import Matrix
from llmsnap.routing.memory import DECLARED, ESTIMATED, Memory, shown_size
from llmsnap.routing.messages import (
    NoRoomAsleep,
    Outcome,
    PreloadEnded,
    ResidencyChanged,
    StartSwap,
    SwapEnded,
    Yielded,
    change_of,
    pooled,
)
from llmsnap.routing.names import (
    LocalRoute,
    ModelRoute,
    Names,
    PeerRoute,
    Route,
    SelectorRoute,
)
from llmsnap.routing.occupancy import Occupancy
from llmsnap.routing.preview import memory_document, plan_document, when_document
from llmsnap.routing.recording import Recording, replay
from llmsnap.routing.residency import Residency
from llmsnap.routing.scheduler import Scheduler
from llmsnap.routing.selectors import Selection, Selectors, Standing, TargetView
from llmsnap.routing.sentences import said_of_request, said_of_swap
from llmsnap.routing.timing import DurationStats
from llmsnap.routing.together import fits_document, said_of_fits, said_of_sets, sets_document

__all__ = [
    "DECLARED",
    "ESTIMATED",
    "Barrier",
    "Driver",
    "DurationStats",
    "Figures",
    "FoundDevice",
    "FoundNode",
    "KnownSizes",
    "Lease",
    "LocalRoute",
    "Matrix",
    "Memory",
    "ModelRoute",
    "ModelView",
    "Names",
    "NoRoomAsleep",
    "Nodes",
    "Occupancy",
    "Outcome",
    "PeerRoute",
    "PreloadEnded",
    "Recording",
    "Residency",
    "ResidencyChanged",
    "Route",
    "Scheduler",
    "Selection",
    "SelectorRoute",
    "Selectors",
    "Standing",
    "StartSwap",
    "SwapEnded",
    "TargetView",
    "Ticket",
    "Yielded",
    "budget_of",
    "change_of",
    "fits_document",
    "memory_document",
    "plan_document",
    "pooled",
    "replay",
    "said_of_fits",
    "said_of_request",
    "said_of_sets",
    "said_of_swap",
    "sets_document",
    "shown_size",
    "when_document",
]
