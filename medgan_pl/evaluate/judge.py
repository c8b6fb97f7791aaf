"""The whole judgement: each question in turn, what cannot be answered with its reason, and the pictures that go with the numbers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from medgan_pl.evaluate.fidelity import Ladder, Sets, judge_likeness, judge_space, ladder_of
from medgan_pl.evaluate.pairs import Scale, judge_pairs
from medgan_pl.evaluate.privacy import DISCRIMINATOR, Closest, Critic, judge_privacy
from medgan_pl.evaluate.spaces import Features
from medgan_pl.evaluate.use import Lessons, judge_use
from medgan_pl.evaluate.verdicts import Verdict, verdicts
from medgan_pl.metrics.extractors.features import Extractor
from medgan_pl.metrics.memorisation import PixelFeatures
from medgan_pl.metrics.result import Result
from medgan_pl.metrics.utility.teaching import Training


@dataclass(frozen=True)
class Options:
    """`groups`: what to judge. `training`: of the classifiers. `draws`: bootstrap samples. `pairs`: closest pairs shown. `features`: the
    folder where those of reals are remembered. `batch_size`: images at once on `device`. `scale`: of paired tasks."""

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
class Found:
    """What a judgement found: `spaces`, `verdicts`, `results`, `notes` as in metrics.json; `closest`: space -> the closest pairs;
    `ladder`: rung -> an example."""

    results: list[Result] = field(default_factory=list)
    spaces: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    closest: dict[str, Closest] = field(default_factory=dict)
    ladder: dict[str, Tensor] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)


class Judge:
    """Judges `sets` in the space of each of `extractors`.

    `strangers`: why training images cannot be told from others, "" where they can: then copies are looked for. `critic`: D's logits, where
    there is a D. `watch(what)` is told what is going on.
    """

    def __init__(
        self,
        sets: Sets,
        extractors: list[Extractor],
        options: Options,
        *,
        strangers: str = "",
        critic: Critic | None = None,
        watch: Callable[[str], None] = lambda what: None,
    ) -> None:
        self.sets, self.extractors, self.options = sets, extractors, options
        self.strangers, self.critic, self.watch = strangers, critic, watch
        self.features = Features(options.features, options.device, options.batch_size, watch)

    def through(self) -> Found:
        found = Found()
        for extractor in self.extractors:
            self.fit(extractor, found)
        if "fidelity" in self.options.groups:
            self.fidelity(found)
        caught = ""
        if "privacy" in self.options.groups:
            caught = self.privacy(found)
        if "use" in self.options.groups:
            lessons = Lessons(self.options.training, self.options.draws, self.options.seed, self.options.device)
            found.results += judge_use(self.sets, lessons, self.watch)
        if "paired" in self.options.groups and self.sets.truth is not None:
            self.watch("each image against its truth")
            found.results += judge_pairs(self.sets, self.options.scale, self.options.draws, self.options.batch_size)
        found.verdicts = verdicts(found.results, caught)
        return found

    def fit(self, extractor: Extractor, found: Found) -> None:
        """On the training images; where nobody says which, on the reals of the floor."""
        images = self.sets.floor if self.sets.train is None else self.sets.train
        before = dict(extractor.rules)
        self.watch(f"the {extractor.name} extractor")
        extractor.fit(images, images.labels)
        if self.sets.train is None and dict(extractor.rules) != before:
            found.notes.append(
                f"Without training images the {extractor.name} extractor was fitted to the reals of the floor, which then look a little "
                "nearer than they are."
            )
        found.spaces[extractor.name] = dict(extractor.rules)

    def fidelity(self, found: Found) -> None:
        sets, options = self.sets, self.options
        few = sets.even().too_few()
        ladder = Ladder() if few else ladder_of(sets)
        found.ladder = {"untouched": sets.even().floor.first(1)[0]} if ladder.rungs else {}
        found.ladder |= {name: rung.first(1)[0] for name, rung in ladder.rungs.items()}
        for extractor in self.extractors:
            results = judge_space(sets, ladder, extractor, self.features, options.draws)
            found.results += results
            if not few:
                count, columns = self.features(extractor, sets.even().reference, "reference reals").shape
                if count <= columns:
                    found.notes.append(
                        f"{count} images are fewer than the {columns} features of {extractor.name}: the Fréchet distance is mostly bias "
                        "there, and only its place between floor and ladder can be read."
                    )
        self.watch("the likeness of pairs")
        found.results += judge_likeness(sets, ladder, options.draws)
        if sets.classes and sets.fake.labels is None:
            found.notes.append("The generator draws no class on demand, so nothing is shown by class.")

    def privacy(self, found: Found) -> str:
        """In small pixels, where a copy is nearest, and in the first extractor's features; what was caught comes back."""
        sets, options = self.sets, self.options
        spaces = [PixelFeatures(spatial_dims=sets.reference.first(1).ndim - 2), *self.extractors[:1]]
        leak = judge_privacy(sets, self.strangers, spaces, self.features, options.draws, options.pairs, self.critic)
        found.results += leak.results
        found.closest, found.notes = leak.closest, found.notes + leak.notes
        found.spaces[spaces[0].name] = dict(spaces[0].rules)
        if any(result.space == DISCRIMINATOR for result in leak.results):
            found.spaces[DISCRIMINATOR] = {"scores": "logits of the discriminator, for where it is shared with the generator"}
        return leak.caught
