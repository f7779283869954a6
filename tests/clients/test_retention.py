"""Signatures of real signers under the rules for tags."""

from __future__ import annotations

from pathlib import Path

from tests.clients.answers import tags
from tests.clients.test_signers import cosign, cosign_sign, cosign_verify, pushed
from tests.servers import SPINDLE, Spindle, get, wait_for
from tests.tools import run

__all__ = ["cosign"]

RULES = """
[[retention]]
repositories = ["**"]
keep_last = 1
"""


def test_a_signature_under_a_tag_takes_no_place_and_goes_with_its_image(
    cosign: Path, tmp_path: Path
) -> None:
    rules, data = tmp_path / "rules.toml", tmp_path / "data"
    rules.write_text(RULES)
    with Spindle(data) as server:

        def retain() -> list[str]:
            # What a signature is about may come after it, for as long as the grace.
            run(
                *(SPINDLE, "retain", "--config", rules, "--data", data),
                *("--set", "collect.grace=1"),
            )
            return tags(server, "signed/image")

        digest = pushed(server, "signed/image", tmp_path)
        name = f"{server.registry}/signed/image"
        run("crane", "tag", "--insecure", f"{name}:v1", "v2")
        cosign_sign(cosign, f"{name}@{digest}")
        signature = f"{digest.replace(':', '-')}.sig"
        assert retain() == [signature, "v2"]
        assert digest in cosign_verify(cosign, f"{name}:v2")

        url = f"http://{server.registry}/v2/signed/image/manifests"
        assert get(f"{url}/{digest}", method="DELETE")[0] == 202
        wait_for(lambda: retain() == [], "the signature to go")
