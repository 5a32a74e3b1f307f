"""The buffer on disk: numbered without a gap, bounded, in batches the ingress can take twice."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from voicebus_tap.call import Call, Told
from voicebus_tap.outbox import BATCH_CALL_MAX, Outbox


def told(call: str, text: str = "x") -> Told:
    return Told(call, "transcript.user", 1_800_000_000.5, {"text": text})


def test_numbers_go_on_over_restarts_and_events_stay_the_same(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "e.db", 10**6)
    outbox.store([told("c1"), told("c2"), told("c1")], [Call("c1", 0.0)], 0.0)
    before = outbox.peek()
    outbox.shut()
    outbox = Outbox(tmp_path / "e.db", 10**6)
    assert outbox.peek() == before and outbox.depth()[0] == 3
    outbox.remove(before)
    outbox.store([told("c1")], [], 0.0)
    event = json.loads(outbox.peek()[0].body)
    assert (event["id"], event["sequence"], event["time"]) == ("c1-3", "3", "2027-01-15T08:00:00.500000Z")
    assert json.loads(before[0].body)["source"] == event["source"]


def test_a_batch_holds_no_more_of_a_call_than_the_router_knows_again(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "e.db", 10**6)
    outbox.store([told("c1") for _ in range(60)], [], 0.0)
    sizes = []
    while batch := outbox.peek():
        sizes.append(len(batch))
        outbox.remove(batch)
    assert sizes == [BATCH_CALL_MAX, BATCH_CALL_MAX, 60 - 2 * BATCH_CALL_MAX]


def test_a_full_buffer_drops_what_is_new_and_uses_up_its_number(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "e.db", 2000)
    outbox.store([told("c1", "y" * 700) for _ in range(5)], [], 0.0)
    assert (outbox.depth()[0], outbox.dropped) == (2, 3)
    outbox.remove(outbox.peek())
    outbox.store([told("c1")], [], 0.0)
    assert json.loads(outbox.peek()[0].body)["sequence"] == "6"


def test_any_text_makes_an_event_that_can_be_sent(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "e.db", 10**6)
    outbox.store([told("c1", "ü 漢 \U0001f600 \x00 \ud800 end")], [], 0.0)
    text = json.loads(outbox.peek()[0].body.encode("utf-8"))["data"]["text"]
    assert text == "ü 漢 \U0001f600 \x00 ? end"


def test_a_broken_file_is_set_aside(tmp_path: Path) -> None:
    from voicebus_tap.tap import _opened

    path = tmp_path / "events.db"
    path.write_bytes(b"this is no database" * 100)
    outbox = _opened(path, lambda p: Outbox(p, 1000))
    outbox.store([told("c1")], [], 0.0)
    assert len(list(tmp_path.glob("events.db.broken-*"))) == 1


def test_everything_is_flushed(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "e.db", 10**6)
    mode = outbox._db.execute("PRAGMA synchronous").fetchone()[0]
    assert mode == 2  # FULL
    assert sqlite3.connect(tmp_path / "e.db").execute("PRAGMA journal_mode").fetchone()[0] == "wal"
