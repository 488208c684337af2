import torch

from stellarbook.layers.blocks import MLP


def test_shape_and_size():
    net = MLP(60, 3, hidden=(384, 384, 384), dropout=0.15)
    assert net(torch.zeros(5, 60)).shape == (5, 3)
    assert sum(p.numel() for p in net.parameters()) == 60 * 384 + 2 * 384**2 + 384 * 3 + 3 * 384 + 3


def test_without_hidden_layers_it_is_a_linear_map():
    net = MLP(4, 2, hidden=())
    x = torch.randn(6, 4)
    torch.testing.assert_close(net(x), x @ net[0].weight.T + net[0].bias)


def test_one_hidden_layer_by_hand():
    net = MLP(3, 1, hidden=(5,))
    x = torch.randn(7, 3)
    hidden = torch.nn.functional.gelu(x @ net[0].weight.T + net[0].bias)
    torch.testing.assert_close(net(x), hidden @ net[3].weight.T + net[3].bias)


def test_dropout_acts_in_training_only():
    net = MLP(3, 2, hidden=(50,), dropout=0.5)
    x = torch.randn(1, 3)
    assert not torch.equal(net.train()(x), net(x))
    assert torch.equal(net.eval()(x), net(x))
