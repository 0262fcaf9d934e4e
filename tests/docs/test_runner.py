"""The runner of documents notices what is not so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import blocks, missing
from tests.docs.story import Story, StoryError


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    made = Story(tmp_path, ports=list(range(12_001, 12_020)))
    yield made
    made.close()


def _tell(story: Story, document: str) -> None:
    for block in blocks(document):
        story.run(block)


def test_a_document_that_tells_the_truth_passes(story: Story, tmp_path: Path) -> None:
    _tell(
        story,
        "<!-- run: file a.py -->\n```python\nprint('found', 127)\n```\n"
        "```console\n$ export WORD=said\n$ python a.py\nfound ...\n$ echo $WORD\nsaid\n```\n",
    )
    assert (tmp_path / "a.py").read_text() == "print('found', 127)\n"


@pytest.mark.parametrize(
    "lie",
    [
        "$ false",
        "$ echo one\ntwo",
        "$ printf 'b\\na'\na\nb",
        "$ no-such-command-anywhere",
        "$ echo gone &\nnever",
    ],
)
def test_a_document_that_lies_is_found_out(
    lie: str, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.docs.story._PATIENCE_S", 0.5)
    with pytest.raises(StoryError):
        _tell(story, f"```console\n{lie}\n```\n")


def test_a_background_command_that_ended_early_is_found_out(story: Story) -> None:
    def whole() -> None:
        # Noticed at once or, as it ends a moment later, at the end of the story.
        _tell(story, "```console\n$ true &\n```\n")
        ((_, process, _),) = story._background
        process.wait(10)
        story.finish()

    with pytest.raises(StoryError):
        whole()


def test_a_skip_needs_a_reason(story: Story) -> None:
    document = "<!-- run: skip; needs a network -->\n```console\n$ false\n```\n"
    _tell(story, document)
    (unreasoned,) = blocks(document.replace("skip; needs a network", "skip"))
    assert unreasoned.misread


def test_what_stays_in_the_background_is_waited_for_and_ended(story: Story) -> None:
    _tell(story, "```console\n$ bash -c 'echo ready; exec sleep 60' &\nready\n```\n")
    (process,) = [process for _, process, _ in story._background]
    assert process.poll() is None
    story.close()
    assert process.returncode is not None


def test_a_fresh_start_ends_what_ran_and_forgets_what_was_exported(story: Story) -> None:
    _tell(story, "```console\n$ export WORD=said\n$ sleep 60 &\n```\n")
    ((_, process, _),) = story._background
    _tell(story, "<!-- run: fresh start -->\n```console\n$ test -z $WORD\n```\n")
    assert process.returncode is not None


def test_a_patient_block_is_repeated_until_it_works(story: Story) -> None:
    again = "test -e seen || { touch seen; false; }"
    _tell(story, f"<!-- run: until it works -->\n```console\n$ {again}\n```\n")


def test_the_readers_ports_become_the_storys_own(story: Story) -> None:
    _tell(story, "```console\n$ echo 127.0.0.1:7411 | grep -v 7411\n127.0.0.1:7411\n```\n")


def test_a_command_may_go_on_over_a_backslash() -> None:
    (block,) = blocks("```console\n$ a \\\n    b\nc\n```\n")
    (command,) = block.commands()
    assert (command.text, command.expected) == ("a b", ["c"])


def test_expected_lines_must_come_in_order() -> None:
    assert missing(["a", "b ... d"], "x a\nb c  d") is None
    assert missing(["b", "a"], "a\nb") == "a"
    assert missing(["a...b"], "a\nb") == "a...b"
