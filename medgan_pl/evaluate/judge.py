"""The whole judgement: each question in turn, with a reason for what cannot be measured, and the pictures for the report."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from medgan_pl.data.scale import Scale
from medgan_pl.evaluate.fidelity import Ladder, Sets, judge_pair_similarity, judge_space, ladder_of
from medgan_pl.evaluate.pairs import judge_pairs
from medgan_pl.evaluate.privacy import DISCRIMINATOR, Closest, Scores, judge_privacy
from medgan_pl.evaluate.utility import TrainingPlan, judge_utility
from medgan_pl.evaluate.verdicts import Verdict, verdicts
from medgan_pl.metrics.extractors.features import Extractor
from medgan_pl.metrics.feature_store import FeatureStore
from medgan_pl.metrics.memorization import PixelFeatures
from medgan_pl.metrics.result import Result
from medgan_pl.metrics.utility.teaching import Training


@dataclass(frozen=True)
class Options:
    """The options of a judgement.

    - `groups`: what to judge, of fidelity, use (utility), privacy and paired.
    - `training`: how the classifiers and segmenters of utility are trained.
    - `draws`: bootstrap samples. `seed`: keys all that is drawn.
    - `pairs`: how many of the closest pairs are shown.
    - `batch_size`: images at once on `device`.
    - `features`: the folder where the features of reals are kept.
    - `scale`: the native unit of paired tasks.
    """

    groups: tuple[str, ...]
    training: Training
    draws: int
    pairs: int
    batch_size: int
    seed: int
    device: str
    features: Path
    scale: Scale = field(default_factory=Scale)


@dataclass
class Findings:
    """The findings of a judgement.

    - `spaces`, `verdicts`, `results`, `notes`: as in metrics.json.
    - `closest`: extractor -> the closest pairs. `ladder`: severity level -> an example image.
    """

    results: list[Result] = field(default_factory=list)
    spaces: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    closest: dict[str, Closest] = field(default_factory=dict)
    ladder: dict[str, Tensor] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)


class Judge:
    """Judges `sets` in the space of each of `extractors`.

    - `membership_unknown_because`: why it is not known which images were used in training; "" if it is known: then copies are searched.
    - `discriminator`: the scores of a set of images by D, None without a D.
    - `announce`: called with a line of text before each step that takes time.
    """

    def __init__(
        self,
        sets: Sets,
        extractors: list[Extractor],
        options: Options,
        *,
        membership_unknown_because: str = "",
        discriminator: Scores | None = None,
        announce: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.sets, self.extractors, self.options = sets, extractors, options
        self.membership_unknown_because, self.discriminator, self.announce = membership_unknown_because, discriminator, announce
        self.features = FeatureStore(options.features, options.device, options.batch_size, announce)

    def judge(self) -> Findings:
        """Measure all groups of the options and return what was found."""
        found = Findings()
        for extractor in self.extractors:
            self.fit(extractor, found)
        if "fidelity" in self.options.groups:
            self.fidelity(found)
        leaks = ""
        if "privacy" in self.options.groups:
            leaks = self.privacy(found)
        if "use" in self.options.groups:
            plan = TrainingPlan(self.options.training, self.options.draws, self.options.seed, self.options.device)
            found.results += judge_utility(self.sets, plan, self.announce)
        if "paired" in self.options.groups and self.sets.truth is not None:
            self.announce("comparing each image with its truth")
            found.results += judge_pairs(self.sets, self.options.scale, self.options.draws, self.options.batch_size)
        found.verdicts = verdicts(found.results, leaks)
        return found

    def fit(self, extractor: Extractor, found: Findings) -> None:
        """Fit the extractor to the training images or, if it is not known which they are, to the reals of the floor."""
        images = self.sets.floor if self.sets.train is None else self.sets.train
        before = dict(extractor.rules)
        self.announce(f"preparing the {extractor.name} extractor")
        extractor.fit(images, images.labels)
        if self.sets.train is None and dict(extractor.rules) != before:
            found.notes.append(
                f"Without training images the {extractor.name} extractor was fitted to the reals of the floor, which then look a little "
                "nearer than they are."
            )
        found.spaces[extractor.name] = dict(extractor.rules)

    def fidelity(self, found: Findings) -> None:
        """Measure fidelity and diversity in every space, with the ladder."""
        sets, options = self.sets, self.options
        few = sets.even().too_few()
        ladder = Ladder() if few else ladder_of(sets)
        found.ladder = {"untouched": sets.even().floor.first(1)[0]} if ladder.levels else {}
        found.ladder |= {name: images.first(1)[0] for name, images in ladder.levels.items()}
        for extractor in self.extractors:
            found.results += judge_space(sets, ladder, extractor, self.features, options.draws)
            if not few:
                count, columns = self.features(extractor, sets.even().reference, "reference reals").shape
                if count <= columns:
                    found.notes.append(
                        f"{count} images are fewer than the {columns} features of {extractor.name}: the Fréchet distance is mostly bias "
                        "there; read only its position between floor and ladder."
                    )
        self.announce("comparing pairs of images")
        found.results += judge_pair_similarity(sets, ladder, options.draws)
        if sets.classes and sets.fake.labels is None:
            found.notes.append("The generator draws no class on demand, so nothing is shown by class.")

    def privacy(self, found: Findings) -> str:
        """Measure privacy in small pixels, where a copy is nearest, and in the first extractor's features; return what leaks."""
        sets, options = self.sets, self.options
        spaces = [PixelFeatures(spatial_dims=sets.reference.first(1).ndim - 2), *self.extractors[:1]]
        privacy = judge_privacy(
            sets, self.membership_unknown_because, spaces, self.features, options.draws, options.pairs, self.discriminator
        )
        found.results += privacy.results
        found.closest, found.notes = privacy.closest, found.notes + privacy.notes
        found.spaces[spaces[0].name] = dict(spaces[0].rules)
        if any(result.space == DISCRIMINATOR for result in privacy.results):
            found.spaces[DISCRIMINATOR] = {"scores": "logits of the discriminator, in case it is shared with the generator"}
        return privacy.leaks
