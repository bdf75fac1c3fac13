"""The picture of a session shows what was on the terminal, no more and no less."""

import xml.etree.ElementTree as ElementTree

import picture


def _texts(drawn: str) -> list[str]:
    root = ElementTree.fromstring(drawn)
    return ["".join(line.itertext()) for line in root.iter("{http://www.w3.org/2000/svg}text")]


def test_prompts_colours_and_markup_are_drawn() -> None:
    drawn = picture.draw("\x01echo '<a & b>'\r\n\x1b[1;31m<a & b>\x1b[0m end\r\n")
    assert _texts(drawn) == ["$ echo '<a & b>'", "<a & b> end"]
    assert picture.COLOURS[1] in drawn


def test_of_a_progress_bar_its_last_state_is_left() -> None:
    assert _texts(picture.draw("10%\r50%\r100%\x1b[K\r\ndone\r\n")) == ["100%", "done"]


def test_an_erased_progress_bar_leaves_nothing() -> None:
    assert _texts(picture.draw("50%\r100%\r\x1b[K\x01next\r\ndone\r\n")) == ["$ next", "done"]
