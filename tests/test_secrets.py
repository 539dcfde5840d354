"""Credentials never leave: masked in URIs, query values and wherever the environment's stand."""

import pytest

from raymd.secrets import masked, without_secrets

NONE: dict[str, str] = {}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://AKIA:wJalr%2FX@bucket/runs", "s3://***@bucket/runs"),
        ("run s3://AKIA:wJal/rX+Y@bucket/runs (resumed)", "run s3://***@bucket/runs (resumed)"),
        ("https://token@host/x", "https://***@host/x"),
        (
            "'s3://b/runs?region=eu&secret_key=x/y&session_token=z' x",
            "'s3://b/runs?region=eu&secret_key=***&session_token=***' x",
        ),
        ("abfs://c@account.dfs/x?sig=abc%2F&sv=1", "abfs://c@account.dfs/x?sig=***&sv=1"),
        (
            "https://h/x?X-Amz-Signature=ab&X-Amz-Date=1",
            "https://h/x?X-Amz-Signature=***&X-Amz-Date=1",
        ),
    ],
)
def test_credentials_of_uris_are_masked(text, shown):
    assert without_secrets(text, environment=NONE) == shown
    assert without_secrets(shown, environment=NONE) == shown


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/runs?region=eu-west-1&scheme=http",
        "file:///home/me@work/runs",
        "mail me@example.com; http://localhost:8080/a",
        "2 students at once, each 1 CPU",
        "",
    ],
)
def test_text_without_credentials_stays(text):
    assert without_secrets(text, environment=NONE) == text


def test_secret_variables_are_masked_wherever_they_stand_also_as_uris_write_them():
    environment = {
        "AWS_SECRET_ACCESS_KEY": "wJalr/XUtnFEMI",
        "WANDB_API_KEY": "0123456789",
        "DB_PASSWORD": "0123456789abc",
        "HF_TOKEN": "short",
        "HOME": "/home/somebody",
        "KEYBOARD": "qwertzuiop",
    }
    text = "wJalr/XUtnFEMI wJalr%2FXUtnFEMI 0123456789abc short /home/somebody qwertzuiop"
    shown = "*** *** *** short /home/somebody qwertzuiop"
    assert without_secrets(text, environment=environment) == shown


def test_texts_inside_json_are_masked_and_the_rest_stays(monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "top-secret-1")
    value = {"run": "s3://k:s@b", "notes": ["top-secret-1", 3, None], "deep": {"x": 0.5}}
    assert masked(value) == {"run": "s3://***@b", "notes": ["***", 3, None], "deep": {"x": 0.5}}


def test_verbs_write_no_credentials(capsys):
    from raymd.commands.output import write_output

    write_output('{"run": "s3://key:secret@bucket/runs/a"}\n', path=None)
    assert capsys.readouterr().out == '{"run": "s3://***@bucket/runs/a"}\n'
