package inspect

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

const cloudInitDir = "/usr/lib/python3/dist-packages/cloudinit"

// CloudInit is what an image says about its cloud-init.
type CloudInit struct {
	// Version is what "cloud-init --version" prints, "" without cloud-init: the
	// upstream version, or on Ubuntu that of the package.
	Version     string `json:"version"`
	DefaultUser string `json:"default_user"` // whom "default" in users: means
	// Datasources is datasource_list: null when nothing sets it, and cloud-init
	// then uses its built-in list, which has NoCloud.
	Datasources []string `json:"datasources"`
	Disabled    bool     `json:"disabled"` // /etc/cloud/cloud-init.disabled exists
}

// NoCloud tells whether cloud-init will look at a NoCloud seed.
func (c CloudInit) NoCloud() bool {
	return c.Datasources == nil || slices.Contains(c.Datasources, "NoCloud")
}

// configure merges one more configuration file: as in cloud-init, a later file
// wins, for a list as a whole. A file that is not YAML is skipped with a note.
func (c *CloudInit) configure(file, text string) (note string) {
	var config struct {
		Datasources yaml.Node `yaml:"datasource_list"`
		System      yaml.Node `yaml:"system_info"`
	}
	if err := decodeYAML(text, &config); err != nil {
		return fmt.Sprintf("%s: cloud-init would skip it: %s", file, line(err.Error()))
	}
	var list []string
	if err := config.Datasources.Decode(&list); err != nil {
		return file + ": datasource_list is no list of names"
	}
	if config.Datasources.Kind == yaml.SequenceNode {
		c.Datasources = []string{} // an empty list means none, not the built-in one
		for _, name := range list {
			c.Datasources = append(c.Datasources, line(name))
		}
	}
	var system struct {
		User struct {
			Name string `yaml:"name"`
		} `yaml:"default_user"`
	}
	if err := config.System.Decode(&system); err != nil {
		return file + ": system_info.default_user is not in a form known here"
	}
	if system.User.Name != "" {
		c.DefaultUser = line(system.User.Name)
	}
	return ""
}

// decodeYAML decodes a mapping. An empty document leaves into as it is.
func decodeYAML(text string, into any) (err error) {
	defer recovered(&err)
	return yaml.Unmarshal([]byte(text), into)
}

// cloudInitVersion reads the version out of cloudinit/version.py: the package's
// own, unless its build left the placeholder.
func cloudInitVersion(text string) string {
	values := map[string]string{}
	for text := range strings.Lines(text) {
		if name, value, found := strings.Cut(text, "="); found {
			values[strings.TrimSpace(name)] = strings.Trim(strings.TrimSpace(value), `"'`)
		}
	}
	if packaged := values["_PACKAGED_VERSION"]; packaged != "" && !strings.HasPrefix(packaged, "@@") {
		return line(packaged)
	}
	return line(values["__VERSION__"])
}

// Modules returns what cloud.cfg and the files that stand over it say is run, by key:
// cloud_init_modules, cloud_config_modules, cloud_final_modules. Names are written with
// underscores, as newer releases do; a key that nothing sets is missing. Whatever file it
// is, a panic over it becomes an error.
func (i *Image) Modules() (lists map[string][]string, err error) {
	defer i.explain(&err, "reading cloud-init's modules")
	files, err := i.cloudFiles()
	if err != nil {
		return nil, err
	}
	lists = map[string][]string{}
	for _, file := range files {
		text, err := i.text(file, maxConfig)
		if err != nil {
			return nil, err
		}
		var config map[string]yaml.Node
		if decodeYAML(text, &config) != nil {
			continue // cloud-init skips it, too
		}
		for _, key := range []string{"cloud_init_modules", "cloud_config_modules", "cloud_final_modules"} {
			if n, ok := config[key]; ok && n.Kind == yaml.SequenceNode {
				lists[key] = moduleNames(n)
			}
		}
	}
	return lists, nil
}

// moduleNames reads a list of modules, of which each may be a list of name and mode.
func moduleNames(list yaml.Node) []string {
	names := []string{}
	for _, item := range list.Content {
		if item.Kind == yaml.SequenceNode && len(item.Content) > 0 {
			item = item.Content[0]
		}
		if item.Kind == yaml.ScalarNode && item.Value != "" {
			names = append(names, strings.ReplaceAll(line(item.Value), "-", "_"))
		}
	}
	return names
}
