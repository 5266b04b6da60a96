"""An SMTP server that tells what the PROXY header of each client said.

It prints one JSON object per line: {"event": "listening", "port": N}, then for
each session {"event": "proxy", ...} with aiosmtpd's reading of the header and
our own of its bytes, and for each message {"event": "message", ...}.
"""

import asyncio
import json
import sys

from aiosmtpd.smtp import SMTP


def say(**fields):
    print(json.dumps(fields), flush=True)


def crc32c(data):
    """CRC-32C (Castagnoli) bit by bit, straight from its definition."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def crc_verdict(raw, start):
    """Compares the CRC32C in a header with that of its bytes, field zeroed."""
    at = start
    while at is not None and at + 3 <= len(raw):
        kind, length = raw[at], int.from_bytes(raw[at + 1 : at + 3], "big")
        if kind == 0x03:
            zeroed = raw[: at + 3] + bytes(length) + raw[at + 3 + length :]
            told = int.from_bytes(raw[at + 3 : at + 3 + length], "big")
            return "correct" if length == 4 and told == crc32c(zeroed) else "wrong"
        at += 3 + length
    return "absent"


def tlvs(proxy):
    """aiosmtpd's reading: name to text, or to a number for the SSL fields."""
    found = {}
    for name, value in (proxy.tlv or {}).items() if proxy.version == 2 else ():
        if isinstance(value, (bytes, bytearray)):
            value = value.hex() if name == "CRC32C" else value.decode("latin-1")
        found[name] = value
    return found


class Oracle:
    async def handle_PROXY(self, server, session, envelope, proxy):
        raw = bytes(proxy.whole_raw or b"")
        say(
            event="proxy",
            peer=session.peer[1],
            valid=proxy.valid,
            error=proxy.error,
            version=proxy.version,
            command=None if proxy.command is None else int(proxy.command),
            family=None if proxy.family is None else int(proxy.family),
            source="" if proxy.src_addr is None else str(proxy.src_addr),
            source_port=proxy.src_port,
            destination="" if proxy.dst_addr is None else str(proxy.dst_addr),
            destination_port=proxy.dst_port,
            tlvs=tlvs(proxy),
            crc=crc_verdict(raw, proxy.tlv_start) if proxy.version == 2 else "absent",
            length=len(raw),
            raw=raw.hex(),
        )
        return True

    async def handle_DATA(self, server, session, envelope):
        say(
            event="message",
            peer=session.peer[1],
            helo=session.host_name,
            sender=envelope.mail_from,
            recipients=envelope.rcpt_tos,
            content=envelope.original_content.hex(),
        )
        return "250 2.0.0 Message accepted"


async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(Oracle(), hostname="aiosmtpd.test", enable_SMTPUTF8=True, proxy_protocol_timeout=5),
        host="127.0.0.1",
        port=0,
    )
    say(event="listening", port=server.sockets[0].getsockname()[1])
    await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(0)
