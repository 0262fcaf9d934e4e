"""The file of tokens: what is written is read, and what is wrong is named without its secret."""

from __future__ import annotations

import hashlib
import hmac
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from node.token_commands import tokens as commands
from node.tokens import TOKENS_MAX, Identity, Role, TokensError, add_token, new_token, read_tokens

HASH = hashlib.sha256(b"one").hexdigest()
OTHER = hashlib.sha256(b"two").hexdigest()


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_a_new_token_is_printed_once_and_kept_as_a_hash(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    done = CliRunner().invoke(commands, ["new", "mail", "--file", str(path)])
    assert done.exit_code == 0, done.output
    token = done.stdout.strip()

    assert re.fullmatch(r"tq_[A-Za-z0-9_-]{43}", token)
    assert token not in path.read_text()
    assert token not in done.stderr
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_tokens(path).find(token) == Identity("mail", Role.CLIENT)
    assert read_tokens(path).find(token + "x") is None


def test_a_principal_may_have_several_tokens_and_a_line_taken_away_ends_one(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    old, new = (add_token(path, "ops", role=Role.ADMIN) for _ in range(2))
    found = read_tokens(path)
    assert found.find(old) == found.find(new) == Identity("ops", Role.ADMIN)
    written(path, path.read_text().split("\n", 1)[1])
    assert read_tokens(path).find(old) is None
    assert read_tokens(path).find(new) is not None


def test_a_last_line_without_its_end_is_not_glued_to_the_next(tmp_path: Path) -> None:
    path = written(tmp_path / "tokens", f"mail {HASH}")
    token = add_token(path, "ops", role=Role.METRICS)
    assert read_tokens(path).find(token) == Identity("ops", Role.METRICS)
    assert read_tokens(path).find("one") == Identity("mail", Role.CLIENT)


def test_comments_and_empty_lines_count_for_nothing(tmp_path: Path) -> None:
    path = written(tmp_path / "tokens", f"# ours\n\n  mail  {HASH}   admin \n#x {OTHER}\n")
    found = read_tokens(path)
    assert len(found) == 1
    assert found.find("one") == Identity("mail", Role.ADMIN)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"mail {HASH} amdin", "no role has this name (did you mean 'admin'?)"),
        (f"mail {HASH} root", "it is one of admin, client, metrics"),
        ("mail tq_hunter2", "the second word is not a SHA-256"),
        (f"mail {HASH[:-1]}", "the second word is not a SHA-256"),
        (f"mail {HASH.upper()}", "the second word is not a SHA-256"),
        ("mail", "has 1 words, not 'PRINCIPAL SHA256 [ROLE]'"),
        (f"mail {HASH} client hunter2", "has 4 words"),
        (f"ma/il {HASH}", "'ma/il' cannot name a principal"),
        (f"{'m' * 129} {HASH}", "cannot name a principal: 1 to 128"),
        (f"mail {OTHER}", "the same token is on line 1: remove one of them"),
    ],
)
def test_a_wrong_line_is_named_with_what_to_do_and_without_what_may_be_a_token(
    tmp_path: Path, line: str, said: str
) -> None:
    path = written(tmp_path / "tokens", f"first {OTHER}\n\n{line}\n")
    with pytest.raises(TokensError) as caught:
        read_tokens(path)
    text = str(caught.value)
    assert text.startswith(f"{path}:3: ")
    assert said in text
    assert "hunter2" not in text


def test_a_file_of_no_use_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    with pytest.raises(TokensError, match="no such file or directory; 'tq-node tokens new"):
        read_tokens(path)
    with pytest.raises(TokensError, match="holds none, so everybody would be refused"):
        read_tokens(written(path, "# nobody yet\n"))
    written(path, f"mail {HASH}\n").chmod(0o620)
    with pytest.raises(TokensError, match=rf"may be changed by others: chmod 600 {path}"):
        read_tokens(path)
    with pytest.raises(TokensError, match="larger than 1 MiB"):
        read_tokens(written(path, "#" * (1 << 20) + "\n\n"))
    lines = (f"p {hashlib.sha256(b'%d' % n).hexdigest()}\n" for n in range(TOKENS_MAX + 1))
    with pytest.raises(TokensError, match=f":{TOKENS_MAX + 1}: more than {TOKENS_MAX} tokens"):
        read_tokens(written(path, "".join(lines)))


def test_nothing_is_added_to_a_file_that_is_wrong(tmp_path: Path) -> None:
    path = written(tmp_path / "tokens", "mail hunter2\n")
    done = CliRunner().invoke(commands, ["new", "ops", "--file", str(path)])
    assert done.exit_code == 1
    assert f"{path}:1: the second word" in done.output
    assert path.read_text() == "mail hunter2\n"
    done = CliRunner().invoke(commands, ["new", "a b", "--file", str(tmp_path / "more")])
    assert done.exit_code == 1
    assert not (tmp_path / "more").exists()


def test_every_known_hash_is_compared_and_in_constant_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = read_tokens(written(tmp_path / "tokens", f"a {HASH}\nb {OTHER}\n"))
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, two: bytes) -> bool:
        compared.append((one, two))
        return one == two

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert found.find("one") == Identity("a", Role.CLIENT)
    assert len(compared) == 2
    assert found.find("three") is None
    assert len(compared) == 4


def test_tokens_are_never_the_same() -> None:
    assert len({new_token() for _ in range(100)}) == 100
