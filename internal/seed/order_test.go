package seed

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"bake/internal/doc"
)

// What runs when: before the network what protects, packages and commands at the end,
// and nothing where no module reads a key.
func TestOrder(t *testing.T) {
	config, err := doc.Parse("x", []byte(`{bootcmd: [a, b], runcmd: [c], write_files: [{path: /a}, {path: /b, defer: true}, {path: /c}],
  users: [default], ssh_pwauth: false, packages: [x, y], ansible: {a: b}, merge_how: x, nonsense: 1, timezone: UTC}`))
	if err != nil {
		t.Fatal(err)
	}
	for distro, want := range map[string]string{
		"debian": "local: bootcmd=bootcmd[0],bootcmd[1] write_files=write_files[0],write_files[2] growpart= resizefs= set_hostname= users_groups=users[0] " +
			"config: set_passwords=ssh_pwauth timezone=timezone runcmd= " +
			"final: package_update_upgrade_install=packages[0],packages[1] write_files_deferred=write_files[1] scripts_user=runcmd[0] keys_to_console= final_message= " +
			"unread: ansible nonsense",
		"ubuntu-minimal": "local: bootcmd=bootcmd[0],bootcmd[1] write_files=write_files[0],write_files[2] growpart= resizefs= set_hostname= users_groups=users[0] set_passwords=ssh_pwauth " +
			"config: timezone=timezone runcmd= " +
			"final: package_update_upgrade_install=packages[0],packages[1] write_files_deferred=write_files[1] ansible=ansible scripts_user=runcmd[0] keys_to_console= final_message= " +
			"unread: nonsense",
	} {
		stages, unread := Order(config, UsualModules(distro))
		var got []string
		for _, stage := range stages {
			got = append(got, stage.Name+":")
			for _, step := range stage.Modules {
				got = append(got, fmt.Sprintf("%s=%s", step.Module, strings.Join(step.Parts, ",")))
			}
		}
		got = append(append(got, "unread:"), unread...)
		if strings.Join(got, " ") != want {
			t.Errorf("%s:\n%s\nwant\n%s", distro, strings.Join(got, " "), want)
		}
	}
	stages, _ := Order(&doc.Node{Kind: doc.Map}, UsualModules("debian"))
	if slices.ContainsFunc(stages[1].Modules, func(s Step) bool { return s.Module == "runcmd" }) {
		t.Error("runcmd writes a script of nothing")
	}
}

// Every key that bake or its rules know has a module of Ubuntu's, or is cloud-init's own.
func TestOrderIsWhole(t *testing.T) {
	m := UsualModules("ubuntu")
	all := slices.Concat(m.Init, m.Config, m.Final)
	for key, module := range readBy() {
		if !slices.Contains(all, module) && module != "resolv_conf" {
			t.Errorf("%s is read by %s, which Ubuntu does not run", key, module)
		}
	}
}
