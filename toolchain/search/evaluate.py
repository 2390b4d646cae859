"""One trial: a recipe is cut and timed; on or near the front it is trained, and its accuracy measured.

Knows nothing of when a trial is worth its time (rungs.py, budget.py), nor how points are chosen.
"""

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import optuna

from toolchain.build.step_verdict import NOISE
from toolchain.errors import BackendError, ExportError, ModelError, ParityError, RecipeError, StepError
from toolchain.records.tensors import Array
from toolchain.search.accuracy import accuracy_loss
from toolchain.search.compose import RecipeBase
from toolchain.search.front import LatencyAndLoss, reason_to_skip
from toolchain.search.outcomes import IMPOSSIBLE, OUTCOME, REASON, RUNG, TrialOutcome, read_outcomes
from toolchain.search.proposal import SearchProposal
from toolchain.search.rungs import expected_gain
from toolchain.search.space import SearchSpace
from toolchain.search.storage import queue_trial
from toolchain.search.structure import BuiltModel, SearchSite, compare_latency, make_model

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import Trial

    from toolchain.search.watch import SearchWatch

logger = logging.getLogger(__name__)
# what is wrong with one recipe; anything else ends the search
RECIPE_FAULTS = (RecipeError, ModelError, StepError, ExportError, BackendError, ParityError)
CUT_SAMPLES = 32  # images that a net is quantized with before it is trained: its speed does not depend on them


@dataclass
class TrialRunner:
    """What all trials share. repeated: how often in a row a recipe was drawn that is known already; working_s: spent in
    trials."""

    study: "Study"
    base: RecipeBase
    space: SearchSpace
    site: SearchSite
    baseline: BuiltModel
    reference: Array
    watch: "SearchWatch"
    repeated: int = 0
    working_s: float = 0.0

    def __call__(self, trial: "Trial") -> LatencyAndLoss:
        """Its latency as a share of the uncut net's, and the points that it loses; TrialPruned where it is not trained.
        What was measured is kept with the trial."""
        rung, proposal = trial.user_attrs.get(RUNG, 0), self.space.suggest(trial)
        outcomes = read_outcomes(self.study)
        known = next((each for each in outcomes if each.key == (proposal.key, rung)), None)
        self.repeated = self.repeated + 1 if known else 0
        if known is None:
            try:
                known = self._evaluate(trial.number, proposal, rung, outcomes)
            except KeyboardInterrupt:
                queue_trial(self.study, trial.params, trial.user_attrs)
                raise
            trial.set_user_attr(OUTCOME, msgspec.to_builtins(known))
            self.watch.end_trial(known, sum(self.base.epochs[: rung + 1]))
        else:
            trial.set_user_attr("same as", known.trial)
        if known.loss is None:
            trial.set_user_attr(REASON, known.reason)
            raise optuna.TrialPruned(known.reason)
        gain = expected_gain([*outcomes, known], rung, len(self.base.epochs) - 1)
        trial.set_constraint("accuracy", gain.foretell(known.loss) - self.base.floor)
        return known.ratio, known.loss

    def _evaluate(self, trial: int, proposal: SearchProposal, rung: int, outcomes: list[TrialOutcome]) -> TrialOutcome:
        began = time.monotonic()
        try:
            outcome = self._measure(trial, proposal, rung, outcomes)
        except RECIPE_FAULTS as error:
            outcome = TrialOutcome(trial, proposal, rung, 0.0, 0.0, 0, 0, reason=f"{IMPOSSIBLE}{error}")
        seconds = time.monotonic() - began
        self.working_s += seconds
        return msgspec.structs.replace(outcome, seconds=seconds)

    def _measure(self, trial: int, proposal: SearchProposal, rung: int, outcomes: list[TrialOutcome]) -> TrialOutcome:
        first = next((each for each in outcomes if each.key == (proposal.key, 0)), None)
        if first is None or first.loss is None:
            self.watch.begin(trial, f"{proposal.describe()}: cut and timed")
            cut = make_model(self.site.read(self.base.compose_cut(proposal, CUT_SAMPLES)))
            base_ms, latency_ms = compare_latency(self.baseline, cut)
            ratio, macs = latency_ms / base_ms, cut.macs
            first = TrialOutcome(trial, proposal, 0, ratio, latency_ms, macs, cut.artifact.record.size_bytes)
            others = [each for each in outcomes if each.proposal.key != proposal.key]
            if reason := reason_to_skip(ratio, macs, proposal.is_cut, others):
                return msgspec.structs.replace(first, reason=reason)
        self.watch.begin(trial, f"{proposal.describe()}: trained for {self.base.epochs[rung]} epochs")
        trained = make_model(self.site.read(self.base.compose(proposal, rung + 1)))
        loss, error = accuracy_loss(trained, self.reference)
        ratio, latency_ms = first.ratio, first.latency_ms
        if proposal.quantization == "qat" and rung == 0:  # its graph is another than the one that was timed
            base_ms, latency_ms = compare_latency(self.baseline, trained)
            ratio = latency_ms / base_ms
            if abs(first.ratio / ratio - 1) > NOISE - 1:
                logger.info(f"  learned quantization: {1 / ratio:.2f} times as fast, {1 / first.ratio:.2f} before")
        return msgspec.structs.replace(
            first,
            trial=trial,
            rung=rung,
            ratio=ratio,
            latency_ms=latency_ms,
            loss=loss,
            error=error,
            size_bytes=trained.artifact.record.size_bytes,
            reason="",
        )
