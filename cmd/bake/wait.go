package main

// Which generations wait for the time at which their machines may be changed. That is
// kept beside the nights' reports: waiting.json has a generation by host.

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

const waitingName = "waiting.json"

// clock is time.Now; tests replace it. Windows are in its time zone.
var clock = time.Now

// comeTo says whether a generation is to be deployed now: it is new, or has waited. The
// error is a *nightly.WaitError when it has to wait.
func (n *night) comeTo(name, generation string, isNew bool, policy nightly.Policy) (now bool, err error) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	waiting, err := n.waiting()
	if err != nil {
		return false, err
	}
	isDue := isNew || waiting[name] == generation
	switch {
	case !isDue:
		return false, nil
	case !policy.Allows(clock()):
		waiting[name] = generation
		if err := n.setWaiting(waiting); err != nil {
			return false, err
		}
		return false, &nightly.WaitError{Generation: generation, Until: policy}
	case waiting[name] != "": // it is tried once, like any other
		delete(waiting, name)
		return true, n.setWaiting(waiting)
	}
	return true, nil
}

func (n *night) waitingFile() string { return filepath.Join(filepath.Dir(n.candidates), waitingName) }

// waiting is what waits. A list that makes no sense is none, and that is said: a machine that
// does not run what is current shows every night.
func (n *night) waiting() (map[string]string, error) {
	all := map[string]string{}
	content, err := os.ReadFile(n.waitingFile())
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading which generations wait to be deployed: %w", err)
	}
	if err := json.Unmarshal(content, &all); err != nil || all == nil {
		n.say("%s is damaged: which generations wait to be deployed is forgotten", n.waitingFile())
		return map[string]string{}, nil
	}
	return all, nil
}

func (n *night) setWaiting(all map[string]string) error {
	was, err := n.waiting()
	if err != nil || maps.Equal(was, all) {
		return err
	}
	content, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return writeWhole(n.waitingFile(), append(content, '\n'), false)
}
