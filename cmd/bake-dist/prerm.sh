#!/bin/sh
# A timer must not outlive its program; an upgrade (deb: upgrade, rpm: 1) leaves it be.
set -e
case ${1:-} in
remove | purge | 0)
	if [ -d /run/systemd/system ]; then systemctl disable --now bake-nightly.timer; fi
	;;
esac
