"""The server of each model: its states, and the transitions to ready, asleep and stopped.

Read ``states`` first (the table of states and triggers), then ``process`` (how a model reaches a
goal) and ``transition`` (the greenlet that performs it, and what interrupts it). ``control`` makes
the calls to the server (sleep, wake), ``health`` waits until it responds, ``facts`` queries and
remembers its context and modalities, ``voices`` its voices. ``canary`` asks a short question whose
answer shows whether it still works, ``checks`` decides when, and remembers what to expect.
``promptcache`` keeps over swaps what llama-server has read: ``slots`` makes the calls,
``promptplaces`` and ``promptfiles`` say where.
``readahead`` reads the files of the model that loads next.
"""

from llmsnap.models.checks import ServerChecks
from llmsnap.models.control import LOOPBACK, Address, metrics_page, parse_address
from llmsnap.models.facts import Context, Facts, KnownFacts, definition_of
from llmsnap.models.process import Process
from llmsnap.models.progress import LoadState
from llmsnap.models.promptcache import PromptCaches, PromptSummary
from llmsnap.models.promptfiles import PromptFiles
from llmsnap.models.promptplaces import folder_of, model_key, stores
from llmsnap.models.readahead import ReadAhead, ReadAheadTarget
from llmsnap.models.states import (
    MOVING,
    RESIDENT,
    State,
    Trigger,
)
from llmsnap.models.voices import Voices

__all__ = [
    "LOOPBACK",
    "MOVING",
    "RESIDENT",
    "Address",
    "Context",
    "Facts",
    "KnownFacts",
    "LoadState",
    "Process",
    "PromptCaches",
    "PromptFiles",
    "PromptSummary",
    "ReadAhead",
    "ReadAheadTarget",
    "ServerChecks",
    "State",
    "Trigger",
    "Voices",
    "definition_of",
    "folder_of",
    "metrics_page",
    "model_key",
    "parse_address",
    "stores",
]
