"""Have cloud-init's own validator judge each cloud-config that comes in, until the input ends.

A document is its length in bytes on a line, and the bytes. The answer is a line of JSON: the paths
of what is wrong and of what is deprecated. PYTHONPATH says whose cloud-init it is.
"""
import json
import sys

import yaml
from cloudinit.config import schema

cloud = schema.get_schema()
if "--dump" in sys.argv:
    print(json.dumps(cloud))
    sys.exit()


def paths(problems):
    return sorted({getattr(p, "path", None) if hasattr(p, "path") else p[0] for p in problems})


def judge(text):
    try:
        schema.validate_cloudconfig_schema(yaml.safe_load(text), cloud, strict=True)
    except schema.SchemaValidationError as e:
        return {"errors": paths(e.schema_errors or []), "deprecated": paths(e.schema_deprecations or [])}
    return {"errors": [], "deprecated": []}


while line := sys.stdin.buffer.readline():
    data = sys.stdin.buffer.read(int(line))
    print(json.dumps(judge(data.decode())), flush=True)
