import pytest
import torch

from sfumato.errors import InputError
from sfumato.model.network import NetworkSettings, build_network

FLAT = NetworkSettings(
    features=(4, 8, 8), strides=((1, 1), (2, 2), (2, 2)), kernels=((3, 3), (3, 3), (3, 3))
)
THICK_SLICES = NetworkSettings(
    features=(4, 4, 8, 8),
    strides=((1, 1, 1), (2, 2, 1), (2, 2, 1), (2, 2, 2)),
    kernels=((3, 3, 1), (3, 3, 1), (3, 3, 3), (3, 3, 3)),
)


def changed(**values):
    return FLAT.model_copy(update=values)


@pytest.mark.parametrize(
    ("settings", "shape"),
    [(FLAT, (8, 12)), (FLAT, (4, 8)), (THICK_SLICES, (16, 8, 2)), (THICK_SLICES, (8, 8, 6))],
)
@pytest.mark.parametrize(("n_channels", "n_classes"), [(1, 2), (4, 3)])
def test_logits_lie_on_the_grid_of_the_image(settings, shape, n_channels, n_classes):
    network = build_network(settings, n_channels, n_classes)
    for batch_size in (1, 2):
        logits = network(torch.randn(batch_size, n_channels, *shape))
        assert logits.shape == (batch_size, n_classes, *shape)


def test_levels_have_the_kernels_strides_and_features_asked_for():
    network = build_network(THICK_SLICES, 1, 2)
    blocks = [network.input_block, *network.downsamples, network.bottleneck]
    for level, block in enumerate(blocks):
        assert block.conv1.conv.kernel_size == THICK_SLICES.kernels[level]
        assert block.conv1.conv.stride == THICK_SLICES.strides[level]
        assert block.conv2.conv.out_channels == THICK_SLICES.features[level]


def test_the_seed_decides_the_weights():
    def weights(seed):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return torch.cat([p.flatten() for p in build_network(FLAT, 1, 2).parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_every_weight_takes_part():
    network = build_network(THICK_SLICES, 2, 3)
    network(torch.randn(2, 2, 16, 16, 4)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name


def test_settings_that_are_left_open_are_refused():
    for open_value in ("features", "strides", "kernels"):
        with pytest.raises(InputError, match="must be complete; let the plan fill them first"):
            build_network(changed(**{open_value: None}), 1, 2)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (changed(features=(4, 8)), "at least 3 levels, got 2, 3 and 3"),
        (
            changed(features=(4, 8), strides=FLAT.strides[:2], kernels=FLAT.kernels[:2]),
            "at least 3 levels, got 2, 2 and 2",
        ),
        (changed(strides=()), "at least 3 levels, got 3, 0 and 3"),
        (changed(strides=((1, 1), (2, 2), (2,))), "2 numbers on every level"),
        (changed(kernels=((3, 3), (3, 3, 3), (3, 3))), "2 numbers on every level"),
        (changed(strides=((2, 2), (2, 2), (2, 2))), "the first strides all 1"),
        (changed(strides=((1, 1), (0, 2), (2, 2))), "must be at least 1"),
        (changed(features=(4, 0, 8)), "must be at least 1"),
        (changed(kernels=((3, 3), (2, 2), (3, 3))), "kernels must be odd"),
        (changed(strides=((1, 1), (5, 2), (2, 2))), "got kernel 3 with stride 5"),
    ],
)
def test_levels_that_are_no_network_are_refused(settings, complaint):
    with pytest.raises(InputError, match=complaint):
        build_network(settings, 1, 2)


@pytest.mark.parametrize(("kernel", "stride"), [(k, s) for k in (1, 3, 5) for s in range(1, k + 2)])
def test_every_kernel_and_stride_that_is_let_in_keeps_the_grid(kernel, stride):
    levels = ((1, 1), (stride, stride), (1, 2))
    settings = changed(strides=levels, kernels=((kernel, kernel),) * 3)
    shape = (2 * stride, 4 * stride)
    assert build_network(settings, 1, 2)(torch.randn(1, 1, *shape)).shape == (1, 2, *shape)
