"""What stage-out makes of rclone's words, and of what a site offers."""

from pathlib import Path

import pytest
from stageout import rclone
from stageout.fault import Exit, Fault
from stageout.place import Place

pytestmark = pytest.mark.fast

PLACE = Place(endpoint="https://atlas.blob.core.windows.net", container="out", secrets={})
URL = "https://atlas.blob.core.windows.net/out"
DENIED = """\
2026/11/27 18:01:49 CRITICAL: Failed to create file system for "out:out/mc/1": HEAD https://x/out/mc%2F1
--------------------------------------------------------------------------------
RESPONSE 403: 403 Server failed to authenticate the request.
ERROR CODE: AuthenticationFailed
--------------------------------------------------------------------------------
Response contained no body
"""
NO_TOKEN = """\
2026/11/27 18:01:49 CRITICAL: Failed to create file system: WorkloadIdentityCredential: failed to acquire a token.
"""
RESET = """\
2026/11/27 18:01:49 ERROR : large: Failed to copy: Put "https://x/out/large?se=2026-11-27&sig=q%2Bs%3D&sp=rcw": EOF
"""


@pytest.mark.parametrize(
    ("said", "code", "why"),
    [
        (DENIED, Exit.DENIED, "(AuthenticationFailed)"),
        (NO_TOKEN, Exit.DENIED, "WorkloadIdentityCredential: failed to acquire a token."),
        (RESET, Exit.UNFINISHED, ": EOF)"),
        ("ERROR CODE: ContainerNotFound\n", Exit.DENIED, "there is no container"),
        ("", Exit.UNFINISHED, "(it did not say why)"),
    ],
)
def test_what_rclone_says_becomes_one_sentence_with_its_reason(said: str, code: Exit, why: str) -> None:
    fault = rclone.fault(PLACE, said)
    assert fault.code is code
    assert why in str(fault)
    assert URL in str(fault)
    assert "\n" not in str(fault)


def test_no_signature_is_in_a_sentence() -> None:
    assert "q%2Bs" not in str(rclone.fault(PLACE, RESET))


def offer(directory: Path, **files: str) -> Path:
    for name, text in files.items():
        (directory / name).write_text(text)
    return directory


def test_a_sas_is_taken_with_its_question_mark_and_without(tmp_path: Path) -> None:
    with_it = Place.read(offer(tmp_path, container=f"{URL}\n", sas="?sv=1&sig=x\n"))
    without = Place.read(offer(tmp_path, sas="sv=1&sig=x"))
    assert with_it == without
    assert with_it.secrets == {"RCLONE_CONFIG_OUT_SAS_URL": f"{URL}?sv=1&sig=x"}
    assert with_it.url("mc/a") == f"{URL}/mc/a"


def test_with_an_identity_no_secret_is_needed(tmp_path: Path) -> None:
    place = Place.read(offer(tmp_path, container=URL, client="1-2", tenant="3-4", token="e30"))
    assert place.secrets["AZURE_CLIENT_ID"] == "1-2"
    assert place.secrets["AZURE_FEDERATED_TOKEN_FILE"] == str(tmp_path / "token")
    assert "RCLONE_CONFIG_OUT_SAS_URL" not in place.secrets


@pytest.mark.parametrize(
    ("files", "code", "sentence"),
    [
        ({}, Exit.WRONG, "this site offers no stage-out"),
        ({"container": "http://x/out"}, Exit.WRONG, "not https://ACCOUNT/CONTAINER"),
        ({"container": URL}, Exit.DENIED, "/sas cannot be read: see that the site's Secret for stage-out has it"),
    ],
)
def test_what_a_site_offers_wrongly_is_one_sentence(
    tmp_path: Path, files: dict[str, str], code: Exit, sentence: str
) -> None:
    with pytest.raises(Fault, match=sentence) as refused:
        Place.read(offer(tmp_path, **files))
    assert refused.value.code is code
