package main

// What registries and buckets have shown of a host, so that none can go back to an older
// generation.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"bake/internal/artifact"
)

// placesName is the file beside a host's generations.
const (
	placesName   = "places.json"
	placesSchema = "bake.places/1"
)

// newestShown is the content of that file.
type newestShown struct {
	Schema string           `json:"schema"`
	Newest map[string]int64 `json:"newest"` // number of the tag current, by publish.Place.ID
	// Signed is the greatest number that was signed here, whether the place has come to show it
	// or not: two images with one number could each take the other's place.
	Signed map[string]int64 `json:"signed,omitempty"`
}

func decodePlaces(content []byte) (newestShown, error) {
	p := newestShown{Schema: placesSchema, Newest: map[string]int64{}}
	if content == nil {
		return p, nil
	}
	if err := json.Unmarshal(content, &p); err != nil || p.Schema != placesSchema || p.Newest == nil {
		return p, lackError{fmt.Errorf("%s is damaged: remove it, and what was newest is not known any more", placesName)}
	}
	return p, nil
}

func encodePlaces(p newestShown) ([]byte, error) {
	text, err := json.MarshalIndent(p, "", "  ")
	return append(text, '\n'), err
}

// shownBy is the greatest number that a place has shown for a host's current.
func shownBy(out, host, place string) (int64, error) {
	content, err := os.ReadFile(filepath.Join(out, host, placesName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	p, err := decodePlaces(content)
	return p.Newest[place], err
}

// noteShown notes what a place has shown.
func noteShown(out, host, place string, number int64) error {
	return artifact.Keep(out, host, placesName, func(old []byte) ([]byte, error) {
		p, err := decodePlaces(old)
		if err != nil {
			return nil, err
		}
		p.Newest[place] = max(p.Newest[place], number)
		return encodePlaces(p)
	})
}

// noteSigned takes a number that is greater than one that was seen, and than all that were taken
// here before.
func noteSigned(out, host, place string, seen int64) (number int64, err error) {
	err = artifact.Keep(out, host, placesName, func(old []byte) ([]byte, error) {
		p, err := decodePlaces(old)
		if err != nil {
			return nil, err
		}
		if p.Signed == nil {
			p.Signed = map[string]int64{}
		}
		number = max(p.Signed[place], seen) + 1
		p.Signed[place] = number
		return encodePlaces(p)
	})
	return number, err
}
