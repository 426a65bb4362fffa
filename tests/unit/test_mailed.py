"""Listings in mails as they are sent: each part's text as it was written, wherever it is cut."""

from __future__ import annotations

import base64
import gzip
import io
import quopri
from email import encoders, policy
from email.mime.base import MIMEBase
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from pathlib import Path

import pytest

from ctctl.tables.sources.mailed import Unpacker
from ctctl.tables.sources.stream import nothing_spent, utf8
from tests.support import captures
from tests.support.listings import listed, read_text

CAPTURE = "cilium-1.19-dsr-node1"
FILES = ("cli/ct-list-global.txt", "cli/nat-list.txt", "cli/ct-list-global.json", "cli/lb-list.txt")
TEXT = captures.text(CAPTURE, FILES[0])


def whole(data: bytes) -> bytes:
    stream, found = utf8(io.BytesIO(data)), b""
    while part := stream.read(1000):
        found += part
    return found


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("file", FILES)
def test_a_part_in_base64(file: str, end: str, tmp_path: Path) -> None:
    text = captures.text(CAPTURE, file)
    mail = MIMEMultipart()
    mail.attach(MIMEText("see the dump below; f\u00fcr euch\n", "plain", "utf-8"))
    mail.attach(MIMEText(text, "plain", "utf-8"))
    raw = mail.as_bytes(policy=policy.default.clone(linesep=end))
    assert text.splitlines()[0].encode() not in raw
    with read_text(tmp_path / "plain", text) as plain, read_text(tmp_path / "mail", raw) as found:
        assert sorted(listed(found)) == sorted(listed(plain))
        assert found.listings(None) == plain.listings(None)
        assert not found.partial


def test_a_quoted_printable_part_beside_it(tmp_path: Path) -> None:
    quoted = MIMEText("", "plain")
    del quoted["Content-Transfer-Encoding"]
    quoted.set_payload(TEXT)
    encoders.encode_quopri(quoted)
    mail = MIMEMultipart()
    mail.attach(quoted)
    mail.attach(MIMEText(captures.text(CAPTURE, "cli/nat-list.txt"), "plain", "utf-8"))
    with read_text(tmp_path / "plain", TEXT) as plain, read_text(tmp_path / "mail", mail.as_bytes()) as found:
        assert sorted(listed(found)) == sorted(listed(plain))
        assert found.listings(None).nat
        assert not found.partial


def test_a_part_that_is_no_text_stays(tmp_path: Path) -> None:
    packed = MIMEBase("application", "gzip")
    packed.set_payload(gzip.compress(TEXT.encode()))
    encoders.encode_base64(packed)
    mail = MIMEMultipart()
    mail.attach(packed)
    mail.attach(MIMEText(TEXT, "plain", "us-ascii"))
    raw = mail.as_bytes()
    assert whole(raw) == raw
    with read_text(tmp_path / "plain", TEXT) as plain, read_text(tmp_path / "mail", raw) as found:
        assert sorted(listed(found)) == sorted(listed(plain))


def test_cut_anywhere_what_came_before_is_there() -> None:
    head = b"Content-Transfer-Encoding: base64\n\n"
    raw = head + base64.encodebytes(TEXT.encode()[:3000])
    for cut in range(len(head), len(raw), 7):
        found = whole(raw[:cut])
        assert found.startswith(head)
        assert TEXT.encode().startswith(found[len(head) :])
        assert len(found) - len(head) >= (cut - len(head)) * 3 // 4 - 60


def test_pieces_make_no_difference() -> None:
    raw = b"content-transfer-encoding: BASE64\r\n\r\n" + base64.encodebytes(TEXT.encode()) + b"--x--\n"
    lines = raw.splitlines(keepends=True)
    one, two = Unpacker(nothing_spent), Unpacker(nothing_spent)
    assert b"".join(map(one, lines)) == two(raw)


def test_what_only_looks_like_base64_stays() -> None:
    for text in (b"base64 is a word\nabcd\n", b"Content-Transfer-Encoding: base64\n\nno such line!\nabcd\n"):
        assert whole(text) == text


@pytest.mark.parametrize("line", [b"A\n", b"=\n", b"\n", b"QUFBQUFBQUFB\n"])
@pytest.mark.parametrize("encoding", [b"base64", b"quoted-printable"])
def test_lines_that_make_nothing_cost_something(line: bytes, encoding: bytes) -> None:
    spent: list[int] = []
    stream = utf8(io.BytesIO(b"Content-Transfer-Encoding: " + encoding + b"\n\n" + line * 50_000), spent.append)
    while stream.read(1 << 16):
        pass
    assert sum(spent) >= 50_000


def test_a_piece_of_which_nothing_is_left_is_no_end() -> None:
    raw = b"Content-Transfer-Encoding: quoted-printable\n\n" + b"=\n" * 1_000_000 + b"the end\n"
    stream, found = utf8(io.BytesIO(raw)), b""
    while part := stream.read(1 << 16):
        found += part
    assert found.endswith(b"the end\n")


@pytest.mark.parametrize(
    "header", ["", "Content-Transfer-Encoding:\n quoted-printable\n", 'Content-Transfer-Encoding: "quoted-printable"\n']
)
def test_a_quoted_part_whose_header_does_not_say_so(header: str, tmp_path: Path) -> None:
    quoted = quopri.encodestring(TEXT.encode()).decode()
    mail = f"From: a@b\nContent-Transfer-Encoding: 7bit\n\n--b1\nContent-Type: text/plain\n{header}\n{quoted}--b1--\n"
    with read_text(tmp_path / "plain", TEXT) as plain, read_text(tmp_path / "mail", mail) as found:
        assert sorted(listed(found)) == sorted(listed(plain))


def test_a_quoted_part_behind_one_that_says_so(tmp_path: Path) -> None:
    header = "Content-Transfer-Encoding:"
    said, folded = (quopri.encodestring(captures.text(CAPTURE, file).encode()).decode() for file in FILES[:2])
    mail = f"--b1\n{header} quoted-printable\n\n{said}--b1\n{header}\n quoted-printable\n\n{folded}--b1--\n"
    with read_text(tmp_path / "plain", TEXT) as plain, read_text(tmp_path / "mail", mail) as found:
        assert sorted(listed(found)) == sorted(listed(plain))
        assert found.listings(None).nat


def parts(*packed: str) -> str:
    head = 'From: a@b\nContent-Type: multipart/mixed; boundary="b1"\n'
    part = "\n--b1\nContent-Type: text/plain\nContent-Transfer-Encoding: base64\n\n"
    return head + "".join(part + text for text in packed) + "\n--b1--\n"


def in_lines(data: bytes) -> list[str]:
    return base64.encodebytes(data).decode().splitlines()


#: Text of which each line of base64 ends where one of it does.
ALIGNED = "".join(line.ljust(56 + 57 * (len(line) // 57)) + "\n" for line in TEXT.splitlines()).encode()
LOST = {
    "no text": parts(*("\n".join(in_lines(data)) for data in (ALIGNED, gzip.compress(ALIGNED)))),
    "UTF-16": parts(*("\n".join(in_lines(data)) for data in (ALIGNED, TEXT.encode("utf-16")))),
    "an empty line": parts("\n".join([*in_lines(ALIGNED)[:50], "", *in_lines(ALIGNED)[50:]])),
    "a damaged line": parts("\n".join([*in_lines(ALIGNED)[:50], "*" * 76, *in_lines(ALIGNED)[51:]])),
    "a line that is none": parts("\n".join([*in_lines(ALIGNED)[:50], "A" * 73 + "=", *in_lines(ALIGNED)[51:]])),
}


@pytest.mark.parametrize("what", LOST)
def test_what_of_a_part_is_not_decoded_is_said(what: str, tmp_path: Path) -> None:
    with read_text(tmp_path / "mail", LOST[what]) as found:
        assert listed(found)
        assert ["of a mail" in said for said in found.partial if "not decoded" in said] == [True], found.partial


def test_a_part_in_one_line(tmp_path: Path) -> None:
    mail = parts(base64.b64encode(TEXT.encode()).decode())
    with read_text(tmp_path / "plain", TEXT) as plain, read_text(tmp_path / "mail", mail) as found:
        assert sorted(listed(found)) == sorted(listed(plain))
        assert not found.partial
