"""The ladder of methods, on the page and in the terminal."""

from __future__ import annotations

from headstart.stages.report import ladder, terminal
from headstart.stages.report.html import page

REPORT = {
    "kind": "fit",
    "targets": {},
    "ladder": [
        {"name": "probe", "score": 0.84, "interval": [0.82, 0.86], "seconds": 12.0, "size": 0, "kept": True, "why": ""},
        {
            "name": "finetune",
            "score": 0.88,
            "interval": [0.86, 0.9],
            "seconds": 480.0,
            "size": 90_000_000,
            "kept": True,
            "why": "+4.0 points ± 1.0 on 1,037 held-out answers: kept",
            "trained": {"epochs": [{"loss": 0.5, "score": 0.83}, {"loss": 0.3, "score": 0.88}]},
        },
        {"name": "lora <b>", "score": None, "interval": [], "seconds": 1.0, "size": 0, "kept": False, "why": "no room"},
    ],
}


def test_the_terminal_shows_every_rung_with_its_reason():
    shown = terminal(REPORT, 90)
    assert "✓ finetune: 0.880 [0.860, 0.900], 8 min 0 s, +4.0 points" in " ".join(shown.split())
    assert "lora <b>: 1.0 s, no room" in shown
    assert "✓ lora" not in shown


def test_the_page_shows_rungs_and_epochs_and_escapes_names():
    shown = page(REPORT)
    assert "Ladder of methods" in shown
    assert "finetune ✓" in shown
    assert "lora &lt;b&gt;" in shown
    assert "0.830" in shown


def test_no_ladder_no_section():
    assert not ladder.section({"targets": {}})
    assert "ladder" not in terminal({"kind": "fit", "targets": {}}, 80)
