"""Every command that a message of a gallery on PostgreSQL suggests works where it is suggested."""

from __future__ import annotations

import shlex

import pytest

from samespace.cli.main import run

from ..cli.test_hints import BEGIN, here, original, run_on, tell  # noqa: F401


@pytest.mark.usefixtures("here")
def test_messages_of_a_gallery_on_postgresql_suggest_commands_that_run(capsys, schema):
    address = shlex.quote(schema)

    def does(command: str) -> None:
        assert run(shlex.split(command.replace("'a g'", address))) == 0, "".join(capsys.readouterr())

    def suggests(told: str, words: str, more: str = "") -> None:
        text = tell(capsys, told.replace("'a g'", address))
        assert run_on(words, text, {"GALLERY": address}, more) == 0, (text, "".join(capsys.readouterr()))

    suggests("gallery status 'a g'", "gallery create")
    does(BEGIN[1])
    suggests("gallery plan 'a g' --space new_g --certificate yes.json", "gallery upgrade")
    suggests("gallery rollback 'a g'", "gallery upgrade")
    suggests("gallery pause 'a g'", "gallery resume")
    suggests("gallery seal 'a g' --yes --quiet", "gallery backfill", "--vectors new_g --quiet")
    does("gallery doctor 'a g' --quiet")
    # a schema of another name, as the refusal of a second gallery says
    assert "?schema=NAME" in tell(capsys, f"gallery create {address} --space old_g")
    does(f"gallery create {shlex.quote(schema + '_b')} --space old_g")


def test_an_upgrade_against_a_certificate_is_rolled_back_as_the_doctor_says(here, capsys, schema):  # noqa: F811
    address = shlex.quote(schema)
    for command in (
        f"gallery create {address} --space old_g",
        f"gallery add {address} old_g --quiet",
        f"gallery upgrade {address} --space new_g --certificate no.json --accept-uncertified",
    ):
        assert run(shlex.split(command)) == 0
    assert run_on("gallery rollback", tell(capsys, f"gallery doctor {address} --quiet")) == 0
    # the rollback's own words said how to take it back
    assert run_on("gallery upgrade", "".join(capsys.readouterr())) == 0
