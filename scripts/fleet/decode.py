#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Example: read payloads of the Holdfast MQTT contract with nothing but the standard library.

Gets hex on the command line or on standard input, one payload a line; gives JSON, one line each. The profile is small:
definite lengths, sorted keys, shortest integers, 64-bit floats, no tags. Whatever leaves it is refused. A signed message
(COSE_Sign1) is shown with its payload decoded; its signature is NOT verified here.

    mosquitto_sub -t 'holdfast/1/+/e/#' -F '%x' | python3 decode.py
"""
import json
import struct
import sys

DEPTH_MAX = 12


class Refused(ValueError):
    pass


def head(data, at):
    """The major type and argument of the item at `at`, and where its content begins."""
    if at >= len(data):
        raise Refused("it ends too early")
    major, size = data[at] >> 5, data[at] & 31
    if major == 7:
        return major, size, at + 1
    if size < 24:
        return major, size, at + 1
    if size > 27:
        raise Refused("an indefinite length")
    width = 1 << (size - 24)
    if at + 1 + width > len(data):
        raise Refused("it ends too early")
    value = int.from_bytes(data[at + 1 : at + 1 + width], "big")
    if value < (24 if size == 24 else 1 << (width * 4)):
        raise Refused("a number that is not in its shortest form")
    return major, value, at + 1 + width


def simple(data, value, at):
    if value in (20, 21, 22):
        return {20: False, 21: True, 22: None}[value], at
    if value == 27 and at + 8 <= len(data):
        return struct.unpack(">d", data[at : at + 8])[0], at + 8
    raise Refused("a simple value outside the profile")


def item(data, at=0, depth=0):
    """One item and where the next begins."""
    major, value, at = head(data, at)
    if major == 7:
        return simple(data, value, at)
    if major == 6:
        raise Refused("a tag")
    if major < 2:
        return (value if major == 0 else -1 - value), at
    if value > len(data) - at:
        raise Refused("a length beyond the end")
    if major == 2:
        return data[at : at + value], at + value
    if major == 3:
        return data[at : at + value].decode("utf-8"), at + value
    if value and depth >= DEPTH_MAX:
        raise Refused("it is nested too deep")
    if major == 4:
        items = []
        for _ in range(value):
            one, at = item(data, at, depth + 1)
            items.append(one)
        return items, at
    fields, last = {}, None
    for _ in range(value):
        start = at
        key, at = item(data, at)
        if not isinstance(key, (int, str)) or isinstance(key, bool):
            raise Refused("a key that is neither text nor integer")
        if last is not None and (last >= data[start:at] or type(key) is not type(next(iter(fields)))):
            raise Refused("keys out of order, doubled or of two kinds")
        last = data[start:at]
        fields[key], at = item(data, at, depth + 1)
    return fields, at


def decode(data):
    try:
        value, end = item(data)
    except UnicodeDecodeError as error:
        raise Refused("text that is not UTF-8") from error
    if end != len(data):
        raise Refused("bytes after the end")
    return value


def shown(value):
    """The form of the JSON mirror: byte strings as hex, integers beyond 2^53 as text."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(key): shown(one) for key, one in value.items()}
    if isinstance(value, list):
        return [shown(one) for one in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 2**53 - 1:
        return str(value)
    return value


def signed_payload(value):
    """The decoded payload of a COSE_Sign1 message in our form, or None."""
    if isinstance(value, list) and len(value) == 4 and isinstance(value[2], bytes) and isinstance(value[3], bytes):
        return decode(value[2])
    return None


def main(lines):
    for line in lines:
        try:
            value = decode(bytes.fromhex(line.strip()))
            payload = signed_payload(value)
            print(json.dumps({"value": shown(value)} if payload is None else {"value": shown(value), "signed": shown(payload)}))
        except Refused as error:
            print(json.dumps({"refused": str(error)}))


if __name__ == "__main__":
    main(sys.argv[1:] or sys.stdin)
