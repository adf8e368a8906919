"""Say what PyYAML makes of each document that comes in, until the input ends.

A document is its length in bytes on a line, and the bytes. The answer is a line: the value in the
canonical form of internal/oracle, "none", "error" for what load_yaml of cloud-init catches, or
"crash" for what it does not.
"""
import sys

import yaml
from canonical import canonical


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
