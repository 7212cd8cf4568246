"""What looks like a secret is redacted."""

import string

import pytest
from commands import Commands
from hypothesis import given
from hypothesis import strategies as st

from convtl.errors import redact, redacted

LETTERS = "aB3dE6gH9jK2mN5pQ8rS1tU4vW7xY0zA"
SECRETS = {
    "Hugging Face": f"hf_{LETTERS}",
    "GitHub": f"ghp_{LETTERS}{LETTERS[:4]}",
    "GitHub, fine-grained": f"github_pat_{LETTERS}_{LETTERS}",
    "GitLab": f"glpat-{LETTERS[:20]}",
    "npm": f"npm_{LETTERS}abcd",
    "Stripe": f"sk_live_{LETTERS[:24]}",
    "OpenAI": f"sk-proj-{LETTERS}",
    "Anthropic": f"sk-ant-api03-{LETTERS}",
    "Slack": f"xoxb-1234567890-{LETTERS}",
    "AWS": "AKIAABCDEFGHIJKLMNOP",
    "AWS, temporary": "ASIAABCDEFGHIJKLMNOP",
    "W&B": f"wandb_v1_{LETTERS}{LETTERS}",
    "JWT": f"eyJ{LETTERS}.eyJ{LETTERS}.{LETTERS}",
    "a private key": f"-----BEGIN RSA PRIVATE KEY-----\n{LETTERS}\n-----END RSA PRIVATE KEY-----",
}
SHAPES = {name: ("{}", secret) for name, secret in SECRETS.items()} | {
    "a bearer token": ("Authorization: Bearer {}", LETTERS),
    "a typed password": ("password={}", "hunter22"),
    "a password in an address": ("https://{}@example.org/x", "me:hunter22"),
}


@pytest.mark.parametrize("name", SHAPES)
def test_secrets_are_known_by_their_looks(name) -> None:
    form, secret = SHAPES[name]
    text = f"failed: {form.format(secret)} (401)"
    assert redacted(text) == f"failed: {form.format('[secret]')} (401)"


@pytest.mark.parametrize(
    "text",
    [
        "sk-learn",
        "https://example.org:8080/a@b",
        "key=value",
        "hf_hub",
        "password",
        "model=resnet18",
        "0123456789abcdef",
        "risk-averse-training-of-networks",
    ],
)
def test_innocent_texts_stay(text) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize(
    ("variable", "value", "hidden"),
    [
        ("WANDB_API_KEY", "0123456789abcdef", True),
        ("MY_TOKEN", "correct horse", True),
        ("DB_PASSWORD", "correct horse", True),
        ("MY_TOKEN", "short", False),
        ("KEYBOARD", "correct horse", False),
        ("SSH_KEY", "/dev/null", False),
    ],
)
def test_values_of_telling_variables_are_redacted(monkeypatch, variable, value, hidden) -> None:
    monkeypatch.setenv(variable, value)
    assert (value not in redacted(f"got {value}!")) == hidden


@given(
    st.recursive(
        st.none() | st.integers() | st.text(string.ascii_lowercase, max_size=9),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(string.ascii_lowercase), inner),
    )
)
def test_plain_data_without_secrets_stay_as_they_are(data) -> None:
    assert redact(data) == data


def test_nested_secrets_are_redacted() -> None:
    secret = SECRETS["GitHub"]
    assert redact({"a": [{"b": secret}], secret: 1}) == {"a": [{"b": "[secret]"}], "[secret]": 1}


def test_no_file_of_a_study_holds_a_secret(monkeypatch, capfd, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MY_TOKEN", "correct-horse-battery")
    secrets = ("correct-horse-battery", SECRETS["JWT"])
    done = Commands(monkeypatch, capfd).tiny(
        "source=random", "lr=1e-2", "out=o", "question=${oc.env:MY_TOKEN} " + secrets[1]
    )
    assert done.code == 0, done.err
    contents = [path.read_bytes() for path in (tmp_path / "o").rglob("*") if path.is_file()]
    assert len(contents) > 4
    for secret in secrets:
        assert not any(secret.encode() in content for content in contents)
        assert secret not in done.out + done.err


def test_a_trace_holds_no_secret(monkeypatch, capfd, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)

    def broken(*given: object) -> None:
        raise RuntimeError(f"no access with {SECRETS['npm']}")

    monkeypatch.setattr("convtl.conduct.expand", broken)
    done = Commands(monkeypatch, capfd).tiny("out=o")
    assert done.code == 1
    assert "RuntimeError: no access with [secret]" in done.err
