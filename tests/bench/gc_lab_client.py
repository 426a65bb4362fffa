"""The traffic of gc_lab.py: open connections that must never break, and short ones as fast as they go.

    gc_lab_client.py HOST PORT SECONDS OPEN SHORT [LATE]

With LATE the open connections ask just when their entries expire, and again soon after an answer: the
answered request refreshed the entry, so the second must be answered too.

Runs in a namespace of the lab; prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
#: Longest pause of an open connection; the lifetime is 4 s, in whole seconds.
PAUSE_S = 2.7
ANSWER_S = 10.0
#: An entry refreshed in second t is expired from t + 5 on: its lifetime is t + 4, and expired is lifetime < now.
EXPIRY_S = 5
LATE_ANSWER_S, AGAIN_S = 2.0, 0.3

counts = {"requests": 0, "breaks": 0, "short": 0, "short_failed": 0, "longest_answer_s": 0.0}
late = {"late_asked": 0, "late_answered": 0, "late_collected_before": 0, "broken_after_an_answer": 0}
reasons: dict[str, int] = {}


async def ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes, wait_s: float = ANSWER_S
) -> None:
    started = time.monotonic()
    writer.write(request)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), wait_s)
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    await asyncio.wait_for(reader.readexactly(length), wait_s)
    counts["longest_answer_s"] = max(counts["longest_answer_s"], time.monotonic() - started)


async def stay_open(host: str, port: int, end: float, rng: random.Random) -> None:
    while time.monotonic() < end:
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port), ANSWER_S)
            while time.monotonic() < end:
                await ask(reader, writer, REQUEST)
                counts["requests"] += 1
                await asyncio.sleep(rng.uniform(0, PAUSE_S))
            writer.close()
        except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            counts["breaks"] += 1
            reasons[repr(error)[:80]] = reasons.get(repr(error)[:80], 0) + 1


async def ask_at_expiry(host: str, port: int, end: float, rng: random.Random) -> None:
    """Ask when the entries expire. Not answered: they were collected before, as they may. Answered: ask again."""
    while time.monotonic() < end:
        answered = False
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port), ANSWER_S)
            while time.monotonic() < end:
                answered = True
                await ask(reader, writer, REQUEST, LATE_ANSWER_S)
                counts["requests"] += 1
                answered = False
                expiry = int(time.monotonic()) + EXPIRY_S
                await asyncio.sleep(expiry + rng.uniform(-0.02, 0.1) - time.monotonic())
                late["late_asked"] += 1
                await ask(reader, writer, REQUEST, LATE_ANSWER_S)
                late["late_answered"] += 1
                await asyncio.sleep(AGAIN_S)
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            late["broken_after_an_answer" if answered else "late_collected_before"] += 1
            writer.close()


async def come_and_go(host: str, port: int, end: float) -> None:
    while time.monotonic() < end:
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port), ANSWER_S)
            await ask(reader, writer, LAST)
            writer.close()
            counts["short"] += 1
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            counts["short_failed"] += 1


async def main() -> None:
    host, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    end, rng = time.monotonic() + seconds, random.Random(1)
    is_late = len(sys.argv) > 6
    opened = [(ask_at_expiry if is_late else stay_open)(host, port, end, rng) for _ in range(int(sys.argv[4]))]
    short = [come_and_go(host, port, end) for _ in range(int(sys.argv[5]))]
    await asyncio.gather(*opened, *short)
    print(json.dumps(counts | {"reasons": reasons} | (late if is_late else {})))


asyncio.run(main())
