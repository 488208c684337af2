"""Fine-tuning for another task: find the spectra that fit given labels and colours.

Two copies of one small network read what the trained encoder makes of a spectrum and of labels,
and meet in a common space (Leung & Bovy 2024, appendix C). Shown in chapter 11.
"""

import torch
import torch.nn.functional as F
from torch import nn

from stellarbook.learn.fit import fit
from stellarbook.learn.optim import cosine
from stellarbook.learn.processes import pick_device, stream
from stellarbook.star_transformer.model import WINDOW
from stellarbook.star_transformer.sampling import BP, RP

TEMPERATURE = 0.05  # below Eq. C2
SPECTRUM = (*BP[:32], *RP[:32])
DESCRIPTION = ("teff", "logg", "feh", "alpha_m", "a_k", "jh", "jk")  # no BP−RP: it would leak


class Expert(nn.Module):
    """From what the encoder says of a context, flattened, to a point on the unit sphere.

    Linear, then residual blocks of LayerNorm, Linear and GELU; the released demonstration is
    narrower and normalises after each addition. Unit length is ours: it makes the temperature of
    Eq. C2 mean something.
    """

    def __init__(self, n_in, width=128, blocks=3, dropout=0.1):
        super().__init__()
        self.first = nn.Linear(n_in, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout)
            )
            for _ in range(blocks)
        )

    def forward(self, x):
        """(B, n_in) -> (B, width)."""
        x = self.first(x)
        for block in self.blocks:
            x = x + block(x)
        return F.normalize(x, dim=-1)


class Experts(nn.Module):
    """One expert for spectra, one for descriptions, on top of one frozen star transformer.

    Attributes
    ----------
    columns : dict of str to tuple of str
        The tokens that each reads, at most `WINDOW`: of a "spectrum", of a "description".
    """

    def __init__(self, model, spectra=SPECTRUM, descriptions=DESCRIPTION, width=128):
        super().__init__()
        self.columns = {"spectrum": tuple(spectra), "description": tuple(descriptions)}
        if (most := max(map(len, self.columns.values()))) > WINDOW:
            raise ValueError(f"{most} columns do not fit into a window of {WINDOW}")
        self.scales = model.scales
        self.experts = nn.ModuleDict(
            {
                name: Expert(len(columns) * model.size["d"], width)
                for name, columns in self.columns.items()
            }
        )
        # In a tuple the model is no submodule: neither trained nor saved here.
        self.base = (model,)

    def tokens(self, table, kind):
        """(stars, columns) tokens and values; 0 where a star, or the table, lacks a column."""
        return self.scales.read(table, self.columns[kind])

    @torch.no_grad()
    def encode(self, token, value):
        """What the frozen encoder makes of them, (stars, columns × d); 0 for no token."""
        model = self.base[0]
        device = model.mean.weight.device
        token, value = token.to(device), value.to(device)
        x = model.encode(token, value)[0]  # (B, L, d)
        return (x * (token > 0)[..., None]).flatten(1)

    def read(self, table, kind):
        """The same of a whole table, in 16 bits on the CPU."""
        parts = zip(*(x.split(2048) for x in self.tokens(table, kind)), strict=True)
        return torch.cat([self.encode(*part).half().cpu() for part in parts])

    @torch.no_grad()
    def embed(self, table, kind):
        """Points of a table's stars on the unit sphere, (stars, width); kind as in `columns`."""
        expert = self.experts[kind].eval()
        device = expert.first.weight.device
        return torch.cat(
            [expert(x.float().to(device)).cpu() for x in self.read(table, kind).split(2048)]
        )


def contrastive_loss(spectra, descriptions, temperature=TEMPERATURE):
    """The symmetric cross entropy with soft targets of Eqs. C1–C6.

    Parameters
    ----------
    spectra, descriptions : (B, width) tensors
        Embeddings ŷ_j and ŷ_k of the same stars.
    temperature : float
        τ of Eq. C2.

    Returns
    -------
    tensor
        J = (J_j + J_k) / 2, a scalar.

    Notes
    -----
    The targets, softmax((ŷ_j ŷ_jᵀ + ŷ_k ŷ_kᵀ) / 2τ), are symmetric up to their normalisation, and
    gradients flow through them as through the logits.
    """
    # The temperature would blow up the rounding of 16 bits twentyfold.
    with torch.autocast(spectra.device.type, enabled=False):
        spectra, descriptions = spectra.float(), descriptions.float()
        logits = spectra @ descriptions.T / temperature  # Eq. C1
        alike = (spectra @ spectra.T + descriptions @ descriptions.T) / 2
        targets = (alike / temperature).softmax(-1)  # Eq. C4
        there = -(targets * logits.log_softmax(-1)).sum(-1)
        back = -(targets.T * logits.T.log_softmax(-1)).sum(-1)  # Eq. C5
        return (there.mean() + back.mean()) / 2


def recovery(spectra, descriptions, n=100):
    """Share of stars whose own spectrum is among the n most similar to their description.

    Chance is n / stars. (stars, width) each; raises ValueError where n exceeds the stars.
    """
    if n > len(spectra):
        raise ValueError(f"the {n} most similar of {len(spectra)} stars")
    better = []
    for rows in torch.arange(len(spectra)).split(1024):
        like = descriptions[rows] @ spectra.T
        # From the same product: another order of summation would round its own score otherwise.
        own = like[torch.arange(len(rows)), rows]
        # It is among them itself. A tie is no find: a space collapsed to a point finds nothing.
        better.append((~(like < own[:, None])).sum(1))  # NaN finds nothing either
    return float((torch.cat(better) <= n).float().mean())


def fine_tune(
    model,
    stars,
    val_stars,
    *,
    steps,
    batch_size=256,
    lr=1e-3,
    hide=0.5,
    seed=0,
    device="auto",
    **options,
):
    """Train both experts on pairs of spectrum and description of the same stars.

    Parameters
    ----------
    model : StarTransformer
        Its weights stay as they are; it is moved to the device.
    stars, val_stars : DataFrame
    hide : float
        Share of a batch's stars whose description loses some of its values, so that experts
        learn to read incomplete ones.
    steps, batch_size, lr, seed, device, options
        As in `fit`.

    Returns
    -------
    Experts, History
        The validation is minus the top-1 % recovery.
    """
    device = pick_device(device)
    model.to(device).eval()
    with torch.random.fork_rng([]):
        torch.manual_seed(stream(seed, 20))
        experts = Experts(model)
    spectra = experts.read(stars, "spectrum").to(device)
    token, value = (x.to(device) for x in experts.tokens(stars, "description"))
    held = {kind: experts.read(val_stars, kind).to(device) for kind in experts.columns}

    def step(experts, index, generator):
        t = token[index]

        def draw(columns):
            return torch.rand(len(t), columns, generator=generator, device=device)

        # A random share of the columns goes, but never the one that drew the largest number.
        dice = draw(t.shape[1]).masked_fill(t == 0, 0.0)
        lost = (dice < draw(1) * dice.amax(1, keepdim=True)) & (draw(1) < hide)
        x = experts.encode(torch.where(lost, 0, t), torch.where(lost, 0.0, value[index]))
        return contrastive_loss(
            experts.experts["spectrum"](spectra[index].float()), experts.experts["description"](x)
        )

    def validate(experts):
        points = [experts.experts[kind](held[kind].float()) for kind in experts.columns]
        return -recovery(*points, n=max(1, len(val_stars) // 100))

    history = fit(
        experts,
        step,
        len(stars),
        steps=steps,
        batch_size=min(batch_size, len(stars)),
        lr=lr,
        schedule=cosine(warmup=min(100, steps // 10)),
        validate=validate,
        seed=seed,
        device=str(device),
        **options,
    )
    return experts, history
