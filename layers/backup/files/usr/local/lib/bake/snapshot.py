# Written by bake, layer backup: a tree of files, copied, and listed as bake's host
# reads it (a member of the tar each, in tar's order). Paths are bytes; a tree is what
# somebody else writes to meanwhile, so nothing in it is opened by a path that could
# have become a link.
import errno
import hashlib
import json
import os
import pwd
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import urllib.parse

CONFIG = os.path.dirname(os.path.realpath(__file__)) + "/backup.json"
STATE = "/var/lib/bake/state"  # the disk that outlives the machine, if there is one
MAGIC = b"SQLite format 3\0"
JOURNALS = (b"-wal", b"-shm", b"-journal")
# A page that is mapped and dirty can be written to without a new time in the inode,
# until the kernel has written it back: half a minute.
RECENT = 60 * 10**9
# The times that bake's host can say, in nanoseconds: a file system knows later ones, and
# whoever owns a file gives it any.
EARLIEST, LATEST = -2**63, 2**63 - 1
# A path of 4095 bytes, PATH_MAX, goes through half as many directories, and each is two calls
# and two open files here. Whoever owns one can make it so deep.
DEEP = 8192
sys.setrecursionlimit(DEEP)
MOST_OPEN = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(DEEP, MOST_OPEN) if MOST_OPEN > 0 else DEEP, MOST_OPEN))
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class Failed(Exception):
    """It is said, and nothing is left."""


def config():
    with open(CONFIG, encoding="ascii") as file:
        read = json.load(file)
    # PATH or PATH:OWNER, and once each. One within another is in it already.
    roots = sorted({os.fsencode(root.split(":")[0]) for root in read["roots"]})
    read["roots"] = [root for root in roots if not any(root.startswith(other + b"/") for other in roots)]
    # And the state disk's own ways to what is known by other paths.
    read["exclude"] = {os.fsencode(path) for path in [*read["exclude"], STATE + "/dirs", STATE + "/before", staging()]}
    return read


def staging():
    """The directory for copies: where the state is, so that a rename moves them."""
    return (STATE if os.path.ismount(STATE) else "/var/lib/bake") + "/backup"


def run(*argv, check=True):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False)
    if check and done.returncode != 0:
        raise Failed(f"{' '.join(argv)}: {done.stderr.strip() or done.returncode}")
    return done.stdout.strip()


def attributes(fd):
    return {name: os.getxattr(fd, name) for name in os.listxattr(fd)}


class Tree:
    """A copy of directories and files below one directory, which can be brought up to date."""

    def __init__(self, top, exclude):
        self.top = os.open(top, DIRECTORY)
        self.exclude = exclude
        self.known = {}  # what each file was when it was copied
        self.databases = {}  # path: status, attributes, time of the last change
        self.skipped = []
        self.inodes = {}
        self.now = 0

    def update(self, roots, now):
        """Copy what is new since the last time; now is in nanoseconds and before anything is read."""
        self.databases, self.skipped, self.inodes, self.now = {}, [], {}, now
        taken = []
        for root in roots:
            try:
                above = self.descend(os.path.dirname(root))
            except FileNotFoundError:
                continue
            source, target = above
            try:
                info = os.stat(os.path.basename(root), dir_fd=source, follow_symlinks=False)
                if stat.S_ISLNK(info.st_mode):
                    raise Failed(f"{os.fsdecode(root)} is a link: name what it leads to")
                self.entry(root, os.path.basename(root), info, source, target)
                taken.append(root)
            except FileNotFoundError:
                self.remove(os.path.basename(root), target)
            finally:
                os.close(source)
                os.close(target)
        return taken

    def descend(self, path, fresh=True):
        """Open a directory here and in the copy, where it and those on the way are made."""
        source, target = os.open("/", DIRECTORY), os.dup(self.top)
        for name in filter(None, path.split(b"/")):
            try:
                below = os.open(name, DIRECTORY, dir_fd=source)
            finally:
                os.close(source)
            source = below
            if fresh and not kind(name, target):
                os.mkdir(name, 0o700, dir_fd=target)
            below = os.open(name, DIRECTORY, dir_fd=target)
            if fresh:
                dress(below, os.fstat(source), attributes(source))
            os.close(target)
            target = below
        return source, target

    def entry(self, path, name, info, source, target):
        if stat.S_ISDIR(info.st_mode):
            self.directory(path, name, info, source, target)
        elif stat.S_ISLNK(info.st_mode):
            self.link(name, info, source, target)
        elif stat.S_ISREG(info.st_mode):
            self.file(path, name, info, source, target)
        else:
            self.remove(name, target)
            self.skipped.append(path[1:])

    def directory(self, path, name, info, source, target):
        below = os.open(name, DIRECTORY, dir_fd=source)
        try:
            if kind(name, target) != stat.S_IFDIR:
                self.remove(name, target)
                os.mkdir(name, 0o700, dir_fd=target)
            copy = os.open(name, DIRECTORY, dir_fd=target)
        except OSError:
            os.close(below)
            raise
        try:
            names = {n for n in map(os.fsencode, os.listdir(below)) if path + b"/" + n not in self.exclude}
            names -= {n for n in names for j in JOURNALS if n.endswith(j) and is_database(n[:-len(j)], below)}
            for gone in set(map(os.fsencode, os.listdir(copy))) - names:
                self.remove(gone, copy)
            for n in sorted(names):
                try:
                    self.entry(path + b"/" + n, n, os.stat(n, dir_fd=below, follow_symlinks=False), below, copy)
                except OSError as error:  # it has become something else: nobody is frozen yet
                    if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                        raise
                    self.remove(n, copy)
            dress(copy, info, attributes(below))
        finally:
            os.close(below)
            os.close(copy)

    def link(self, name, info, source, target):
        self.remove(name, target)
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        os.chown(name, info.st_uid, info.st_gid, dir_fd=target, follow_symlinks=False)
        os.utime(name, ns=said(info.st_mtime_ns), dir_fd=target, follow_symlinks=False)

    def file(self, path, name, info, source, target):
        if is_database(name, source):
            self.databases[path] = self.database(name, info, source)
            self.remove(name, target)
            return
        first = self.inodes.setdefault((info.st_dev, info.st_ino), path)
        if first != path:
            self.remove(name, target)
            os.link(first[1:], name, src_dir_fd=self.top, dst_dir_fd=target, follow_symlinks=False)
            return
        now = (info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
        if self.known.get(path) == now and kind(name, target) == stat.S_IFREG:
            return
        self.remove(name, target)
        self.known.pop(path, None)
        self.content(name, info, source, target)
        if max(info.st_mtime_ns, info.st_ctime_ns) < self.now - RECENT:
            self.known[path] = now

    @staticmethod
    def database(name, info, source):
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=source)
        try:
            values = attributes(fd)
        finally:
            os.close(fd)
        try:
            changed = os.stat(name + b"-wal", dir_fd=source, follow_symlinks=False).st_mtime_ns
        except FileNotFoundError:
            changed = 0
        return info, values, max(info.st_mtime_ns, changed)

    def raw(self, path):
        """Copy a file that only looks like a database as it is, and what looks like its journals."""
        source, target = self.descend(os.path.dirname(path), fresh=False)
        above = os.fstat(target)
        try:
            for name in [os.path.basename(path) + end for end in (b"", b"-wal", b"-journal")]:
                self.remove(name, target)
                if kind(name, source) == stat.S_IFREG:
                    self.content(name, os.stat(name, dir_fd=source, follow_symlinks=False), source, target)
            os.utime(target, ns=(above.st_mtime_ns, above.st_mtime_ns))
        finally:
            os.close(source)
            os.close(target)

    def place(self, copy, path):
        """Move the copy of a database to where it belongs."""
        target = os.open(os.path.dirname(path)[1:] or b".", DIRECTORY, dir_fd=self.top)
        try:
            above = os.fstat(target)
            os.rename(copy, os.path.basename(path), dst_dir_fd=target)
            fd = os.open(os.path.basename(path), os.O_RDWR | os.O_NOFOLLOW, dir_fd=target)
            info, values, changed = self.databases[path]
            dress(fd, info, values, changed)
            os.close(fd)
            os.utime(target, ns=(above.st_mtime_ns, above.st_mtime_ns))
        finally:
            os.close(target)

    def content(self, name, info, source, target):
        reading = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=source)
        try:
            writing = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=target)
            try:
                copy_data(reading, writing)
                dress(writing, info, attributes(reading))
            finally:
                os.close(writing)
        finally:
            os.close(reading)

    @staticmethod
    def remove(name, target):
        what = kind(name, target)
        if what == stat.S_IFDIR:
            run("rm", "-rf", "--", f"/proc/{os.getpid()}/fd/{target}/{os.fsdecode(name)}")
        elif what:
            os.unlink(name, dir_fd=target)


def dress(fd, info, values, changed=None):
    """Give a copy what belongs to it besides its content."""
    os.fchown(fd, info.st_uid, info.st_gid)
    have = attributes(fd)
    for attribute in have.keys() - values.keys():
        os.removexattr(fd, attribute)
    for attribute, value in values.items():
        if have.get(attribute) != value:
            os.setxattr(fd, attribute, value)
    os.fchmod(fd, stat.S_IMODE(info.st_mode))
    os.utime(fd, ns=said(changed or info.st_mtime_ns))


def said(time):
    """What a copy has as its times."""
    return (max(EARLIEST, min(time, LATEST)),) * 2


def kind(name, directory):
    """The type of a file, 0 for none."""
    try:
        return stat.S_IFMT(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return 0


def is_database(name, directory):
    if kind(name, directory) != stat.S_IFREG:
        return False
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    except OSError:
        return False
    try:
        return os.pread(fd, len(MAGIC), 0) == MAGIC
    finally:
        os.close(fd)


def as_user(owner, do):
    """What do returns, which must be JSON, as that user."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if owner != os.getuid():
                try:
                    group = pwd.getpwuid(owner).pw_gid
                except KeyError:
                    group = owner
                os.setgroups([])
                os.setgid(group)
                os.setuid(owner)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            with os.fdopen(writing, "w") as answer:
                json.dump(do(), answer)
            os._exit(0)
        except BaseException as error:  # and not on into what the parent does
            print(f"as user {owner}: {error}", file=sys.stderr)
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    if os.waitpid(child, 0)[1] != 0:
        raise Failed(f"the databases of user {owner} could not be copied")
    return json.loads(text)


def database_uri(path, options):
    return "file:" + quote(path) + options


def check_database(_path, copy):
    """SQLite's word on a database that nobody writes to: ok, or what is wrong."""
    try:
        database = sqlite3.connect(database_uri(os.fsencode(copy), "?immutable=1"), uri=True)
        try:
            return str(database.execute("PRAGMA integrity_check(1)").fetchone()[0])
        finally:
            database.close()
    except sqlite3.Error as error:
        return str(error)


def copy_data(reading, writing):
    """Copy what is not a hole."""
    offset, size = 0, os.fstat(reading).st_size
    while offset < size:
        try:
            offset = os.lseek(reading, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            raise
        end = os.lseek(reading, offset, os.SEEK_HOLE)
        os.lseek(reading, offset, os.SEEK_SET)
        os.lseek(writing, offset, os.SEEK_SET)
        while offset < end:
            data = os.read(reading, min(end - offset, 1 << 20))
            if not data:
                size = offset  # it has become shorter
                break
            offset += len(data)
            while data:
                data = data[os.write(writing, data):]
    os.ftruncate(writing, size)


def listing(top, roots):
    """What tar will send of this tree, as the manifest has it."""
    entries, inodes = [], {}

    def visit(path, name, directory):
        info = os.stat(name, dir_fd=directory, follow_symlinks=False)
        entry = {"path": path, "type": "dir", "mode": f"{stat.S_IMODE(info.st_mode):04o}", "uid": info.st_uid, "gid": info.st_gid,
                 "size": 0, "mtime": info.st_mtime_ns, "sha256": "", "xattrs": "", "target": b""}
        entries.append(entry)
        if stat.S_ISLNK(info.st_mode):
            entry.update(type="symlink", target=os.readlink(name, dir_fd=directory))
            return
        first = inodes.setdefault((info.st_dev, info.st_ino), path)
        if stat.S_ISREG(info.st_mode) and first != path:
            entry.update(type="hard", target=first)
            return
        if not stat.S_ISREG(info.st_mode) and not stat.S_ISDIR(info.st_mode):
            raise Failed(f"{os.fsdecode(path)!r} is neither file, directory nor link")
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=directory)
        try:
            entry["xattrs"] = attributes_digest(attributes(fd))
            if stat.S_ISREG(info.st_mode):
                entry.update(type="file", size=info.st_size, sha256=content_digest(fd))
            else:
                for below in sorted(map(os.fsencode, os.listdir(fd))):
                    visit(path + b"/" + below, below, fd)
        finally:
            os.close(fd)

    fd = os.open(top, DIRECTORY)
    try:
        for name in roots:
            visit(name, name, fd)
    finally:
        os.close(fd)
    return entries


def content_digest(fd):
    digest = hashlib.sha256()
    while data := os.read(fd, 1 << 20):
        digest.update(data)
    return digest.hexdigest()


def attributes_digest(values):
    if not values:
        return ""
    digest = hashlib.sha256()
    for name in sorted(map(os.fsencode, values)):
        value = values[os.fsdecode(name)]
        digest.update(b"%s\0%d\0%s" % (name, len(value), value))
    return digest.hexdigest()


def digest_of(entries):
    digest = hashlib.sha256()
    for e in entries:
        words = [e["mode"], e["uid"], e["gid"], e["size"], e["mtime"], e["sha256"], e["xattrs"]]
        words = [e["path"], e["type"].encode(), *(str(word).encode() for word in words), e["target"]]
        digest.update(b"\0".join(words) + b"\n")
    return digest.hexdigest()


def quote(path):
    return urllib.parse.quote(path, safe="/")


def unquote(text):
    return urllib.parse.unquote_to_bytes(text)


def written(entries):
    """Entries as JSON has them: without what is empty, and with paths of ASCII."""
    for e in entries:
        words = {key: value for key, value in e.items() if value != "" and value != b""}
        yield {key: quote(value) if isinstance(value, bytes) else value for key, value in words.items()}


def read(entries):
    """Entries as listing has them."""
    for e in entries:
        yield {**e, "path": unquote(e["path"]), "sha256": e.get("sha256", ""), "xattrs": e.get("xattrs", ""), "target": unquote(e.get("target", ""))}
