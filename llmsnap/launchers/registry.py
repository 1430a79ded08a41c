"""The launchers of the configuration by name, over its reloads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from llmsnap.config import EXTERNAL, LauncherConfig
from llmsnap.launchers.base import Launcher, LaunchSpec
from llmsnap.launchers.cluster import Owner, Receivers, cluster_launcher
from llmsnap.launchers.external import ExternalLauncher
from llmsnap.launchers.local import LocalLauncher
from llmsnap.statedir import StateDir

LOCAL = "local"


class Launchers(Mapping[str, Launcher]):
    """The launchers of one llmsnap: ``local`` and ``external``, and those of the configuration.

    Those that are gone from the configuration, or changed, are kept to the end: servers that they
    started may still run.
    """

    def __init__(self, state: StateDir, always: Mapping[str, Launcher] | None = None) -> None:
        self._state = state
        local, external = LocalLauncher.from_state(state), ExternalLauncher.from_state(state)
        self._by_name = dict(always or {LOCAL: local, EXTERNAL: external})
        self._all = list(self._by_name.values())
        self._settings: Mapping[str, LauncherConfig] = {}
        self._owner: Owner | None = None
        self._receivers: Receivers = {}

    def __repr__(self) -> str:
        return f"<Launchers {', '.join(self._by_name)}>"

    def __getitem__(self, name: str) -> Launcher:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def configure(self, settings: Mapping[str, LauncherConfig], withheld: Iterable[str]) -> None:
        """Make the launchers of *settings* that are new or differ. Never switches.

        *withheld* are variables that servers must not get.
        """
        for name, wanted in settings.items():
            if self._settings.get(name) == wanted:
                continue
            if not wanted.is_remote:
                self._by_name[name] = self._by_name[LOCAL]
                continue
            # All of them: those that the configuration has replaced may still have servers to stop.
            same = [each for each in self._all if each.renew(wanted)]
            if same:
                self._by_name[name] = same[0]
                continue
            self._owner = self._owner or Owner.from_state(self._state)
            self._by_name[name] = cluster_launcher(wanted, self._owner, self._receivers)
            self._all.append(self._by_name[name])
        self._settings = settings
        names = frozenset(withheld)
        for launcher in self._all:
            launcher.withhold(names)

    def adopt(self, specs: Mapping[str, Sequence[LaunchSpec]]) -> list[str]:
        """Take over servers of an earlier run, by launcher; return their models. Blocks, bounded.

        Each model is returned once.
        """
        found = [each for name, wanted in specs.items() for each in self[name].adopt(wanted)]
        return list(dict.fromkeys(found))

    def stop_leftovers(self) -> list[str]:
        """Stop what earlier runs left, and was not adopted; return a line about each. Blocks."""
        return [line for launcher in self._all for line in launcher.stop_leftovers()]

    def release(self) -> None:
        """See Launcher.release."""
        for launcher in self._all:
            launcher.release()

    def close(self) -> None:
        """Close all. Blocks, bounded."""
        for launcher in self._all:
            launcher.close()
