"""The classifier learns planted classes; its data are bounded, balanced and checked."""

import math

import pytest
import torch
from planted import noise, sided

from medgan_pl.metrics.utility.classifier import Classifier, fit_classifier, predict
from medgan_pl.metrics.utility.scores import auc
from medgan_pl.metrics.utility.teaching import Balanced, Labeled, SlightAugmentation, Training, labeled, share_of_rate, shares, small


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Networks this small only wait for a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


QUICK = Training(seeds=2, steps=25, batch_size=16)


def score(network, test):
    return auc(predict(network, test.images), test.labels).item()


@pytest.mark.parametrize(("spatial_dims", "classes", "steps"), [(2, 2, 25), (2, 3, 40), (3, 2, 15)])
def test_it_learns_planted_classes(spatial_dims, classes, steps):
    train, test = (sided(seed=seed, spatial_dims=spatial_dims, classes=classes) for seed in (0, 1))
    network = fit_classifier([train], classes, Training(steps=steps, batch_size=12), seed=0)
    seen = predict(network, test.images)
    assert seen.shape == (60, classes)
    assert seen.sum(1).tolist() == pytest.approx([1] * 60)
    assert score(network, test) > 0.97


@pytest.mark.parametrize(("channels", "shape"), [(3, (16, 16)), (1, (17, 33)), (2, (16, 20, 19))])
def test_any_size_and_channels(channels, shape):
    network = Classifier(classes=4, spatial_dims=len(shape), channels=channels)
    assert network(torch.zeros(2, channels, *shape)).shape == (2, 4)


def test_same_seed_same_network_and_the_global_generator_is_untouched():
    train, torch_state = sided(), torch.get_rng_state()
    one, again, other = (fit_classifier([train], 2, Training(steps=3), seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])
    assert torch.equal(torch_state, torch.get_rng_state())


def test_it_learns_inside_inference_mode():
    with torch.inference_mode():
        network = fit_classifier([sided()], 2, QUICK, seed=0)
        assert score(network, sided(seed=1)) > 0.9


def test_every_part_is_learned_from():
    """The second part alone shows class 1 on the right."""
    blank = Labeled(noise(60, (1, 16, 16), 5), torch.arange(60) % 2)
    assert score(fit_classifier([blank, sided()], 2, Training(steps=60, batch_size=16), seed=0), sided(seed=1)) > 0.9


def test_large_images_are_averaged_down():
    image = torch.rand(3, 1, 128, 256)
    assert small(image).shape == (3, 1, 32, 64)
    torch.testing.assert_close(small(image), image.unfold(2, 4, 4).unfold(3, 4, 4).mean((-1, -2)))
    assert small(torch.rand(2, 1, 16, 300)).shape == (2, 1, 16, 64)
    assert small(torch.rand(2, 1, 64, 64, 48)).shape == (2, 1, 32, 32, 24)
    few = torch.rand(40, 2, 64, 30)
    assert torch.equal(small(few), few)
    network = Classifier(classes=2)
    torch.testing.assert_close(predict(network, image), network(small(image)).double().softmax(1).detach())


class Lazy:
    """Images that are read when asked for; notes how many at once."""

    def __init__(self, images):
        self.images, self.asked = images, []

    def __len__(self):
        return len(self.images)

    def __getitem__(self, rows):
        self.asked.append(len(rows))
        return self.images[rows]


def test_large_sets_are_read_a_few_at_a_time_and_up_to_a_number():
    train = sided(200)
    lazy = Lazy(train.images)
    ready = labeled(Labeled(lazy, train.labels, groups=torch.arange(200)), 2, max_images=70, what="set")
    assert (max(lazy.asked), sum(lazy.asked)) == (16, 70)
    assert torch.equal(ready.images, train.images[ready.groups])
    assert torch.equal(ready.labels, train.labels[ready.groups])
    assert len(ready.groups.unique()) == 70
    assert ready.groups.max() > 150


def test_batches_are_balanced():
    labels = torch.tensor([0] * 90 + [1] * 9 + [2])
    draw = Balanced(labels, 3, torch.Generator().manual_seed(0))
    rows = torch.cat([draw.rows(16) for _ in range(300)])
    assert all(5 <= count <= 6 for count in labels[draw.rows(16)].bincount(minlength=3).tolist())
    assert (labels[rows].bincount() / len(rows)).tolist() == pytest.approx([1 / 3] * 3, abs=0.01)
    assert set(rows.tolist()) == set(range(100))
    assert shares(32, [0, 1]) == [16, 16]
    assert shares(32, [0, 1, 2]) == [11, 11, 10]


@pytest.mark.parametrize("shape", [(32, 48), (16, 32, 16)])
def test_changes_move_by_whole_pixels_and_never_mirror(shape):
    images = torch.rand(40, 2, *shape)
    change = SlightAugmentation(images, torch.Generator().manual_seed(0))
    reach = [side // 16 for side in shape]
    assert change.moves.amax(0).tolist() == reach
    assert change.moves.amin(0).tolist() == [-most for most in reach]
    moved = change.moved(images)
    for image, result, move in zip(images, moved, change.moves.tolist(), strict=True):
        places = torch.meshgrid(*[(torch.arange(s) + m).clamp(0, s - 1) for s, m in zip(shape, move, strict=True)], indexing="ij")
        assert torch.equal(result, image[(slice(None), *places)])
    lit = change(images)
    factor = lit.flatten(1).std(1) / moved.flatten(1).std(1)
    assert 0.9 <= factor.min() < 0.93
    assert 1.07 < factor.max() <= 1.1
    assert len({round(value, 5) for value in factor.tolist()}) > 30


def test_the_rate_goes_up_and_down():
    rates = [share_of_rate(place / 400) for place in range(401)]
    assert (rates[0], rates[100], rates[400]) == (0, 1, 0)
    assert rates[:101] == sorted(rates[:101])
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert rates[250] == pytest.approx(0.5)


def test_errors_of_the_data():
    train = sided()
    rare = Labeled(train.images, (torch.arange(60) >= 50).long())
    with pytest.raises(ValueError, match="20 or more of each class to train on, got \\[50, 10\\]"):
        fit_classifier([rare], 2, QUICK, 0)
    with pytest.raises(ValueError, match="must have labels, got none"):
        fit_classifier([Labeled(train.images, None)], 2, QUICK, 0)
    with pytest.raises(ValueError, match="labels must lie in 0 to 1, got 0 to 2"):
        fit_classifier([sided(classes=3)], 2, QUICK, 0)
    with pytest.raises(ValueError, match="one label and one group an image, got 59 labels of 60"):
        fit_classifier([Labeled(train.images, train.labels[1:])], 2, QUICK, 0)
    with pytest.raises(ValueError, match="same channels and size"):
        fit_classifier([train, sided(side=20)], 2, QUICK, 0)
    torn = train.images.clone()
    torn[17, 0, 3, 3] = math.nan
    with pytest.raises(ValueError, match="NaN or infinity among images 16 to 31"):
        fit_classifier([Labeled(torn, train.labels)], 2, QUICK, 0)
    with pytest.raises(ValueError, match="sides of 16 or more, got"):
        small(torch.zeros(3, 1, 15, 32))
    with pytest.raises(ValueError, match="got none"):
        small(torch.zeros(0, 1, 16, 16))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"seeds": 1}, "`seeds`"), ({"steps": 0}, "`steps`"), ({"batch_size": 15}, "even"), ({"width": 6}, "multiple of 4")],
)
def test_errors_of_the_settings(wrong, message):
    with pytest.raises(ValueError, match=message):
        Training(**wrong)
