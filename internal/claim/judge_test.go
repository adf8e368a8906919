package claim

import (
	"fmt"
	"strings"
	"testing"
)

func text(s string) *string { return &s }
func code(i int) *int       { return &i }

func TestJudge(t *testing.T) {
	tests := map[string]struct {
		in   Inside
		out  string
		exit int
		want bool
	}{
		"is, equal":                       {Inside{Is: text("10")}, "10", 0, true},
		"is, other":                       {Inside{Is: text("10")}, "60", 0, false},
		"is, a longer text":               {Inside{Is: text("10")}, "100", 0, false},
		"is, equal but the command fails": {Inside{Is: text("10")}, "10", 1, false},
		"is, final newline in the layer":  {Inside{Is: text("a\nb\n")}, "a\nb", 0, true},
		"is, nothing":                     {Inside{Is: text("")}, "", 0, true},
		"is, nothing wanted, something":   {Inside{Is: text("")}, "x", 0, false},
		"has":                             {Inside{Has: text("active")}, "is active now", 0, true},
		"has not":                         {Inside{Has: text("active")}, "off", 0, false},
		"has, but fails":                  {Inside{Has: text("active")}, "active", 3, false},
		"lacks":                           {Inside{Lacks: text("ACCEPT")}, "DROP", 0, true},
		"lacks not":                       {Inside{Lacks: text("ACCEPT")}, "ACCEPT", 0, false},
		"lacks, but fails":                {Inside{Lacks: text("ACCEPT")}, "", 127, false},
		"exit":                            {Inside{Exit: code(2)}, "", 2, true},
		"exit, other":                     {Inside{Exit: code(2)}, "", 0, false},
		"exit 0":                          {Inside{Exit: code(0)}, "", 0, true},
		"no matcher":                      {Inside{}, "", 0, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if ok, want, got := judge(test.in, test.out, test.exit); ok != test.want {
				t.Errorf("judge = %v (want %q, got %q)", ok, want, got)
			}
		})
	}
}

func TestJudgeCloudInit(t *testing.T) {
	// of is a status.json in which each stage has what is given, or has finished well.
	of := func(changes map[string]string) string {
		text := `{"v1": {"datasource": "DataSourceNoCloud", "stage": null`
		for _, name := range initStages {
			stage, changed := changes[name]
			if !changed {
				stage = `{"start": 1.5, "finished": 2.5, "errors": []}`
			}
			text += fmt.Sprintf(`, %q: %s`, name, stage)
		}
		return text + "}}"
	}
	tests := map[string]struct {
		out  string
		want bool
		says string
	}{
		"22.4, done": {of(nil), true, "every stage finished"},
		"25.1, done": {of(map[string]string{"init": `{"start": 1, "finished": 2, "errors": [], "recoverable_errors": {}}`}), true, "every stage finished"},
		"recoverable": {of(map[string]string{"init": `{"start": 1, "finished": 2, "errors": [], "recoverable_errors": {"WARNING": ["bad key"]}}`}),
			false, "init: WARNING: bad key"},
		"an error":     {of(map[string]string{"modules-config": `{"start": 1, "finished": 2, "errors": ["('mounts', boom)"]}`}), false, "modules-config: ('mounts', boom)"},
		"still runs":   {of(map[string]string{"modules-final": `{"start": 1, "finished": null, "errors": []}`}), false, "modules-final has not finished"},
		"never ran":    {of(map[string]string{"init-local": `{"start": null, "finished": null, "errors": []}`}), false, "init-local has not finished"},
		"a stage less": {`{"v1": {"init": {"start": 1, "finished": 2, "errors": []}}}`, false, "modules-final has not finished"},
		"another kind": {`{"v2": {}}`, false, "v2"},
		"no JSON":      {"cat: no such file", false, "no such file"},
		"nothing":      {"", false, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			ok, _, got := judgeCloudInit(test.out)
			if ok != test.want || !strings.Contains(got, test.says) {
				t.Errorf("judgeCloudInit = %v, %q", ok, got)
			}
		})
	}
	check := Boot()[0]
	if check.Claim != claimInit || check.Try(of(nil), 0).OK == check.Try("{}", 0).OK {
		t.Error("the claim about cloud-init is not judged by what cloud-init says")
	}
}

func TestClean(t *testing.T) {
	if got := Clean("ok\x1b[2K\rfake\tx\n\n"); got != "ok\ufffd[2K\ufffdfake x" {
		t.Errorf("Clean = %q", got)
	}
}

func TestApplied(t *testing.T) {
	list, check := Applied([]string{"ssh", "ufw"}, []string{"aa", "bb"})
	if list != "ssh aa\nufw bb\n" {
		t.Errorf("list %q", list)
	}
	for out, want := range map[string]bool{"ssh aa\nufw bb": true, "ssh aa": false, "ssh aa\nufw bc": false, "": false} {
		if got := check.Try(out, 0).OK; got != want {
			t.Errorf("%q: %v", out, got)
		}
	}
}
