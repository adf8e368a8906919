"""The form in which oracles write a value, so that equal values are equal texts."""
import datetime
import struct


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
