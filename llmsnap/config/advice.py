"""Advice about a configuration as a whole. Pure: independent of the machine."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from urllib.parse import urlsplit

from llmsnap.errors import Problem

from .loader import Loaded
from .matrix import needless, partners
from .model_settings import ModelConfig
from .nodes import Node, Path, Report, find_node, has_node, in_file_order
from .router import ROUTER, USE, Together
from .settings import Config
from .slots import command_words, is_llama_server, slot_folder

LAYER_OPTIONS = ("-ngl", "--gpu-layers", "--n-gpu-layers")
MOST_NAMES = 5
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def advice_on(loaded: Loaded) -> tuple[Problem, ...]:
    """Return all advice on a file that loads, in the order of the file."""
    report = Report()
    report.advice += loaded.advice
    advise(loaded.config, loaded.tree, report)
    return tuple(in_file_order(report.advice))


def advise(config: Config, tree: Node | None, report: Report) -> None:
    """Add advice to *report* that concerns several values of *config* together."""
    together = Together(config.groups, config.matrix, config.residency)
    for first, second in _sharing_a_port(config, together):
        path = ("models", second.id, "cmd")
        what = f'listens on port {local_port(second)} like model "{first.id}", and both may run'
        report.advise(path, what, "use ${PORT}, or a swap group", find_node(tree, path))
    for early, late in combinations(config.preload, 2):
        if together.evicts(late, early):
            path = ("hooks", "on_startup", "preload")
            what = f'loading "{late}" makes "{early}" leave again'
            fix = "put them into a group with swap: false, or preload one"
            report.advise(path, what, fix, find_node(tree, path))
    for model in config.models.values():
        if config.api_keys and _asks_for_a_key(model):
            path = ("models", model.id, "cmd")
            what = "its server asks for an API key, which clients' requests no longer have here"
            report.advise(path, what, "set the model's apiKey to the same", find_node(tree, path))
        if _is_wrapped(model):
            path = ("models", model.id, "cmd")
            what = "the server that vllm-wrapper starts outlives llmsnap, which can not stop it"
            report.advise(path, what, _UNWRAPPED, find_node(tree, path))
    if config.scheduler.use == "fifo":
        path = ("routing", "scheduler", "use")
        what = "fifo sets no bound on the wait of a model while another is in demand"
        report.advise(path, what, "consider use: fair", find_node(tree, path))
    _advise_on_matrix(config, tree, report)
    _advise_on_prompts(config, tree, report)
    _advise_on_memory(config, tree, report)


_UNWRAPPED = (
    "write what follows -- as cmd, with --enable-sleep-mode, env: [VLLM_SERVER_DEV_MODE=1], "
    "sleepMode: enable, sleepEndpoints: [{endpoint: /sleep?level=1}], "
    "wakeEndpoints: [{endpoint: /wake_up}], and no cmdStop"
)


def _is_wrapped(model: ModelConfig) -> bool:
    """Whether llama-swap's vllm-wrapper runs the server."""
    words = model.cmd.split(maxsplit=1)
    return bool(words) and words[0].rpartition("/")[2] == "vllm-wrapper"


def _advise_on_prompts(config: Config, tree: Node | None, report: Report) -> None:
    """Advise on models whose prompts are to be kept, but cannot be."""
    for model in config.models.values():
        if model.prompt_cache and not _saves_prompts(model):
            path = ("models", model.id, "promptCache")
            what = "its command does not begin with llama-server here, so its prompts are not kept"
            fix = (
                "add --slot-save-path FOLDER to the server in it, a folder of your own (chmod 700)"
            )
            report.advise(path, what, fix, find_node(tree, path))


def _saves_prompts(model: ModelConfig) -> bool:
    """Whether its server saves its slots, as far as its command tells."""
    words = command_words(model.cmd)
    can_save = bool(slot_folder(words)) or is_llama_server(words)
    return can_save and not model.runs_on.is_remote


def _asks_for_a_key(model: ModelConfig) -> bool:
    """Whether the command sets an API key that requests to the server will not have."""
    if model.runs_on.is_remote:
        return False  # its launcher makes a key for each start
    sends = model.api_key or any(name.lower() == "authorization" for name, _ in model.headers)
    words = model.cmd.split()
    return not sends and any(word.partition("=")[0] == "--api-key" for word in words)


def local_port(model: ModelConfig) -> int | None:
    """Return the port that *model* listens on, if it is on this machine."""
    if model.runs_on.is_remote:
        return None
    url = urlsplit(model.proxy)
    default = 443 if url.scheme == "https" else 80
    return (url.port or default) if url.hostname in LOOPBACK else None


def group_of(config: Config) -> dict[str, str]:
    """Return the group of each model."""
    return {member: group.id for group in config.groups.values() for member in group.members}


def _sharing_a_port(
    config: Config, together: Together
) -> Iterator[tuple[ModelConfig, ModelConfig]]:
    owners: dict[int, list[ModelConfig]] = {}
    for model in config.models.values():
        port = local_port(model)
        if port is None:
            continue
        for other in owners.setdefault(port, []):
            if _may_run_together(together, other, model):
                yield other, model
                break
        owners[port].append(model)


def _may_run_together(together: Together, first: ModelConfig, second: ModelConfig) -> bool:
    """Return whether both servers may listen at the same time."""
    if first.can_sleep or second.can_sleep:
        return True  # a sleeping model keeps its port in use
    return not (together.evicts(first.id, second.id) and together.evicts(second.id, first.id))


def _advise_on_memory(config: Config, tree: Node | None, report: Report) -> None:
    """Advise on a memory budget that one model has turned on, and on servers without a size."""
    if config.residency != "memory":
        return
    here = [model for model in config.models.values() if not model.is_elsewhere]
    having = [model.id for model in here if has_node(tree, ("models", model.id, "memory"))]
    without = [model.id for model in here if model.id not in having]
    is_meant = has_node(tree, ("memory",)) or has_node(tree, USE)
    if without and having and not is_meant:
        first = having[0]
        path = ("models", first, "memory")
        names = ", ".join(without[:MOST_NAMES]) + (", ..." if len(without) > MOST_NAMES else "")
        what = (
            f"switches the memory budget on, also for models without it: {names}; one that is not "
            "estimated from its command gets the first device alone until it is measured"
        )
        fix = "give them theirs, or confirm it: routing.router.use: memory"
        report.advise(path, what, fix, find_node(tree, path))
    has_gpu = not config.memory or any(each.name != "ram" for each in config.memory)
    for model in here if has_gpu else ():
        if _fits_itself(model):
            path = ("models", model.id, "cmd")
            what = "llama-server takes as much of the GPU as is free, so what it needs varies"
            fix = "fix it: -ngl 99 for all layers, and no --fit on"
            report.advise(path, what, fix, find_node(tree, path))


def _fits_itself(model: ModelConfig) -> bool:
    """Whether the server is llama-server, and puts as many layers on the GPU as fit."""
    if not is_llama_server(command_words(model.cmd)):
        return False
    words = [part for word in command_words(model.cmd) for part in word.split("=", 1)]
    following = dict(zip(words, [*words[1:], ""], strict=True))
    layers = next((following[name] for name in LAYER_OPTIONS if name in following), "")
    if layers == "0" or following.get("-dev", following.get("--device")) == "none":
        return False
    return not layers.isdecimal() or "on" in (following.get("-fit"), following.get("--fit"))


def _advise_on_matrix(config: Config, tree: Node | None, report: Report) -> None:
    """Advise on models that no set of the matrix contains, and on sets that add nothing."""
    known = partners(config.matrix) if config.matrix is not None else config.models
    for model in config.models.values():
        if model.id not in known and not model.is_elsewhere:
            path = ("models", model.id)
            what = "is in no set of the matrix, so it runs alone"
            report.advise(path, what, "add it to a set", find_node(tree, path))
    if config.matrix is None:
        return
    top: Path = ("matrix",)
    place = top if has_node(tree, top) else (*ROUTER, "settings", "matrix")
    for name, others in needless(config.matrix).items():
        of_set = (*place, "sets", name)
        what = f"adds nothing: {', '.join(others)} allow{'s' * (len(others) == 1)} all it allows"
        report.advise(
            of_set, what, "remove it, or write what it should add", find_node(tree, of_set)
        )
