"""What the star transformer is asked in training, and in which settings it is judged.

Leung & Bovy (2024), sections 5 and 6.1. Shown in chapters 10 and 11.
"""

from dataclasses import dataclass, field, fields
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from stellarbook.data import xp_basis
from stellarbook.learn.processes import stream
from stellarbook.star_transformer.model import WINDOW
from stellarbook.star_transformer.tokens import COLOURS, LABELS, NAMES, WITHHELD

BP, RP = xp_basis.NAMES[:55], xp_basis.NAMES[55:]
# From which tokens a step draws its contexts. "any" is the paper's; the others are how the model
# is used: half of a spectrum, labels alone.
FAMILIES = {
    "any": NAMES,
    "low orders": (*BP[:30], *RP[:30], *COLOURS, *LABELS),
    "high orders": (*BP[25:], *RP[25:], *LABELS),
    "bp": BP,
    "rp": RP,
    "no spectrum": (*COLOURS, *LABELS, "g"),
    "labels": LABELS,
}
MIXED = {
    "any": 0.2,
    "low orders": 0.45,
    "high orders": 0.05,
    "bp": 0.05,
    "rp": 0.05,
    "no spectrum": 0.15,
    "labels": 0.05,
}


class Batch(NamedTuple):
    """A batch of contexts (B, L) and requests (B, R), all tensors.

    * ``token, value``, (B, L): long, 0 where a star has no more; float, standardised;
    * ``request``, (B, R) long: 0 where a star has no more, and such a request counts nothing;
    * ``target, sigma``, (B, R) float: the values asked for and their known standard errors, 0 for
      a value that is in the context;
    * ``weight``, (B, R) float: of the request in the loss, 0 where a star has no more.
    """

    token: torch.Tensor
    value: torch.Tensor
    request: torch.Tensor
    target: torch.Tensor
    sigma: torch.Tensor
    weight: torch.Tensor


@dataclass
class Sampler:
    """Draws contexts and requests for a batch of stars at once, on their device.

    The paper draws 5 to 64 of a star's tokens as its context and one token as its request, the
    withheld ones excepted (section 5). Here a context answers several requests, all labels among
    them; labels hide from most contexts (one that holds the answer teaches nothing but to copy
    it); and the steps differ in the family of tokens that they draw from. Chapter 10 measures
    what each of these buys; `Sampler(z, sigma, full=0, requests=1, ask_labels=False,
    label_weight=1, hide=None, families={"any": 1})` is the paper's.

    Parameters
    ----------
    z, sigma : (stars, tokens) float tensors
        As `Scales.standardise` and `Scales.errors` return them; NaN in z is absent.
    names : sequence of str
        What the columns are.
    shortest, longest : int
        Tokens in a context. One number is drawn for a batch, so that nothing is padded but what a
        star lacks.
    full : float
        Share of the steps whose contexts are as long as they may be, in families that fill the
        window: the rest get a length between the two, all equally likely.
    requests : int
        Random requests a context.
    ask_labels : bool
        Whether all labels are requested besides.
    label_weight : float
        Weight of a label among the requests to families with both arms of the spectrum: whoever
        has a spectrum asks for labels. Elsewhere all requests weigh alike.
    hide : float or None
        Probability that all labels stay out of a context with a spectrum; otherwise each of them
        is in it with probability one half. None: labels are drawn like any other token.
    families : dict of str to float
        Share of the steps that draw from each of `FAMILIES`.

    Raises
    ------
    ValueError
        For dials that cannot work.

    Notes
    -----
    Shown in chapter 10.
    """

    z: torch.Tensor
    sigma: torch.Tensor
    names: tuple = NAMES
    shortest: int = 5
    longest: int = WINDOW
    full: float = 0.75
    requests: int = 16
    ask_labels: bool = True
    label_weight: float = 3.0
    hide: float | None = 0.8
    families: dict = field(default_factory=lambda: dict(MIXED))

    def __post_init__(self):
        def which(chosen):
            return torch.tensor([n in chosen for n in self.names], device=self.z.device)

        if unknown := set(self.families) - set(FAMILIES):
            raise ValueError(f"unknown families {sorted(unknown)}: they are {', '.join(FAMILIES)}")
        if not sum(self.families.values()) > 0:
            raise ValueError("families: no family has a share of the steps")
        if not 1 <= self.shortest <= self.longest:
            raise ValueError(f"contexts of {self.shortest} to {self.longest} tokens")
        if self.requests < 0 or not (self.requests or self.ask_labels):
            raise ValueError(f"nothing is asked: requests is {self.requests}")
        self.known, self.value = ~self.z.isnan(), self.z.nan_to_num()
        bp, rp, self.label, self.askable = which(BP), which(RP), which(LABELS), ~which(WITHHELD)
        self.members = [which(FAMILIES[name]) for name in self.families]
        if empty := [f for f, m in zip(self.families, self.members, strict=True) if not m.any()]:
            raise ValueError(f"the family {empty[0]!r} has no token among the names")
        # What every step needs of its family, counted here: asking a GPU each time would stall it.
        self.sizes = [int(m.sum()) for m in self.members]
        self.arms = [int((m & bp).any()) + int((m & rp).any()) for m in self.members]
        asked = self.requests + self.ask_labels * int(self.label.sum())
        self.count = min(asked, int(self.askable.sum()))
        self.share = torch.tensor(list(self.families.values()), dtype=torch.float)

    @classmethod
    def of(cls, scales, table, device="cpu", **dials):
        """A sampler of a table's stars: a column for each name, ``<name>_error`` where known."""
        z, sigma = (
            torch.from_numpy(x).to(device)
            for x in (scales.standardise(table), scales.errors(table))
        )
        return cls(z, sigma, scales.names, **dials)

    def dials(self):
        """What was set, as plain values."""
        names = [f.name for f in fields(self)][3:]  # but not the stars and their vocabulary
        return {name: getattr(self, name) for name in names}

    def __call__(self, index, generator):
        """(B,) positions of stars and a generator on their device -> Batch."""
        known = self.known[index]  # (B, tokens)

        def draw(*shape):
            return torch.rand(*shape, generator=generator, device=known.device)

        # One family and one length a step: three numbers, drawn where the stars are.
        dice = draw(3).tolist()
        family = int((self.share.cumsum(0) / self.share.sum() <= dice[0]).sum())
        family = min(family, len(self.members) - 1)
        member = self.members[family]
        # A family smaller than the window is drawn down to one token: "log g, given Teff alone".
        most = min(self.longest, self.sizes[family])
        small = most < self.longest
        least = 1 if small else self.shortest
        full = dice[2] < self.full and not small
        length = most if full else least + int(dice[1] * (most + 1 - least))

        may, urge = known & member, draw(known.shape)
        if self.hide is not None and self.arms[family]:
            shown = (draw(len(index), 1) >= self.hide) & (draw(known.shape) < 0.5) & self.label
            may, urge = may & (shown | ~self.label), urge + shown
        # The largest of random numbers are a random subset, for all stars at once.
        rank, column = torch.where(may, urge, -1.0).topk(length, dim=1)  # (B, L)
        token = torch.where(rank >= 0, column + 1, 0)
        value = torch.where(rank >= 0, self.value[index[:, None], column], 0.0)

        urge = draw(known.shape) + self.label * float(self.ask_labels)
        urge = torch.where(known & self.askable, urge, -1.0)
        rank, column = urge.topk(self.count, dim=1)  # (B, R)
        # Who is told a value and asked for it is asked for that very number, its error included.
        given = F.pad(torch.zeros_like(known), (1, 0)).scatter_(1, token, True)[:, 1:]
        heavy = self.label_weight if self.arms[family] == 2 else 1.0
        return Batch(
            token,
            value,
            torch.where(rank >= 0, column + 1, 0),
            self.value[index[:, None], column],
            self.sigma[index[:, None], column] * ~given.gather(1, column),
            torch.where(self.label, heavy, 1.0)[column] * (rank >= 0),
        )


# Settings in which labels are asked for, as columns of a context: the five of Figs. 4 and B1 (whose
# sixth panel is XGBoost in the first of them), and colours alone.
SETTINGS = {
    "30 + 30 coefficients, colours": (*BP[:30], *RP[:30], *COLOURS),
    "5 + 5 coefficients, colours": (*BP[:5], *RP[:5], *COLOURS),
    "64 at random": (*BP, *RP, *COLOURS),
    "colours": COLOURS,
    "least informative": (*BP[25:], *RP[25:]),
    "least informative, labels": (*BP[25:], *RP[25:], "teff", "logg", "feh"),
}


def context(table, setting, seed=0):
    """Columns of one of the `SETTINGS`; "64 at random" leaves each star another 64 of them.

    Returns
    -------
    DataFrame
        For `StarTransformer.predict`, and for trees, which know NaN.
    """
    chosen = table[list(SETTINGS[setting])]
    if setting != "64 at random":
        return chosen
    draw = np.random.default_rng(stream(seed, 64)).random(chosen.shape)
    return chosen.where(draw.argsort(axis=1).argsort(axis=1) < WINDOW)
