package main

// Which generations wait for the time at which their machines may be changed, and which are
// being tried. That is kept beside the nights' reports, a generation by host in each file.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	"bake/internal/nightly"
)

const (
	waitingName = "waiting.json"
	tryingName  = "trying.json" // should the night break off once it has promoted one
)

// clock is time.Now; tests replace it. Windows are in its time zone.
var clock = time.Now

// comeTo says whether a generation is to be deployed now: it is new, be it that the night
// broke off that had promoted it, or has waited. The error is a *nightly.WaitError when it has to wait.
func (n *night) comeTo(name, generation string, isNew bool, policy nightly.Policy) (now bool, err error) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	waiting, err := n.listed(waitingName)
	if err != nil {
		return false, err
	}
	trying, err := n.listed(tryingName)
	if err != nil {
		return false, err
	}
	isDue := isNew || waiting[name] == generation || trying[name] == generation
	if !isDue {
		return false, nil
	}
	if !policy.Allows(clock()) {
		waiting[name], err = generation, &nightly.WaitError{Generation: generation, Until: policy}
	} else {
		delete(waiting, name) // it is tried once, like any other
		now = true
	}
	delete(trying, name)
	if failed := errors.Join(n.setListed(waitingName, waiting), n.setListed(tryingName, trying)); failed != nil {
		return false, failed
	}
	return now, err
}

// try notes that a host's generation is being tried, for whoever deploys it; "" for none.
func (n *night) try(name, generation string) error {
	if _, deploys := n.o.config.Deploy[name]; !deploys {
		return nil
	}
	n.mutex.Lock()
	defer n.mutex.Unlock()
	trying, err := n.listed(tryingName)
	if err != nil {
		return err
	}
	if delete(trying, name); generation != "" {
		trying[name] = generation
	}
	return n.setListed(tryingName, trying)
}

func (n *night) listFile(list string) string { return filepath.Join(filepath.Dir(n.candidates), list) }

// listed is what a list has. One that makes no sense is none, and that is said: a machine that
// does not run what is current shows every night.
func (n *night) listed(list string) (map[string]string, error) {
	all := map[string]string{}
	content, err := os.ReadFile(n.listFile(list))
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading which generations are to be deployed: %w", err)
	}
	if err := json.Unmarshal(content, &all); err != nil || all == nil {
		n.say("%s is damaged: which generations are to be deployed is forgotten", n.listFile(list))
		return map[string]string{}, nil
	}
	return all, nil
}

func (n *night) setListed(list string, all map[string]string) error {
	was, err := n.listed(list)
	if err != nil || maps.Equal(was, all) {
		return err
	}
	content, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return writeWhole(n.listFile(list), append(content, '\n'), false)
}
