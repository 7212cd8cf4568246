"""A key or token never lands in anything that a run leaves behind."""

from pathlib import Path

import pytest
from commands import Commands

from convtl.errors import UserError
from convtl.secrets import looks_secret, redact, redacted, refuse_secrets
from convtl.study.group import Group

KEY = "0123456789abcdef0123456789abcdef01234567"
PASSWORD = 'pass"w\\ord-ж1'


@pytest.fixture(autouse=True)
def _secrets(monkeypatch, tmp_path) -> None:
    """A key in the environment and a password in netrc."""
    (tmp_path / "netrc").write_text(f"machine wandb.example login me password netrc-{KEY}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("DB_PASSWORD", PASSWORD)
    monkeypatch.setenv("SHORT_KEY", "true")
    monkeypatch.setenv("TLS_KEY", str(tmp_path))  # a path is no secret


@pytest.fixture
def commands(monkeypatch, capfd, tmp_path) -> Commands:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return Commands(monkeypatch, capfd)


@pytest.mark.parametrize(
    "name", ["WANDB_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "db_password", "APIKEY"]
)
def test_names_of_secrets(name) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize(
    "name", ["HOME", "TOKENIZERS_PARALLELISM", "KEYBOARD", "MONKEY", "WANDB_MODE", "USER"]
)
def test_names_of_no_secrets(name) -> None:
    assert not looks_secret(name)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"401 for {KEY}!", "401 for [secret]!"),
        (f"netrc-{KEY}", "[secret]"),
        (f"a {PASSWORD} b", "a [secret] b"),
        ("s3://me:topsecret@host/x", "s3://[secret]@host/x"),
        (f"hf_{'a' * 34} and ghp_{'B' * 36}", "[secret] and [secret]"),
        *[
            (text, text)
            for text in ("true", "https://host:80/a@b", "sk-learn/sk-fine-tuned-over-night-again")
        ],
        *[
            (text, text)
            for text in ("hf_resnet50_pretrained_on_imagenet", "AKIAaBc" * 9, "wandb_v2_settings")
        ],
    ],
)
def test_texts_are_redacted(text, left) -> None:
    assert redacted(text) == left
    assert redact({"a": [text, 1, None], text: (text,)}) == {"a": [left, 1, None], left: [left]}


def test_secrets_in_json_are_found_as_json_spells_them() -> None:
    import json

    for ascii_only in (True, False):
        line = redacted(json.dumps({"reason": PASSWORD}, ensure_ascii=ascii_only))
        assert json.loads(line) == {"reason": "[secret]"}


def test_a_config_that_holds_one_is_refused_by_its_key() -> None:
    for content, key in (
        ({"tracking": {"entity": KEY}}, "tracking.entity"),
        ({"claims": [{"statement": f"see {KEY}"}]}, "claims.statement"),
        ({"axes": {KEY: [1]}}, "axes"),
        ({"out": "https://me:topsecret@host/"}, "out"),
    ):
        with pytest.raises(UserError) as told:
            refuse_secrets(content)
        assert str(told.value).startswith(f"{key}: holds ")
        assert KEY not in str(told.value)
    refuse_secrets({"out": "/a", "n": [1, None, True], "question": "true?"})


CONF = {
    "question: ${oc.env:WANDB_API_KEY}": "configuration: ${oc.env:WANDB_API_KEY} is not accepted",
    "question: ${oc.env:WANDB_API_KEY,none}": "configuration: ${oc.env:WANDB_API_KEY} is not accepted",
    "question: ${oc.env:NO_SUCH_TOKEN,none}": "configuration: ${oc.env:NO_SUCH_TOKEN} is not accepted",
    "question: ${oc.decode:'${oc.env:WANDB_API_KEY}'}": "configuration: ",
    f"question: my key is {KEY}": "question: holds the value of WANDB_API_KEY",
    f"tracking: {{entity: netrc-{KEY}}}": "tracking.entity: holds the ",
    f"axes: {{seed: [{KEY}]}}": "axes.seed: holds the value of WANDB_API_KEY",
    f"hydra: {{sweep: {{dir: {KEY}}}}}": "hydra.sweep.dir: holds the value of WANDB_API_KEY",
}


@pytest.mark.parametrize("text", CONF)
@pytest.mark.parametrize("multirun", [(), ("-m",)])
def test_a_file_of_the_user_that_asks_for_one_is_refused(commands, text, multirun) -> None:
    Path("conf/experiment").mkdir(parents=True)
    Path("conf/experiment/mine.yaml").write_text(f"# @package _global_\n{text}\n", encoding="utf-8")
    line = commands.tiny(*multirun, "+experiment=mine", "out=o").line
    assert line.startswith(CONF[text])
    assert KEY not in line
    assert not Path("o").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("question=${oc.env:WANDB_API_KEY}",),
        (f"question={KEY}", "question=later"),
        (f"out=s3://me:{KEY}@host/x",),
        (f"+{KEY}=1",),
        (f"seed={KEY}",),
        (KEY,),
    ],
)
@pytest.mark.parametrize("multirun", [(), ("-m",)])
def test_a_command_line_that_holds_one_is_refused(commands, words, multirun) -> None:
    line = commands.tiny(*multirun, "out=o", *words).line
    assert KEY not in line
    assert not Path("o").exists()


def test_other_variables_are_for_configs(commands, monkeypatch) -> None:
    monkeypatch.setenv("WHERE", "here")
    assert commands.tiny("out=${oc.env:WHERE}x", "dry_run=true").code == 0
    line = commands.tiny("question=${oc.env:NO_SUCH_VARIABLE}").line
    assert (
        line == "configuration: ${oc.env:NO_SUCH_VARIABLE}: there is no such environment variable"
    )


def test_reasons_of_failures_are_redacted_wherever_they_go(commands, monkeypatch) -> None:
    def fails(*_args, **_kwargs):
        raise RuntimeError(f"401 unauthorised: {KEY}, {PASSWORD}")

    monkeypatch.setattr(Group, "__init__", fails)
    done = commands.tiny("out=o", "source=random", "lr=1e-2", "tracking.mode=offline")
    assert done.code == 1
    assert "401 unauthorised: [secret], [secret]" in done.err
    for path in [path for path in Path("o").rglob("*") if path.is_file()]:
        content = path.read_bytes()
        for secret in (KEY.encode(), PASSWORD.encode(), b"netrc-"):
            assert secret not in content, path
    assert b"401 unauthorised" in b"".join(path.read_bytes() for path in Path("o/rows").iterdir())


def test_a_trace_is_redacted(commands, monkeypatch) -> None:
    def broken(*given) -> None:
        raise RuntimeError(f"https://me:{KEY}@host/x is gone")

    monkeypatch.setattr("convtl.conduct.expand", broken)
    done = commands.tiny("out=o")
    assert done.code == 1
    assert KEY not in done.err
    assert "RuntimeError: https://[secret]@host/x is gone" in done.err
    assert "in broken" in done.err


def test_a_refusal_that_quotes_what_was_given_is_redacted(commands, tmp_path) -> None:
    (tmp_path / "work" / "typed").write_text("")
    line = commands.report(f"out=s3://me:{KEY}@host").line
    assert KEY not in line
