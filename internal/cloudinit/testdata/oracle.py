"""Have cloud-init itself process each user-data that comes in, until the input ends.

A user-data is its length in bytes on a line, and the bytes. The answer is a line of JSON, in the
form of type answer in oracle_test.go. PYTHONPATH says whose cloud-init it is; its classes are
driven as its stages drive them. Nothing is fetched but the addresses below, and no boothook runs.
"""
import importlib
import json
import logging
import os
import shutil
import sys
import tempfile

from canonical import canonical
from cloudinit import handlers, helpers, stages, subp, url_helper, user_data, util
from cloudinit.settings import PER_INSTANCE

PAGES = {
    "http://lab.invalid/config": b"#cloud-config\nfrom_the_net: true\nruncmd: [fetched]\n",
    "http://lab.invalid/script": b"#!/bin/sh\necho fetched\n",
    "http://lab.invalid/empty": b"",
    "http://lab.invalid/again": b"#include\nhttp://lab.invalid/config\n",
}


class Response:
    def __init__(self, contents):
        self.contents = contents

    def ok(self):
        return True


def fetch(url, **_):
    if url not in PAGES:
        raise url_helper.UrlError(IOError("not in the lab"))
    return Response(PAGES[url])


class Datasource:
    def get_instance_id(self):
        return "lab"


class Init:
    """What stages.Init needs to run its handlers."""

    def __init__(self, root):
        self.datasource = Datasource()
        self.paths = helpers.Paths({"cloud_dir": root + "/lib", "run_dir": root + "/run"}, ds=self.datasource)
        os.makedirs(root + "/run")
        with open(self.paths.get_runpath("instance_data_sensitive"), "w") as f:
            f.write('{"v1": {}}')

    def _get_ipath(self, name):
        return self.paths.get_ipath(name)

    def cloudify(self):
        return None


class Watch(logging.Handler):
    """Counts the warnings: what cloud-init says when it drops something."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.count = 0

    def emit(self, record):
        self.count += 1


watch = Watch()
logging.getLogger().addHandler(watch)
subp.subp = lambda *_, **__: ("", "")
user_data.read_file_or_url = fetch
real_callback = handlers.walker_callback
parts = []


def callback(data, filename, payload, headers):
    before = watch.count
    real_callback(data, filename, payload, headers)
    outcome = "lost" if watch.count > before else "kept" if payload else "empty"
    parts.append([filename, headers["Content-Type"], outcome])


handlers.walker_callback = callback


def files(root):
    found = {}
    for folder, _, names in os.walk(root + "/lib"):
        for name in names:
            path = os.path.join(folder, name)
            kind = os.path.basename(folder)
            if kind in ("scripts", "boothooks", "per-boot", "per-instance", "per-once"):
                with open(path, "rb") as f:
                    found[kind + "/" + name] = f.read().hex()
    return found


def process(data, root):
    parts.clear()
    init = Init(root)
    os.makedirs(init.paths.get_ipath("handlers"))
    importlib.invalidate_caches()
    sys.modules.pop("part-handler-000", None)
    try:
        message = user_data.UserDataProcessor(init.paths).process(data)
        str(message).encode()
        default = stages.Init._default_handlers(init)
        stages.Init._do_handlers(init, message, default, PER_INSTANCE)
    except Exception as e:
        return {"fatal": f"{type(e).__name__}: {e}"[:200]}
    text = ""
    if os.path.exists(init.paths.get_ipath("cloud_config")):
        with open(init.paths.get_ipath("cloud_config"), encoding="utf-8", newline="") as f:
            text = f.read()
    config = util.load_yaml(text, default={})  # as it is read again
    marker = "# Cloud-config part ignored SCHEMA_ERROR: "
    return {
        "config": canonical({} if config is None else config),
        "marked": [line[len(marker):] for line in text.split("\n") if line.startswith(marker)],
        "parts": [[name.encode("utf-8", "surrogatepass").hex(), kind, outcome] for name, kind, outcome in parts],
        "files": files(root),
    }


base = tempfile.mkdtemp(prefix="bake-oracle-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
os.umask(0o022)
try:
    while line := sys.stdin.buffer.readline():
        data = sys.stdin.buffer.read(int(line))
        root = base + "/root"
        shutil.rmtree(root, ignore_errors=True)
        print(json.dumps(process(data, root)), flush=True)
finally:
    shutil.rmtree(base, ignore_errors=True)
