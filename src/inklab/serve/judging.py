"""Says how familiar images are, as far as it has learnt: in the background, once, then from the cache."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

import inklab
from inklab.export.compare import compare
from inklab.export.convert import to_onnx
from inklab.export.session import Session
from inklab.files import fingerprint, parse_json
from inklab.serve import familiarity
from inklab.serve.familiarity import MISSED, Border, Numbers
from inklab.serve.keeping import kept
from inklab.serve.references import References, in_blocks

NEAREST = "nearest training image"  # its id among the networks: no chapter's, for its spaces
VERSION = 1  # of what is computed here; a change makes what is in caches new


@dataclass
class Judging:
    """Borders of familiarity.

    Attributes:
        near: that of distances to training images; None until it is learnt, or if there are none.
        energies: those of classifiers by id; one that isn't there is judged by its largest probability.
        learnt: whether there is anything to say yet.
    """

    near: Border | None = None
    energies: dict[str, Border] = field(default_factory=dict)
    learnt: bool = False

    def learn_images(self, references: References, shape: tuple[int, int, int], threads: int) -> Session:
        """Learn what training images look like.

        Returns:
            The network that measures how near images are, to be asked as `NEAREST`. Call `trust_images` once
            it can be.
        """
        name = _name("nearest", references)

        def make() -> bytes:
            wanted = familiarity.exportable(familiarity.nearest_to(references.training), shape)
            raw = to_onnx(wanted)
            compare(wanted, Session(raw), references.training)
            return raw

        return Session(kept(f"{name}.onnx", make), threads=threads)

    def trust_images(self, references: References, session: Session) -> None:
        """Find the border of distances."""

        def make() -> Border:
            if references.held_out is None:
                return Border.of_few(familiarity.among_themselves(references.training))
            return Border.of(_nearness(session, references.held_out))

        self.near = _kept_border(_name("nearest", references), make)

    def learn_classifier(self, name: str, weights: str, session: Session, references: References) -> None:
        """Find the border of a classifier's energies.

        Args:
            name: its id.
            weights: their SHA-256.
            session: gives its logits.
            references: images of the kind that it was trained on.
        """

        def make() -> Border:
            few = references.held_out is None
            known = references.training if references.held_out is None else references.held_out
            energies = familiarity.energy(
                np.concatenate([session(each)["logits"] for each in in_blocks(known)])
            )
            return Border.of_few(energies) if few else Border.of(energies)

        self.energies[name] = _kept_border(_name("energy", references, weights), make)

    def familiar(
        self, name: str, nearness: np.ndarray | None, logits: np.ndarray, probabilities: np.ndarray
    ) -> Numbers | None:
        """How familiar images are to a classifier: 0 and more: familiar; 1: typical; None: it can't be told.

        Args:
            name: the classifier's id.
            nearness: `(n, 1)` of the images as framed, if `NEAREST` was asked.
            logits: `(n, k)` of what reached the classifier.
            probabilities: the same, as rows that sum to 1.
        """
        if not self.learnt:
            return None
        if name not in self.energies:
            return familiarity.by_probability(probabilities)
        found = self.energies[name](familiarity.energy(logits))
        if nearness is not None and self.near is not None:
            found = np.minimum(found, self.near(nearness[:, 0]))
        return np.asarray(found)


def _nearness(session: Session, pixels: np.ndarray) -> Numbers:
    return np.concatenate([session(each)["logits"][:, 0] for each in in_blocks(pixels)]).astype(np.float64)


def _name(what: str, references: References, *more: str) -> str:
    of = [VERSION, inklab.__version__, references.identity, familiarity.REFERENCES, familiarity.COMPONENTS]
    return f"{what}-{fingerprint([*of, MISSED, *more])}"


def _kept_border(name: str, make: Callable[[], Border]) -> Border:
    def written() -> bytes:
        made = make()
        return json.dumps([made.at, made.typical]).encode()

    at, typical = parse_json(kept(f"{name}.json", written), name)
    return Border(at, typical)
