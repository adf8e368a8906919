package hypervisor

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"
)

const poolPrefix = "bake-"

// isOurs says whether a bake has made a pool, this one or another.
func isOurs(p libvirt.StoragePool) bool { return strings.HasPrefix(p.Name, poolPrefix) }

// pool gets at a directory; with build it is made if it is not there.
func (h *Hypervisor) pool(dir string, build bool) (libvirt.StoragePool, error) {
	if p, ok := h.pools[dir]; ok {
		return p, nil
	}
	p, err := h.findPool(dir, build)
	if isTaken(err) { // by another bake in this moment, or by what one has left
		if err = h.clear(dir); err == nil {
			p, err = h.findPool(dir, build)
		}
	}
	if err != nil {
		return p, err
	}
	h.pools[dir], h.made[dir] = p, isOurs(p)
	return p, nil
}

// findPool finds the active pool over a directory, or makes one.
func (h *Hypervisor) findPool(dir string, build bool) (libvirt.StoragePool, error) {
	p, err := h.virt.StoragePoolLookupByTargetPath(dir)
	if err == nil {
		return p, h.virt.StoragePoolRefresh(p, 0)
	}
	if !is(err, libvirt.ErrNoStoragePool) {
		return p, err
	}
	// 0711: who is to read a disk below it is made its owner by libvirt.
	wanted := libvirtxml.StoragePool{Type: "dir", Name: poolPrefix + rand.Text()[:12], Target: &libvirtxml.StoragePoolTarget{
		Path: dir, Permissions: &libvirtxml.StoragePoolTargetPermissions{Mode: "0711"}}}
	text, err := wanted.Marshal()
	if err != nil {
		return p, err
	}
	var flags libvirt.StoragePoolCreateFlags
	if build {
		flags = libvirt.StoragePoolCreateWithBuild
	}
	return h.virt.StoragePoolCreateXML(text, flags)
}

// isTaken says whether an error is about a directory that another pool has, for
// which libvirt has no number of its own.
func isTaken(err error) bool {
	return is(err, libvirt.ErrOperationFailed) && strings.Contains(err.Error(), "Storage source conflict")
}

// clear takes away what keeps a pool from being made over a directory and is not
// active itself: what a bake that was killed in RemoveDir has left.
func (h *Hypervisor) clear(dir string) error {
	pools, _, err := h.virt.ConnectListAllStoragePools(1, libvirt.ConnectListStoragePoolsInactive)
	if err != nil {
		return err
	}
	for _, p := range pools {
		text, err := h.virt.StoragePoolGetXMLDesc(p, 0)
		var found libvirtxml.StoragePool
		if err == nil {
			err = found.Unmarshal(text)
		}
		if err == nil && found.Target != nil && found.Target.Path == dir {
			if !isOurs(p) {
				return &LackError{fmt.Sprintf("%s has a pool %s over %s that is not active: virsh pool-start %s", h.URI, p.Name, dir, p.Name)}
			}
			err = h.virt.StoragePoolUndefine(p)
		}
		if err != nil && !is(err, libvirt.ErrNoStoragePool) { // gone since
			return err
		}
	}
	return nil
}

// in does something in the pool of a directory; with build the directory is made if
// it is not there. A pool that another bake has taken away since is made again.
func (h *Hypervisor) in(dir string, build bool, do func(libvirt.StoragePool) error) error {
	for again := true; ; again = false {
		p, err := h.pool(dir, build)
		if err == nil {
			err = do(p)
		}
		if !again || !is(err, libvirt.ErrNoStoragePool) {
			return err
		}
		h.lose(dir)
	}
}

// lose forgets a pool.
func (h *Hypervisor) lose(dir string) {
	delete(h.pools, dir)
	delete(h.made, dir)
}

// leave takes a pool away, and no file.
func (h *Hypervisor) leave(dir string) {
	if h.made[dir] {
		_ = h.virt.StoragePoolDestroy(h.pools[dir]) // another bake may have done that
	}
	h.lose(dir)
}

// RemoveDir deletes a directory and the files in it, but no directory below. One
// that is not there is no error; one that is somebody else's pool is only emptied.
func (h *Hypervisor) RemoveDir(dir string) error {
	names, err := h.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, name := range names {
		err = errors.Join(err, h.Remove(path.Join(dir, name)))
	}
	if err != nil {
		return err
	}
	p, made := h.pools[dir], h.made[dir]
	h.lose(dir)
	if !made {
		return nil
	}
	if err := h.virt.StoragePoolDestroy(p); err != nil && !is(err, libvirt.ErrNoStoragePool) {
		return fmt.Errorf("removing %s on %s: %w", dir, h.URI, err)
	}
	// A pool that is not active and not defined is gone, and with it the way to the
	// directory: it is made once more, as a definition.
	text := fmt.Sprintf("<pool type='dir'><name>%s</name><target><path>%s</path></target></pool>", p.Name, escape(dir))
	p, err = h.virt.StoragePoolDefineXML(text, 0)
	if err == nil {
		err = errors.Join(h.virt.StoragePoolDelete(p, 0), h.virt.StoragePoolUndefine(p))
	}
	if err != nil {
		return fmt.Errorf("removing %s on %s: %w", dir, h.URI, err)
	}
	return nil
}

// List returns the names in a directory. The error wraps fs.ErrNotExist when there
// is none.
func (h *Hypervisor) List(dir string) ([]string, error) {
	var volumes []libvirt.StorageVol
	err := h.in(dir, false, func(p libvirt.StoragePool) error {
		err := h.virt.StoragePoolRefresh(p, 0)
		if err == nil {
			volumes, _, err = h.virt.StoragePoolListAllVolumes(p, 1, 0)
		}
		return err
	})
	if isNoDir(err) {
		return nil, fmt.Errorf("%s on %s: %w", dir, h.URI, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("looking into %s on %s: %w", dir, h.URI, err)
	}
	var names []string
	for _, v := range volumes {
		names = append(names, v.Name)
	}
	return names, nil
}
