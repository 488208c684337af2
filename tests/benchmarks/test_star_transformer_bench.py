"""What the star transformer's way of asking buys: one optimiser step, and stars a second."""

import numpy as np
import pandas as pd
import pytest
import torch

from stellarbook.learn.optim import adamw
from stellarbook.star_transformer.model import PAPER, SMALL, WINDOW, StarTransformer
from stellarbook.star_transformer.plain import PlainStarTransformer
from stellarbook.star_transformer.sampling import SETTINGS, Sampler
from stellarbook.star_transformer.tokens import LABELS, NAMES, Scales
from stellarbook.star_transformer.training import robust_loss

LENGTH = 35  # the mean of 5 to 64 tokens is 34.5, and the cost goes with the length
SHARED = 16  # requests a context


def stars(n):
    values = np.random.default_rng(0).normal(size=(n, len(NAMES)))
    table = pd.DataFrame(values, columns=list(NAMES))
    table["teff"] = 10 ** (3.7 + 0.05 * table["teff"])
    return table


def network(size):
    torch.manual_seed(0)
    return StarTransformer(Scales.of(stars(200)), **size)


def batch(contexts, lengths, requests):
    """Tokens, values, requests and targets for contexts of these lengths, padded at the end."""
    generator = torch.Generator().manual_seed(0)
    longest = int(lengths.max())
    token = torch.rand(contexts, len(NAMES), generator=generator).argsort(1)[:, :longest] + 1
    token = torch.where(torch.arange(longest) < lengths[:, None], token, 0)
    value = torch.randn(contexts, longest, generator=generator)
    request = torch.randint(1, len(NAMES) + 1, (contexts, requests), generator=generator)
    target = torch.randn(contexts, requests, generator=generator)
    return token, value, request, target


@pytest.mark.parametrize("requests", [128, 2048])
@pytest.mark.parametrize("how", ["plain", "unpadded", "shared"])
def test_optimiser_step(benchmark, how, requests):
    """Forward, backward and AdamW at the paper's size, dropout included, over so many requests.

    plain: the authors' way, one request a context, contexts of 5 to 64 tokens padded to 64;
    unpadded: ours, one request a context, one length for all; shared: ours, 16 requests a context.
    """
    model = network(PAPER).train()
    if how == "plain":
        lengths = torch.randint(5, WINDOW + 1, (requests,), generator=torch.manual_seed(0))
        token, value, request, target = batch(requests, lengths, 1)
        model = PlainStarTransformer(model).train()
    else:
        each = SHARED if how == "shared" else 1
        lengths = torch.tensor([LENGTH])
        token, value, request, target = batch(requests // each, lengths, each)
    optimizer = adamw(model, 1e-4, 0.01)
    assert request.numel() == requests

    def step():
        mean, log_variance = model(token, value, request)
        loss = robust_loss(mean, log_variance, target, torch.zeros(())).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    slow = requests > 128 and how != "shared"  # half a minute a step on one thread
    rounds = {"rounds": 1} if slow else {"rounds": 5, "warmup_rounds": 1}
    assert np.isfinite(benchmark.pedantic(step, **rounds))


def test_sampling(benchmark):
    """Contexts and requests of one training step of 64 stars, of 32,000 at hand."""
    z = torch.randn(32_000, len(NAMES), generator=torch.manual_seed(0))
    sampler, generator = Sampler(z, torch.zeros_like(z)), torch.Generator().manual_seed(0)
    drawn = benchmark(lambda: sampler(torch.randint(len(z), (64,)), generator))
    assert len(drawn.token) == 64


def test_predict(benchmark):
    """Stars per second: 2,048 over the time, five labels from 63 tokens by the small model."""
    model = network(SMALL).eval()
    table = stars(2048)[list(SETTINGS["30 + 30 coefficients, colours"])]
    predict = benchmark.pedantic(
        model.predict,
        (table, list(LABELS)),
        {"extrapolate": True},
        rounds=3,
        warmup_rounds=1,
    )
    assert len(predict) == 2048 and np.isfinite(predict["teff"]).all()
