"""The losses against arithmetic by hand, torch's own functions, and the Jaccard index counted pixel by pixel."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from water_dl_plugin.engine import settings
from water_dl_plugin.engine.errors import ConfigError, LabelError
from water_dl_plugin.engine.losses import LOSSES, loss

LN2, LN3 = math.log(2), math.log(3)
every_loss = pytest.mark.parametrize("name", list(LOSSES))
every_count = pytest.mark.parametrize("channels", [1, 2, 4])


def row(pixels, target):
    """Logits (1, K, 1, P) and target (1, 1, P) from one list of K numbers per pixel."""
    return torch.tensor(pixels, dtype=torch.float32).T[None, :, None, :], torch.tensor(target)[None, None, :]


def batch(channels, seed=0, ignored=0.3, shape=(3, 6, 5)):
    """Random logits and targets in which some pixels are ignored."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape[0], channels, *shape[1:], generator=generator) * 2
    target = torch.randint(0, max(channels, 2), shape, generator=generator)
    target[torch.rand(shape, generator=generator) < ignored] = -1
    return logits, target


# Binary: probabilities of water 1/2, 3/4, 1/4 (the logit of 3/4 is ln 3) with truth 1, 1, 0, so the true class has 1/2, 3/4, 3/4.
BINARY = row([[0.0], [LN3], [-LN3], [9.0]], [1, 1, 0, -1])
# Three classes, logits = log of the probabilities; class 2 does not occur.
A, B, C = [0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5]
THREE = row([[math.log(p) for p in pixel] for pixel in (A, B, C, A)], [0, 1, 0, -1])


class TestByHand:
    @pytest.mark.parametrize(
        "name, weights, expected",
        [
            ("cross_entropy", None, (LN2 + 2 * math.log(4 / 3)) / 3),
            # (negative 2, positive 1): the third pixel counts twice, and so does its share of the sum of weights.
            ("cross_entropy", (2, 1), (LN2 + math.log(4 / 3) + 2 * math.log(4 / 3)) / (1 + 1 + 2)),
            # (1 - p)^2: 1/4, 1/16, 1/16
            ("focal", None, (LN2 / 4 + 2 * math.log(4 / 3) / 16) / 3),
            ("focal", (2, 1), (LN2 / 4 + 3 * math.log(4 / 3) / 16) / 4),
            # sum p t = 1/2 + 3/4, sum p = 3/2, sum t = 2: Dice = (2 * 5/4 + 1) / (3/2 + 2 + 1) = 7/9
            ("bce_dice", None, 0.5 * (LN2 + 2 * math.log(4 / 3)) / 3 + 2 / 9),
            ("bce_dice", (2, 1), 0.5 * (LN2 + 3 * math.log(4 / 3)) / 4 + 2 / 9),
        ],
    )
    def test_binary(self, name, weights, expected):
        assert loss(name, *BINARY, weights).item() == pytest.approx(expected, rel=1e-6)

    @pytest.mark.parametrize(
        "name, weights, expected",
        [
            ("cross_entropy", None, (LN2 + LN2 + 2 * LN2) / 3),
            ("cross_entropy", (1, 2, 5), (LN2 + 2 * LN2 + 2 * LN2) / (1 + 2 + 1)),
            # (1 - p)^2 = 1/4, 1/4, 9/16 times ln 2, ln 2, 2 ln 2
            ("focal", None, (1 / 4 + 1 / 4 + 18 / 16) * LN2 / 3),
            # class 0: (2 * 3/4 + 1) / (1 + 2 + 1) = 5/8; class 1: (2 * 1/2 + 1) / (1 + 1 + 1) = 2/3; class 2 is absent
            ("bce_dice", None, 0.5 * 4 * LN2 / 3 + (3 / 8 + 1 / 3) / 2),
            # class 0, errors C 3/4 (true), A 1/2 (true), B 1/4 (false); the Jaccard loss grows 1/2, 1/2, 0: 3/8 + 1/4 = 5/8
            # class 1, errors B 1/2 (true), A and C 1/4 (false); it grows 1, 0, 0: 1/2
            ("lovasz", None, (5 / 8 + 1 / 2) / 2),
        ],
    )
    def test_three_classes(self, name, weights, expected):
        assert loss(name, *THREE, weights).item() == pytest.approx(expected, rel=1e-6)

    def test_lovasz_hinge(self):
        # Hinge errors 1 - z * (+-1): 2 (true), 1 (false), 0 (true, beyond the margin). Two true pixels in all:
        # with the first one wrong 1 - 1/2, with both 1 - 1/3: growth 1/2 and 1/6; 2 * 1/2 + 1 * 1/6
        logits, target = row([[-1.0], [0.0], [2.0], [5.0]], [1, 0, 1, -1])
        assert loss("lovasz", logits, target).item() == pytest.approx(7 / 6, rel=1e-6)

    def test_nothing_to_find(self):
        """No foreground in the batch: Lovasz hinge is the largest error, Dice 1 - 1 / (sum p + 1)."""
        logits, target = row([[0.0], [-3.0]], [0, 0])
        assert loss("lovasz", logits, target).item() == pytest.approx(1.0)
        p = 0.5 + 1 / (1 + math.exp(3))
        entropy = (LN2 + math.log(1 + math.exp(-3))) / 2
        assert loss("bce_dice", logits, target).item() == pytest.approx(0.5 * entropy + 1 - 1 / (p + 1), rel=1e-6)


class TestAgainstTorch:
    @pytest.mark.parametrize("weights", [None, (0.5, 3.0, 1.0, 2.0)])
    def test_cross_entropy_of_classes(self, weights):
        logits, target = batch(4)
        expected = F.cross_entropy(logits, target, weight=None if weights is None else torch.tensor(weights), ignore_index=-1)
        torch.testing.assert_close(loss("cross_entropy", logits, target, weights), expected)

    def test_binary_cross_entropy(self):
        logits, target = batch(1, ignored=0)
        expected = F.binary_cross_entropy_with_logits(logits[:, 0], target.float())
        torch.testing.assert_close(loss("cross_entropy", logits, target), expected)


class TestBinaryAndTwoClassesAgree:
    @pytest.mark.parametrize("name", ["cross_entropy", "focal"])
    @pytest.mark.parametrize("weights", [None, (0.3, 2.0)])
    def test_where_only_the_true_class_counts(self, name, weights):
        """The softmax of (0, z) is the sigmoid of z."""
        logits, target = batch(1)
        two = torch.cat([torch.zeros_like(logits), logits], 1)
        torch.testing.assert_close(loss(name, two, target, weights), loss(name, logits, target, weights))

    def test_bce_dice_of_two_classes_is_the_mean_of_both_views(self):
        logits, target = batch(1)
        two = torch.cat([torch.zeros_like(logits), logits], 1)
        swapped = torch.where(target >= 0, 1 - target, target)
        expected = (loss("bce_dice", logits, target) + loss("bce_dice", -logits, swapped)) / 2
        torch.testing.assert_close(loss("bce_dice", two, target), expected)


def jaccard_loss(wrong, truth):
    """|wrong| / |truth united with wrong|: 1 - IoU of the answer that errs in just these pixels."""
    union = (wrong | truth).sum().item()
    return wrong.sum().item() / union if union else 0.0


def lovasz_by_levels(errors, truth):
    """The extension as an integral over levels (Choquet): the pixels with errors above a level are wrong, no sorting by growth."""
    levels = [0.0, *sorted(set(errors.tolist()))]
    return sum((high - low) * jaccard_loss(errors >= high, truth) for low, high in zip(levels, levels[1:]))


class TestLovasz:
    @pytest.mark.parametrize("seed", range(8))
    def test_hinge_against_brute_force(self, seed):
        logits, target = batch(1, seed, shape=(2, 4, 4))
        z, truth = logits[:, 0][target >= 0].double(), target[target >= 0] == 1
        errors = torch.relu(1 - torch.where(truth, z, -z))
        assert loss("lovasz", logits, target).item() == pytest.approx(lovasz_by_levels(errors, truth), abs=1e-5)

    @pytest.mark.parametrize("seed", range(8))
    def test_softmax_against_brute_force(self, seed):
        logits, target = batch(4, seed, shape=(2, 4, 4))
        target[target == seed % 4] = 0  # one class (or none) is absent
        labelled = target >= 0
        p, truth = torch.softmax(logits.double(), 1).permute(0, 2, 3, 1)[labelled], target[labelled]
        terms = [lovasz_by_levels(((truth == c).double() - p[:, c]).abs(), truth == c) for c in truth.unique().tolist()]
        assert loss("lovasz", logits, target).item() == pytest.approx(sum(terms) / len(terms), abs=1e-5)

    @pytest.mark.parametrize("seed", range(5))
    def test_hard_answers_cost_one_minus_iou(self, seed):
        _, target = batch(1, seed)
        answer = torch.randint(0, 2, target.shape, generator=torch.Generator().manual_seed(seed + 100))
        found, truth = (answer == 1)[target >= 0], (target == 1)[target >= 0]
        water = 1 - (found & truth).sum().item() / (found | truth).sum().item()
        land = 1 - (~found & ~truth).sum().item() / (~found | ~truth).sum().item()
        signs = (2.0 * answer - 1)[:, None]
        # With logits +-1 a hinge error is 2 or 0.
        assert loss("lovasz", signs, target).item() == pytest.approx(2 * water, rel=1e-5)
        certain = torch.cat([-1e4 * signs, 1e4 * signs], 1)
        assert loss("lovasz", certain, target).item() == pytest.approx((water + land) / 2, rel=1e-5)


@every_loss
@every_count
class TestEveryLoss:
    def test_what_is_ignored_changes_nothing(self, name, channels):
        logits, target = batch(channels)
        ignored = (target < 0)[:, None].expand_as(logits)
        assert 0 < ignored.float().mean() < 1
        expected = loss(name, logits, target)
        for value in (0.0, 1e4, -1e4, math.nan, math.inf):
            changed = torch.where(ignored, torch.tensor(value), logits).requires_grad_()
            result = loss(name, changed, target)
            assert result.item() == expected.item()
            result.backward()
            assert (changed.grad[ignored] == 0).all()
            assert torch.isfinite(changed.grad).all() and changed.grad.abs().sum() > 0

    def test_is_the_loss_of_the_labelled_pixels_alone(self, name, channels):
        logits, target = batch(channels)
        labelled = target >= 0
        alone = logits.permute(0, 2, 3, 1)[labelled].T[None, :, None, :]
        torch.testing.assert_close(loss(name, alone, target[labelled][None, None, :]), loss(name, logits, target))

    def test_all_ignored_is_zero_with_zero_gradients(self, name, channels):
        logits = batch(channels)[0].requires_grad_()
        result = loss(name, logits, torch.full((3, 6, 5), -1))
        assert result.item() == 0 and result.dtype == torch.float32
        result.backward()
        assert torch.equal(logits.grad, torch.zeros_like(logits))

    def test_the_right_answer_is_near_zero_and_the_wrong_one_is_not(self, name, channels):
        _, target = batch(channels)
        classes = max(channels, 2)
        truth = target.clamp(min=0)
        right = 100.0 * F.one_hot(truth, classes).permute(0, 3, 1, 2) - 50
        if channels == 1:
            right = right[:, 1:]
        assert loss(name, right, target).item() == pytest.approx(0, abs=1e-6)
        assert loss(name, -right, target).item() > 0.5

    def test_order_of_pixels_does_not_matter(self, name, channels):
        logits, target = batch(channels)
        shuffled = torch.randperm(6, generator=torch.Generator().manual_seed(4))
        expected = loss(name, logits, target)
        torch.testing.assert_close(loss(name, logits[:, :, shuffled], target[:, shuffled]), expected)
        torch.testing.assert_close(loss(name, logits.flip(0, 3), target.flip(0, 2)), expected)
        torch.testing.assert_close(loss(name, logits.transpose(2, 3), target.transpose(1, 2)), expected)
        channels_last = logits.contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(loss(name, channels_last, target), expected)

    def test_huge_logits_stay_finite(self, name, channels):
        logits, target = batch(channels)
        for scale in (1e4, -1e4):
            huge = (logits.sign() * scale).requires_grad_()
            result = loss(name, huge, target)
            result.backward()
            assert math.isfinite(result.item()) and torch.isfinite(huge.grad).all()

    def test_is_computed_in_float32_under_autocast(self, name, channels):
        logits, target = batch(channels)
        half = logits.bfloat16()
        with torch.autocast("cpu", torch.bfloat16):
            result = loss(name, half, target)
        assert result.dtype == torch.float32
        assert result.item() == loss(name, half.float(), target).item()

    def test_descent_finds_the_labels(self, name, channels):
        logits, target = batch(channels)
        logits.requires_grad_()
        optimizer = torch.optim.Adam([logits], lr=0.3)
        for _ in range(60):
            optimizer.zero_grad()
            loss(name, logits, target).backward()
            optimizer.step()
        answer = (logits[:, 0] > 0).long() if channels == 1 else logits.argmax(1)
        assert torch.equal(answer[target >= 0], target[target >= 0])


@every_loss
@pytest.mark.parametrize("channels", [2, 4])
def test_order_of_classes_does_not_matter(name, channels):
    logits, target = batch(channels)
    order = torch.randperm(channels, generator=torch.Generator().manual_seed(2))
    renamed = torch.where(target >= 0, order.argsort()[target.clamp(min=0)], target)
    torch.testing.assert_close(loss(name, logits[:, order], renamed), loss(name, logits, target))


class TestWrongUse:
    def test_the_form_offers_the_losses_there_are(self):
        assert tuple(LOSSES) == settings.LOSSES[: len(LOSSES)]

    def test_unknown_name_lists_the_right_ones(self):
        with pytest.raises(ConfigError, match="bce_dice, lovasz, cross_entropy, focal"):
            loss("dice", *BINARY)

    @pytest.mark.parametrize("weights", [(1.0,), (1, 2, 3), (1, -1), (0, 1), (1, math.nan), (1, math.inf)])
    def test_weights_that_do_not_fit(self, weights):
        with pytest.raises(ConfigError, match="Give 2 positive numbers"):
            loss("cross_entropy", *BINARY, weights)

    @pytest.mark.parametrize("case, channels", [(BINARY, 1), (THREE, 3)])
    def test_label_beyond_the_classes(self, case, channels):
        logits, target = case
        with pytest.raises(LabelError, match=f"class {max(channels, 2)}"):
            loss("cross_entropy", logits, target.clone().fill_(max(channels, 2)))

    def test_shapes_that_disagree(self):
        with pytest.raises(ValueError, match="disagree"):
            loss("focal", torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 5, dtype=torch.int64))
