"""`convtl.describe`: the lecture's table of a model."""

import re

import pytest
import tiny
from commands import Commands


@pytest.fixture
def commands(monkeypatch, capfd, tmp_path) -> Commands:
    monkeypatch.chdir(tmp_path)
    return Commands(monkeypatch, capfd)


def units(text: str) -> dict[str, tuple[str, ...]]:
    rows = [line.split() for line in text.splitlines()[2:]]
    return {row[0]: tuple(row[1:]) for row in rows if row}


def test_lenet_has_the_lectures_numbers(commands) -> None:
    done = commands.describe("model=lenet5")
    assert done.code == 0
    assert units(done.out) == {
        "conv1": ("28x28x6", "156", "117,600", "5"),
        "pool1": ("14x14x6", "0", "0"),
        "conv2": ("10x10x16", "2,416", "240,000", "4"),
        "pool2": ("5x5x16", "0", "0"),
        "fc3": ("120", "48,120", "48,000", "3"),
        "fc4": ("84", "10,164", "10,080", "2"),
        "fc5": ("10", "850", "840", "1"),
        "total": ("61,706", "416,520"),
    }


def test_several_models_have_a_table_each(commands) -> None:
    done = commands.describe(
        "model=[lenet5,other]", "models.other.kind=lenet5", "models.other.pooling=max"
    )
    assert re.findall(r"^(\w+), input", done.out, re.MULTILINE) == ["lenet5", "other"]


@pytest.mark.parametrize("name", tiny.named("models"))
def test_every_model_is_described(commands, name) -> None:
    """A line for each unit, of which the weighted ones are depths down to 1; sums below; nothing runs together."""
    done = commands.describe(f"model={name}")
    assert done.code == 0
    assert done.out.startswith(f"{name}, input ")
    lines = units(done.out)
    total, costs = (int(number.replace(",", "")) for number in lines.pop("total"))
    assert sum(int(row[1].replace(",", "")) for row in lines.values()) == total > 0
    assert sum(int(row[2].replace(",", "")) for row in lines.values()) == costs > 0
    depths = [int(row[3]) for row in lines.values() if len(row) == 4]
    assert depths == list(range(len(depths), 0, -1))
    assert (
        len(
            {
                len(line.rstrip())
                for line in done.out.splitlines()[1:]
                if line.rstrip()[-1:].isdigit()
            }
        )
        <= 3
    )


def test_images_and_classes_are_those_that_a_model_was_made_for(commands) -> None:
    done = commands.describe("model=[lenet5,resnet20,resnet18]")
    assert re.findall(r"input (\S+)", done.out) == ["28x28x1", "32x32x3", "224x224x3"]
    assert re.findall(r"^(?:fc5|head) +(\d+)", done.out, re.MULTILINE) == ["10", "10", "1000"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["model=lenet6"], "model: unknown name 'lenet6'; known: alexnet, "),
        (["model=lenet5", "models.lenet5.activation=gelu"], "models.lenet5.activation: got 'gelu'"),
        (["lenet5"], "'lenet5': not understood; accepted: key=value"),
    ],
)
def test_wrong_words_are_one_line(commands, words, line) -> None:
    assert commands.describe(*words).line.startswith(line)
