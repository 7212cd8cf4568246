"""Figures leave nothing behind, draw what they are given, and never fail on a name."""

import sys

import matplotlib
import numpy as np
import pytest
from PIL import Image
from synthetic_rows import study

from convtl.analysis.arms import blocks, frame
from convtl.reporting import figures, numbers, pictures, plots
from convtl.reporting.summary import cells


@pytest.fixture(scope="module")
def block():
    return blocks(frame(study(3)))[0]


def test_the_users_matplotlib_settings_stay(block, tmp_path):
    with matplotlib.rc_context({"font.size": 31.0}):
        before = dict(matplotlib.rcParams)
        figures.save(plots.accuracy_by_depth(block), tmp_path / "a.png")
        assert dict(matplotlib.rcParams) == before
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def test_accuracy_by_depth_draws_the_means(block):
    figure = plots.accuracy_by_depth(block)
    assert [axis.get_title() for axis in figure.axes] == [
        f"{n} labelled images a class" for n in (2, 10, 50)
    ]
    labels = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert labels[0] == "1\n(out)"
    assert labels[-1] == "5\n(conv1, all)"
    drawn = figure.axes[1].containers[0].lines[0].get_ydata()
    expected = [block.arm("latin", 10, depth, "test_accuracy").mean() for depth in block.depths]
    assert drawn == pytest.approx(expected)


def test_the_map_writes_each_value_and_interval(block):
    found = cells(block)
    texts = [text.get_text() for text in plots.benefit_map(block, found).axes[0].texts]
    assert len(texts) == len(found)
    for cell in found:
        assert any(numbers.signed(cell.benefit.found.effect) in text for text in texts)


def test_the_map_is_centred_on_zero(block):
    image = plots.benefit_map(block, cells(block)).axes[0].images[0]
    assert image.norm.vmin == -image.norm.vmax


def test_learning_curves_show_the_depth_chosen_on_validation(block):
    found = cells(block)
    axis = plots.learning_curves(block, found).axes[0]
    line = next(c for c in axis.containers if c.get_label() == "depth chosen on validation").lines[
        0
    ]
    chosen = [cell for cell in found if cell.source == "latin"]
    expected = [block.arm("latin", cell.n, cell.chosen, "test_accuracy").mean() for cell in chosen]
    assert line.get_ydata() == pytest.approx(expected)


@pytest.mark.parametrize("rate", [1e-3, 3e-3, 1e-10, 1e3])
def test_one_learning_rate_is_in_the_middle_of_its_axis(rate, tmp_path):
    """Also without a warning: pytest makes errors of them."""
    rows = [{**row, "lr": rate, "lr_at_edge": False} for row in study(3)]
    figure = plots.rates(blocks(frame(rows))[0])
    figures.save(figure, tmp_path / "r.png")
    for axis in figure.axes:
        low, high = axis.get_ylim()
        assert np.sqrt(low * high) == pytest.approx(rate)
        assert high / low > 5
        assert list(axis.get_yticks()) == [rate]


def test_a_picture_is_published_whole_and_small(block, tmp_path):
    path = figures.save(plots.calibration(block), tmp_path / "new" / "c.png")
    with Image.open(path) as image:
        image.load()
        assert image.size[0] > 900
    assert path.stat().st_size < 150_000
    assert [item.name for item in path.parent.iterdir()] == ["c.png"]


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 1), (32, 20, 3)])
def test_samples_of_any_shape(shape, tmp_path):
    images = np.zeros((15, *shape), np.uint8)
    figure = pictures.samples(
        {"a": (images, [f"{k}" for k in range(15)]), "b": (images[:2], ["$x$", "漢"])}
    )
    figures.save(figure, tmp_path / "s.png")
    assert len([axis for axis in figure.axes if axis.images]) == 14


def test_characters_without_a_glyph_become_a_box():
    assert figures.drawable("Ж ա ა א\n漢") == "Ж ա ა א\n□"


@pytest.mark.parametrize(
    ("write", "given", "text"),
    [
        (numbers.signed, 0.421, "+0.42"),
        (numbers.signed, -1.3, "−1.30"),
        (numbers.signed, -0.001, "0.00"),
        (numbers.percent, 0.5881, "58.8%"),
        (numbers.p_value, 0.03125, "0.031"),
        (numbers.p_value, 0.0004, "<0.001"),
        (numbers.count, 61706, "61,706"),
        (numbers.count, 3.2e6, "3.2 million"),
        (numbers.short, 61706, "61.7k"),
        (numbers.short, 0.0031623, "0.00316"),
        (numbers.listed, ["a", "b", "c"], "a, b and c"),
        (numbers.listed, ["a"], "a"),
        (numbers.listed, [], ""),
    ],
)
def test_numbers(write, given, text):
    assert write(given) == text
