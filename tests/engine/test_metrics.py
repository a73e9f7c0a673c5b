"""Figures against scikit-learn, and by hand where scikit-learn has no such figure or another convention for 0/0."""

import math

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from water_dl_plugin.engine.errors import ConfigError, GridMismatchError, RasterError
from water_dl_plugin.engine.metrics import ProbabilityCurve, bootstrap, confusion, detection, scores


def labels(seed, classes, size=2000, right=0.7):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, size)
    return truth, np.where(rng.random(size) < right, truth, rng.integers(0, classes, size))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_confusion_is_that_of_sklearn(classes, dtype):
    truth, prediction = labels(1, classes)
    matrix = confusion(truth.astype(dtype).reshape(40, 50), prediction.astype(dtype).reshape(40, 50), classes)
    assert matrix.dtype == np.int64
    np.testing.assert_array_equal(matrix, sk.confusion_matrix(truth, prediction, labels=range(classes)))


def test_confusion_ignores_what_is_no_class_and_adds_up_over_windows():
    truth = np.array([0, 1, 2, -1, 255, 3, 1, 0])
    prediction = np.array([0, 2, 2, 1, 1, 1, -1, 9])
    whole = confusion(truth, prediction, 3)
    assert whole.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]
    np.testing.assert_array_equal(confusion(truth[:3], prediction[:3], 3) + confusion(truth[3:], prediction[3:], 3), whole)


def test_confusion_of_uint8_does_not_overflow():
    truth = np.full(10, 20, np.uint8)
    assert confusion(truth, truth, 21)[20, 20] == 10  # 20 * 21 + 20 is beyond 255


def test_confusion_refuses_other_shapes_and_fractions():
    with pytest.raises(GridMismatchError):
        confusion(np.zeros((2, 3), int), np.zeros((3, 2), int), 2)
    with pytest.raises(TypeError):
        confusion(np.zeros(3), np.zeros(3, int), 2)


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("right", [0.0, 0.5, 0.95, 1.0])
def test_scores_are_those_of_sklearn(classes, right):
    truth, prediction = labels(2, classes, right=right)
    got = scores(confusion(truth, prediction, classes))
    names = range(classes)
    assert got["accuracy"] == pytest.approx(sk.accuracy_score(truth, prediction))
    assert got["kappa"] == pytest.approx(sk.cohen_kappa_score(truth, prediction))
    assert got["mcc"] == pytest.approx(sk.matthews_corrcoef(truth, prediction))
    assert got["mean_iou"] == pytest.approx(sk.jaccard_score(truth, prediction, labels=names, average="macro"))
    assert got["mean_dice"] == pytest.approx(sk.f1_score(truth, prediction, labels=names, average="macro"))
    assert got["iou"] == pytest.approx(sk.jaccard_score(truth, prediction, labels=names, average=None).tolist())
    assert got["f1"] == pytest.approx(sk.f1_score(truth, prediction, labels=names, average=None).tolist())
    assert got["recall"] == pytest.approx(sk.recall_score(truth, prediction, labels=names, average=None).tolist())
    assert got["precision"] == pytest.approx(sk.precision_score(truth, prediction, labels=names, average=None).tolist())
    assert got["truth_pixels"] == np.bincount(truth, minlength=classes).tolist()
    assert got["predicted_pixels"] == np.bincount(prediction, minlength=classes).tolist()


def test_a_class_that_is_nowhere_is_nan_and_in_no_mean():
    truth, prediction = labels(3, 2)
    got = scores(confusion(truth, prediction, 3))
    assert all(math.isnan(got[name][2]) for name in ("recall", "precision", "f1", "iou"))
    assert got["mean_iou"] == pytest.approx(sk.jaccard_score(truth, prediction, labels=[0, 1], average="macro"))
    assert got["mean_dice"] == pytest.approx(sk.f1_score(truth, prediction, labels=[0, 1], average="macro"))
    assert got["mcc"] == pytest.approx(sk.matthews_corrcoef(truth, prediction))


def test_a_class_that_is_only_mapped_counts_as_missed_entirely():
    got = scores(np.array([[8, 2], [0, 0]]))
    assert math.isnan(got["recall"][1]) and got["precision"][1] == 0
    assert got["iou"] == [0.8, 0.0] and got["mean_iou"] == 0.4


def test_one_class_and_no_pixel():
    one = scores(np.array([[50, 0], [0, 0]]))
    assert one["accuracy"] == 1 and one["mean_iou"] == 1
    assert math.isnan(one["kappa"]) and math.isnan(one["mcc"])  # no agreement beyond chance is possible
    none = scores(np.zeros((3, 3), np.int64))
    assert math.isnan(none["accuracy"]) and math.isnan(none["mean_iou"]) and none["truth_pixels"] == [0, 0, 0]


def test_scores_of_a_continent_do_not_overflow():
    small, factor = np.array([[7, 2], [3, 11]]), 10**12
    for name, value in scores(small * factor).items():
        if not name.endswith("pixels"):
            assert value == pytest.approx(scores(small)[name])


def test_detection_by_hand():
    got = detection(np.array([[80, 5], [10, 30]]), positive=1)
    assert got["pod"] == 30 / 40 and got["far"] == 5 / 35 and got["csi"] == 30 / 45 and got["bias"] == 35 / 40
    assert (got["hits"], got["misses"], got["false_alarms"], got["correct_negatives"]) == (30, 10, 5, 80)


def test_detection_of_one_class_among_several_is_that_class_against_the_rest():
    truth, prediction = labels(4, 4)
    got = detection(confusion(truth, prediction, 4), positive=2)
    assert got["pod"] == pytest.approx(sk.recall_score(truth == 2, prediction == 2))
    assert got["far"] == pytest.approx(1 - sk.precision_score(truth == 2, prediction == 2))
    assert got["csi"] == pytest.approx(sk.jaccard_score(truth == 2, prediction == 2))
    assert sum(got[key] for key in ("hits", "misses", "false_alarms", "correct_negatives")) == truth.size


def test_detection_without_positives_is_nan():
    got = detection(np.array([[9, 0], [0, 0]]), positive=1)
    assert all(math.isnan(got[key]) for key in ("pod", "far", "csi", "bias"))
    with pytest.raises(ConfigError):
        detection(np.zeros((2, 2), int), positive=2)


def probabilities(seed, bins, size=5000):
    """Quantised to the bins: then scikit-learn, which knows every value, and the histogram must agree to the last digit."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(size) < 0.3).astype(np.uint8)
    p = np.clip(rng.normal(0.35 + 0.3 * truth, 0.2), 0, 1)
    return np.round(p * bins) / bins, truth


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bins", [10, 100, 1000])
def test_curve_is_that_of_sklearn(bins, dtype):
    p, truth = probabilities(5, bins)
    p = p.astype(dtype)
    curve = ProbabilityCurve(bins)
    curve.update(p[:2000].reshape(40, 50), truth[:2000].reshape(40, 50))
    curve.update(p[2000:], truth[2000:])
    thresholds, precision, recall = curve.precision_recall()
    want_precision, want_recall, want_thresholds = sk.precision_recall_curve(truth, p)
    place = np.round(want_thresholds.astype(np.float64) * bins).astype(int)
    np.testing.assert_allclose(thresholds[place], want_thresholds, rtol=1e-6)
    np.testing.assert_allclose(precision[place], want_precision[:-1])
    np.testing.assert_allclose(recall[place], want_recall[:-1])
    assert curve.average_precision() == pytest.approx(sk.average_precision_score(truth, p))
    iou = [sk.jaccard_score(truth, p >= threshold) for threshold in want_thresholds[:: max(1, bins // 20)]]
    np.testing.assert_allclose(curve.values("iou")[place[:: max(1, bins // 20)]], iou)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("bins", [7, 100, 1000])
def test_a_bin_edge_belongs_to_the_class_as_a_comparison_says(bins, dtype):
    p = (np.arange(bins + 1) / bins).astype(dtype)
    p = np.concatenate([p, np.nextafter(p, dtype(0)), np.nextafter(p, dtype(1))])
    curve = ProbabilityCurve(bins)
    curve.update(p, np.ones(p.shape, int))
    true_positive, _, _ = curve.counts()
    assert true_positive.tolist() == [int((p >= float(threshold)).sum()) for threshold in curve.thresholds]


@pytest.mark.parametrize(("metric", "reference"), [("iou", sk.jaccard_score), ("f1", sk.f1_score)])
def test_best_threshold_is_the_best_of_all(metric, reference):
    p, truth = probabilities(6, 50)
    curve = ProbabilityCurve(50)
    curve.update(p, truth)
    threshold, value = curve.best_threshold(metric)
    assert value == pytest.approx(reference(truth, p >= threshold))
    assert value == pytest.approx(max(reference(truth, p >= k / 50) for k in range(51)))


def test_best_threshold_between_separated_classes_is_the_middle_one():
    curve = ProbabilityCurve()
    curve.update(np.array([0.1, 0.2, 0.9, 0.95]), np.array([0, 0, 1, 1]))
    assert curve.best_threshold("iou") == (0.5, 1.0)
    with pytest.raises(ConfigError):
        curve.best_threshold("accuracy")


def test_curve_ignores_nan_and_unlabelled_pixels_and_refuses_per_cent():
    curve = ProbabilityCurve(10)
    curve.update(np.array([0.5, np.nan, 0.7, 0.2]), np.array([1, 1, 255, 0]))
    assert curve.positive.sum() == 1 and curve.negative.sum() == 1
    curve.update(np.array([1.0000001, -1e-7], np.float32), np.array([1, 0]))  # rounding of blended windows
    assert curve.positive[10] == 1 and curve.negative[0] == 1
    with pytest.raises(RasterError):
        curve.update(np.array([3, 97]), np.array([0, 1]))
    with pytest.raises(GridMismatchError):
        curve.update(np.zeros((2, 3)), np.zeros((3, 2)))


def test_merged_curves_are_the_curve_of_all():
    p, truth = probabilities(7, 100)
    whole, first, second = ProbabilityCurve(100), ProbabilityCurve(100), ProbabilityCurve(100)
    whole.update(p, truth)
    first.update(p[:1234], truth[:1234])
    second.update(p[1234:], truth[1234:])
    first.merge(second)
    np.testing.assert_array_equal(first.positive, whole.positive)
    np.testing.assert_array_equal(first.negative, whole.negative)
    assert first.reliability()["error"] == pytest.approx(whole.reliability()["error"])
    with pytest.raises(ValueError, match="bins"):
        first.merge(ProbabilityCurve(10))


def test_a_curve_without_positives_has_no_best():
    curve = ProbabilityCurve()
    curve.update(np.array([0.2, 0.8]), np.array([0, 0]))
    assert math.isnan(curve.best_threshold()[0]) and math.isnan(curve.average_precision())
    assert np.isnan(curve.precision_recall()[2]).all()


def test_reliability_of_calibrated_and_of_overconfident_probabilities():
    rng = np.random.default_rng(8)
    p = rng.random(200_000)
    honest, boastful = ProbabilityCurve(), ProbabilityCurve()
    truth = rng.random(p.size) < p
    honest.update(p, truth.astype(int))
    boastful.update(np.where(p > 0.5, 0.95, 0.05), truth.astype(int))
    assert honest.reliability()["error"] < 0.01
    assert boastful.reliability()["error"] == pytest.approx(0.2, abs=0.01)  # says 0.95, is 0.75
    table = honest.reliability(4)
    assert table["low"] == [0, 0.25, 0.5, 0.75] and sum(table["pixels"]) == p.size
    assert table["probability"][0] == pytest.approx(p[p < 0.25].mean())
    observed, predicted = calibration_curve(truth, p, n_bins=4)
    np.testing.assert_allclose(table["observed"], observed)
    np.testing.assert_allclose(table["probability"], predicted)


def test_bootstrap_brackets_the_figure_and_shrinks_with_more_units():
    rng = np.random.default_rng(9)

    def units(count):
        share = np.clip(rng.normal(0.9, 0.05, count), 0, 1)
        right = rng.binomial(500, share)
        wet = rng.random(count) < 0.5
        return np.array([[[0, 0], [500 - r, r]] if w else [[r, 500 - r], [0, 0]] for r, w in zip(right, wet)])

    widths = []
    for count in (20, 320):
        matrices = units(count)
        interval = bootstrap(matrices, np.random.default_rng(1))
        point = scores(matrices.sum(axis=0))
        for name in ("accuracy", "mean_iou", "kappa"):
            assert interval[name][0] < point[name] < interval[name][1]
        for name in ("iou", "f1", "recall"):
            assert all(low < value < high for (low, high), value in zip(interval[name], point[name]))
        widths.append(interval["accuracy"][1] - interval["accuracy"][0])
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.5)  # 16 times the units, a quarter of the width


def test_bootstrap_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(10)
    inside = 0
    for _ in range(200):
        right = rng.binomial(100, rng.beta(18, 2, 60))
        matrices = np.zeros((60, 2, 2))
        matrices[:, 0, 0], matrices[:, 0, 1] = right, 100 - right
        low, high = bootstrap(matrices, rng, repeats=200)["accuracy"]
        inside += low <= 0.9 <= high
    assert 0.89 <= inside / 200 <= 0.99


def test_bootstrap_limits_are_those_of_a_mean_by_theory():
    right = np.random.default_rng(12).binomial(100, 0.8, 400)
    matrices = np.zeros((400, 2, 2))
    matrices[:, 1, 1], matrices[:, 1, 0] = right, 100 - right
    error = right.std() / 100 / math.sqrt(400)
    for level, factor in ((0.95, 1.96), (0.8, 1.2816)):
        low, high = bootstrap(matrices, np.random.default_rng(1), repeats=8000, level=level)["accuracy"]
        assert (right.mean() / 100 - low) / error == pytest.approx(factor, rel=0.06)
        assert (high - right.mean() / 100) / error == pytest.approx(factor, rel=0.06)


def test_bootstrap_is_the_same_for_the_same_seed_and_undefined_for_one_unit():
    matrices = np.random.default_rng(11).integers(0, 50, (12, 3, 3))
    assert bootstrap(matrices, np.random.default_rng(1)) == bootstrap(matrices, np.random.default_rng(1))
    one = bootstrap(matrices[:1], np.random.default_rng(1))
    assert math.isnan(one["accuracy"][0]) and one["units"] == 1 and math.isnan(one["iou"][2][1])
