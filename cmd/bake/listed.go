package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"bake/internal/artifact"
	"bake/internal/backup"
)

// listedName is the file, beside the record of a host's backups, of the backups that its
// stores had when they were asked last: a shell that completes a word has neither the time
// nor the password to ask them.
const listedName = "snapshots.json"

// noteSnapshots keeps what a store has of a host. Nothing but completion reads it, so that what
// cannot be kept is no reason to say or to stop anything.
func (a *app) noteSnapshots(name, store string, all []backup.Snapshot) {
	a.changeListed(name, func(listed []backup.Snapshot) []backup.Snapshot {
		return append(slices.DeleteFunc(listed, func(s backup.Snapshot) bool { return s.Store == store }), all...)
	})
}

// noteSaved adds one that has just been stored.
func (a *app) noteSaved(name string, saved backup.Snapshot) {
	a.changeListed(name, func(listed []backup.Snapshot) []backup.Snapshot { return append(listed, saved) })
}

func (a *app) changeListed(name string, change func([]backup.Snapshot) []backup.Snapshot) {
	root, err := a.backupRoot()
	if err != nil {
		return
	}
	_ = artifact.Keep(root, name, listedName, func(old []byte) ([]byte, error) {
		var listed []backup.Snapshot
		_ = json.Unmarshal(old, &listed) // what cannot be read is begun anew
		return json.Marshal(change(listed))
	})
}

// listedSnapshots are the backups of the hosts named, or of all, the newest first.
func (a *app) listedSnapshots(hosts []string) (ids []string) {
	root, err := a.backupRoot()
	if err != nil {
		return nil
	}
	if len(hosts) == 0 {
		entries, err := os.ReadDir(root)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		for _, entry := range entries {
			hosts = append(hosts, entry.Name())
		}
	}
	var all []backup.Snapshot
	for _, name := range hosts {
		var listed []backup.Snapshot
		content, err := os.ReadFile(filepath.Join(root, filepath.Base(name), listedName))
		if err == nil && json.Unmarshal(content, &listed) == nil {
			all = append(all, listed...)
		}
	}
	slices.SortStableFunc(all, func(x, y backup.Snapshot) int { return y.Time.Compare(x.Time) })
	for _, s := range all {
		if !slices.Contains(ids, s.ID) {
			ids = append(ids, s.ID)
		}
	}
	return ids
}
