# Written by bake, layer audit. Debian 12 has no pam_umask. CIS 5.4.3.3
umask 027
# The third line of defence against memory images. Lynis KRNL-5820
ulimit -c 0
