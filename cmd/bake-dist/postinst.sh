#!/bin/sh
# The user and the directories of the nightly job, now where that can be done, else at the
# next boot. Nothing is started: systemctl enable --now bake-nightly.timer is the user's.
set -e
if command -v systemd-sysusers >/dev/null; then systemd-sysusers bake.conf; fi
if command -v systemd-tmpfiles >/dev/null; then systemd-tmpfiles --create bake.conf || true; fi
if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
