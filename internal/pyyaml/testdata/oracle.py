"""Say what PyYAML makes of each document that comes in, until the input ends.

A document is its length in bytes on a line, and the bytes. The answer is a line: the value in the
canonical form of oracle_test.go, "none", "error" for what load_yaml of cloud-init catches, or
"crash" for what it does not.
"""
import datetime
import struct
import sys

import yaml


def canonical(value):
    if value is None:
        return "n"
    if isinstance(value, bool):
        return "b1" if value else "b0"
    if isinstance(value, int):
        return f"i{value}"
    if isinstance(value, float):
        return "fnan" if value != value else "f" + struct.pack(">d", value).hex()
    if isinstance(value, str):
        return "s" + value.encode("utf-8", "surrogatepass").hex()
    if isinstance(value, bytes):
        return "y" + value.hex()
    if isinstance(value, (datetime.date, datetime.datetime)):
        return "d" + value.isoformat()
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(canonical, value)) + "]"
    if isinstance(value, set):
        return "(" + ",".join(sorted(map(canonical, value))) + ")"
    return "{" + ",".join(sorted(canonical(k) + "=" + canonical(v) for k, v in value.items())) + "}"


def load(text):
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, TypeError, ValueError):
        return "error"
    except Exception:
        return "crash"
    if value is None:
        return "none"
    try:
        return canonical(value)
    except RecursionError:
        return "recursion"



while line := sys.stdin.buffer.readline():
    data = sys.stdin.buffer.read(int(line))
    print(load(data.decode("utf-8", "surrogateescape")), flush=True)
