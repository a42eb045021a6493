"""Define a sweep: one baseline, its candidates, and their replicates."""

from __future__ import annotations

from dataclasses import dataclass

from assay.config.arms import Arm
from assay.config.sources import check_name
from assay.core.errors import ConfigError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One baseline, its candidates, and the seeds of their replicates."""

    name: str
    """Name of the sweep, of its page and of its jobs."""
    question: str = ""
    """Question that the sweep answers, in one sentence. The sweep's page begins with this question."""
    baseline: str
    """Mix that the candidates are compared with."""
    candidates: tuple[str, ...]
    """Mixes under test. Required unless an ablation creates them."""
    seeds: tuple[int, ...]
    """Seeds of the replicates. Every arm is trained once with each seed."""
    arms: tuple[Arm, ...] = ()
    """Changes of arms other than their mixes. An arm without an entry changes only the mix."""
    extends: str | None = None
    """Earlier sweep to which this sweep adds seeds after the verdict was known. `assay plan extend` and `assay plan designs`
    write this key."""

    def __post_init__(self) -> None:
        check_name("sweep", self.name)
        where = f"sweep {self.name!r}"
        if len(self.name) > 100:
            raise ConfigError(
                f"{where}: a name of {len(self.name)} characters is invalid; expected at most 100.",
                fix="Shorten the name.",
            )
        if not self.candidates or not self.seeds:
            raise ConfigError(
                f"{where}: `candidates` or `seeds` is empty; expected at least one candidate and one seed.",
                fix="Add a candidate or a seed.",
            )
        if self.baseline in self.candidates:
            raise ConfigError(
                f"{where}: mix {self.baseline!r} is both baseline and candidate.",
                fix=f"Remove {self.baseline!r} from `candidates`.",
            )
        for kind, values in (("candidates", self.candidates), ("seeds", self.seeds)):
            if len(set(values)) < len(values):
                raise ConfigError(
                    f"{where}: `{kind}` {list(values)} is invalid; expected distinct values.",
                    fix="Remove the duplicates.",
                )
        if min(self.seeds) < 0:
            raise ConfigError(
                f"{where}: seed {min(self.seeds)} is invalid; expected at least 0.", fix="Use seeds of 0 or more."
            )
        arms = [arm.name for arm in self.arms]
        for name in (*arms, *(arm.control for arm in self.arms if arm.control is not None)):
            if name not in self.mixes or arms.count(name) > 1:
                problem = "is declared twice" if arms.count(name) > 1 else "is neither baseline nor candidate"
                raise ConfigError(f"{where}: arm {name!r} {problem}. {did_you_mean(name, self.mixes)}")
        if self.arm(self.baseline).control is not None:
            raise ConfigError(
                f"{where}: the baseline {self.baseline!r} has a control; expected none.",
                fix="Remove `control` of the baseline.",
            )

    @property
    def mixes(self) -> tuple[str, ...]:
        """The baseline, then the candidates."""
        return (self.baseline, *self.candidates)

    def arm(self, name: str) -> Arm:
        """Return an arm by name."""
        return next((arm for arm in self.arms if arm.name == name), Arm(name=name))

    def control(self, candidate: str) -> str:
        """Return the arm that is the control of a candidate."""
        return self.arm(candidate).control or self.baseline

    def check_candidate(self, name: str) -> None:
        """Raise an error for a name that is not a candidate of this sweep."""
        if name not in self.candidates:
            raise ConfigError(
                f"sweep {self.name!r}: no candidate is called {name!r}. {did_you_mean(name, self.candidates)}"
            )
