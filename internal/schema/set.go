package schema

import (
	"fmt"
	"strings"

	"bake/internal/doc"
)

// Set is all the schemas of one cloud-init. Older ones have none for network
// configuration.
type Set struct {
	cloudConfig *Schema
	network     map[string]*Schema // by version
}

// ParseSet reads schemas by their file names in cloud-init's package, such as
// schema-cloud-config-v1.json.
func ParseSet(files map[string][]byte) (Set, error) {
	set := Set{network: map[string]*Schema{}}
	for name, data := range files {
		var err error
		if version, ok := strings.CutPrefix(name, "schema-network-config-v"); ok {
			set.network[strings.TrimSuffix(version, ".json")], err = Parse(data)
		} else if strings.HasPrefix(name, "schema-cloud-config-") {
			set.cloudConfig, err = Parse(data)
		}
		if err != nil {
			return Set{}, fmt.Errorf("%s: %w", name, err)
		}
	}
	if set.cloudConfig == nil {
		return Set{}, fmt.Errorf("there is no schema of cloud-config among %d files", len(files))
	}
	return set, nil
}

// Empty reports whether the set has no schemas, so that nothing can be checked.
func (s Set) Empty() bool { return s.cloudConfig == nil }

// CloudConfig checks merged user-data.
func (s Set) CloudConfig(document *doc.Node) []Finding { return s.cloudConfig.Check(document) }

// NetworkConfig checks a file of network-config, with or without the key
// network around it. The name is what messages call it.
func (s Set) NetworkConfig(name string, data []byte) ([]Finding, error) {
	document, err := doc.Parse(name, data)
	if err != nil {
		return nil, err
	}
	return s.Network(document), nil
}

// Network is NetworkConfig for a document that has been read.
func (s Set) Network(document *doc.Node) []Finding {
	inner, path := document, ""
	if wrapped := document.Get("network"); wrapped != nil {
		inner, path = wrapped, "network"
	}
	version := inner.Get("version")
	if version == nil {
		return []Finding{{Problem: inner.Problem(path, "write version: 2", "the key %q is missing", "version")}}
	}
	schema := s.network[version.Text]
	if schema == nil {
		if version.Text == "1" || version.Text == "2" {
			return nil // this cloud-init checks nothing
		}
		return []Finding{{Problem: version.Problem(doc.Join(path, "version"), "", "%s is not allowed, want 1 or 2", describe(version))}}
	}
	c := checker{schema: schema}
	return c.check(schema.definition("#/$defs/network_config_version"+version.Text), inner, path)
}
