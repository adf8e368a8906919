package inspect

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

const (
	maxLinks = 40        // as in the kernel
	maxSteps = 4 << 10   // components of a path, links followed
	maxFile  = 64 << 20  // bytes
	maxNames = 100 << 10 // of a directory that is listed
)

var errNotRegular = errors.New("it is not a regular file")

// node is a file of the image, in one of its file systems.
type node struct {
	volume *volume
	inode  inode
}

// find resolves a path from the root of the image, as a process in the guest
// would: links are followed inside the image, ".." stops at its root, and a
// separate /boot is mounted.
func (i *Image) find(name string) (node, error) {
	root, err := i.root.inode(rootInode)
	if err != nil {
		return node{}, err
	}
	stack := []node{{i.root, root}}
	todo := strings.Split(name, "/")
	links := 0
	for steps := 0; len(todo) > 0; steps++ {
		if steps > maxSteps {
			return node{}, errors.New("its path is too long")
		}
		here, step := stack[len(stack)-1], todo[0]
		todo = todo[1:]
		switch step {
		case "", ".":
			continue
		case "..":
			stack = stack[:max(1, len(stack)-1)]
			continue
		}
		next, err := i.child(here, step, len(stack) == 1)
		if err != nil {
			return node{}, err
		}
		if !next.inode.is(kindLink) {
			stack = append(stack, next)
			continue
		}
		if links++; links > maxLinks {
			return node{}, errors.New("too many symbolic links")
		}
		target, err := next.volume.content(next.inode, maxTarget)
		if err != nil {
			return node{}, fmt.Errorf("reading the link %s: %w", line(step), err)
		}
		if strings.HasPrefix(string(target), "/") {
			stack = stack[:1]
		}
		todo = append(strings.Split(string(target), "/"), todo...)
	}
	return stack[len(stack)-1], nil
}

func (i *Image) child(parent node, name string, top bool) (node, error) {
	if !parent.inode.is(kindDirectory) {
		return node{}, fs.ErrNotExist
	}
	if top && name == "boot" && i.boot != nil {
		n, err := i.boot.inode(rootInode)
		return node{i.boot, n}, err
	}
	var found uint32
	err := parent.volume.names(parent.inode, func(entry []byte, number uint32) bool {
		if string(entry) == name {
			found = number
		}
		return found == 0
	})
	if err != nil {
		return node{}, err
	}
	if found == 0 {
		return node{}, fs.ErrNotExist
	}
	n, err := parent.volume.inode(found)
	return node{parent.volume, n}, err
}

// ReadFile returns a regular file of at most 64 MiB by its path in the image,
// with or without a leading slash. A file that is not there is fs.ErrNotExist.
func (i *Image) ReadFile(name string) (content []byte, err error) {
	return i.readFile(name, maxFile)
}

func (i *Image) readFile(name string, limit int64) (content []byte, err error) {
	defer i.explain(&err, "reading "+line(path.Join("/", name)))
	n, err := i.find(name)
	if err != nil {
		return nil, err
	}
	if !n.inode.is(kindRegular) {
		return nil, errNotRegular
	}
	return n.volume.content(n.inode, limit)
}

// ReadDir returns the names in a directory of the image, sorted, without "."
// and "..". They are the image's own words: any byte but "/" and zero.
func (i *Image) ReadDir(name string) (names []string, err error) {
	defer i.explain(&err, "listing "+line(path.Join("/", name)))
	n, err := i.find(name)
	if err != nil {
		return nil, err
	}
	if !n.inode.is(kindDirectory) {
		return nil, errors.New("it is not a directory")
	}
	crowded := false
	err = n.volume.names(n.inode, func(entry []byte, _ uint32) bool {
		text := string(entry)
		if text != "." && text != ".." && !strings.ContainsAny(text, "/\x00") {
			names = append(names, text)
		}
		crowded = len(names) > maxNames
		return !crowded
	})
	if crowded {
		err = fmt.Errorf("it has more than %d names", maxNames)
	}
	slices.Sort(names)
	return names, err
}
