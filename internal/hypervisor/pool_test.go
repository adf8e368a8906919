package hypervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bake/internal/tool"
)

// poolsOver are the names of the pools over a directory, as libvirt has them.
func poolsOver(t *testing.T, h *Hypervisor, dir string) (names []string) {
	t.Helper()
	pools, _, err := h.virt.ConnectListAllStoragePools(1, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pools {
		text, err := h.virt.StoragePoolGetXMLDesc(p, 0)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text, "<path>"+dir+"</path>") {
			names = append(names, p.Name)
		}
	}
	return names
}

// takeAway does to a directory's pool what another bake does when it hangs up.
func takeAway(t *testing.T, h *Hypervisor, dir string) {
	t.Helper()
	p, err := h.virt.StoragePoolLookupByTargetPath(dir)
	if err == nil {
		err = h.virt.StoragePoolDestroy(p)
	}
	if err != nil {
		t.Error(err)
	}
}

// TestPoolTakenAway: a bake that hangs up in the middle of what another does costs
// that nothing.
func TestPoolTakenAway(t *testing.T) {
	root, uri := daemon(t)
	h := connect(t, uri)
	dir := filepath.Join(root, "images", "zap")
	taken := false
	err := h.Put(t.Context(), dir+"/x", strings.NewReader("x"), 1, func(int64) {
		if !taken {
			taken = true
			takeAway(t, h, dir)
		}
	})
	if err != nil || !taken {
		t.Fatalf("%v, %v", taken, err)
	}
	if has, err := h.Has(dir + "/x"); !has || err != nil {
		t.Errorf("%v, %v", has, err)
	}
	takeAway(t, h, dir)
	if names, err := h.List(dir); err != nil || len(names) != 2 {
		t.Errorf("%v, %v", names, err)
	}
	takeAway(t, h, dir)
	if err := h.RemoveDir(dir); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory is there: %v", err)
	}
}

// TestBusy: who is overtaken in writing a file takes nothing from who has overtaken.
func TestBusy(t *testing.T) {
	root, uri := daemon(t)
	one, two := connect(t, uri), connect(t, uri)
	name := filepath.Join(root, "images", ".base", "x")
	content := strings.Repeat("bake", 1<<20)
	put := func(h *Hypervisor, progress func(int64)) error {
		return h.Put(t.Context(), name, strings.NewReader(content), int64(len(content)), progress)
	}
	begun := false
	err := put(one, func(int64) {
		if begun {
			return
		}
		begun = true
		if written, err := two.Written(name); err != nil || written >= int64(len(content)) {
			t.Errorf("%d, %v", written, err)
		}
		if err := put(two, nil); err != nil {
			t.Errorf("%v", err)
		}
	})
	if !IsBusy(err) || !begun {
		t.Errorf("%v, %v", begun, err)
	}
	if has, err := two.Has(name); !has || err != nil {
		t.Errorf("%v, %v", has, err)
	}
	if got, err := two.Read(name); err != nil || string(got) != content {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// definePool defines a pool and does not start it.
func definePool(t *testing.T, h *Hypervisor, name, dir string) {
	t.Helper()
	if _, err := h.virt.StoragePoolDefineXML(fmt.Sprintf("<pool type='dir'><name>%s</name><target><path>%s</path></target></pool>", name, dir), 0); err != nil {
		t.Fatal(err)
	}
}

// TestPoolLeft: what a bake that was killed in RemoveDir has left, the directory
// there or not, stands in nobody's way.
func TestPoolLeft(t *testing.T) {
	root, uri := daemon(t)
	for name, there := range map[string]bool{"before the directory went": true, "after": false} {
		t.Run(name, func(t *testing.T) {
			h := connect(t, uri)
			dir := filepath.Join(root, "images", fmt.Sprint(there))
			if there {
				if err := os.MkdirAll(dir, 0o711); err != nil {
					t.Fatal(err)
				}
			}
			definePool(t, h, fmt.Sprintf("bake-LEFT%v", there), dir)
			if err := h.Put(t.Context(), dir+"/x", strings.NewReader("x"), 1, nil); err != nil {
				t.Fatal(err)
			}
			if err := h.RemoveDir(dir); err != nil {
				t.Error(err)
			}
			if left := poolsOver(t, h, dir); len(left) > 0 {
				t.Errorf("%v", left)
			}
		})
	}
}

// TestForeignPool: what somebody else has made over a directory is used, if it is
// active, and stays.
func TestForeignPool(t *testing.T) {
	root, uri := daemon(t)
	dir := filepath.Join(root, "images", "theirs")
	if err := os.MkdirAll(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	admin := connect(t, uri)
	definePool(t, admin, "theirs", dir)
	p, err := admin.virt.StoragePoolLookupByName("theirs")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = admin.virt.StoragePoolUndefine(p) }()

	h, err := Connect(t.Context(), uri, tool.Box{})
	if err != nil {
		t.Fatal(err)
	}
	var lacks *LackError
	if _, err := h.List(dir); !errors.As(err, &lacks) || !strings.Contains(err.Error(), "virsh pool-start theirs") {
		t.Errorf("asleep: %v", err)
	}
	if err := admin.virt.StoragePoolCreate(p, 0); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = admin.virt.StoragePoolDestroy(p) }()
	if err := errors.Join(h.Put(t.Context(), dir+"/x", strings.NewReader("x"), 1, nil), h.RemoveDir(dir), h.Close()); err != nil {
		t.Error(err)
	}
	if active, err := admin.virt.StoragePoolIsActive(p); active != 1 || err != nil {
		t.Errorf("active %d, %v", active, err)
	}
	if entries, err := os.ReadDir(dir); len(entries) > 0 || err != nil {
		t.Errorf("%v, %v", entries, err)
	}
	if names := poolsOver(t, admin, dir); !slices.Equal(names, []string{"theirs"}) {
		t.Errorf("%v", names)
	}
}
