package secret

import (
	"strings"
	"testing"

	"bake/internal/diag"
	"bake/internal/doc"
)

// Every refusal, with its place; the first line is "secrets:". The literals and
// their lines are not shown.
func TestReadRefuses(t *testing.T) {
	for _, test := range []struct{ form, at, words string }{
		{"db: hunter2", "2:7", "a secret is never written here\nsay where it is: {file: PATH}"},
		{"db: \"hunter2\"", "2:7", "never written here"},
		{"db: |\n    hunter2\n", "2:7", "never written here"},
		{"db: 17", "2:7", "never written here"},
		{"db: true", "2:7", "never written here"},
		{"db: [hunter2]", "2:7", "never written here"},
		{"db:", "2:6", "nothing says where this secret is"},
		{"db: {}", "2:7", "want exactly one of file, env, age, command, there is none of them"},
		{"db: {file: a, env: B}", "2:7", "there is file and env"},
		{"db: {file: a, age: b, command: [c]}", "2:7", "there is file and age and command"},
		{"db: {fiel: a}", "2:8", `did you mean "file"?`},
		{"db: {value: hunter2}", "2:8", `unknown key "value"`},
		{"db: {file: 5}", "2:14", "want text"},
		{"db: {file: \"\"}", "2:14", "want text"},
		{"db: {file: \"hunter2\\n\"}", "2:14", "control characters"},
		{"db: {env: [A]}", "2:13", "want text"},
		{"db: {env: hunter2!}", "2:13", "no name of a variable"},
		{"db: {env: $TOKEN}", "2:13", "no name of a variable"},
		{"db: {file: a, identity: k}", "2:27", "goes with age, not with file"},
		{"db: {age: a, identity: [hunter2]}", "2:26", "want text"},
		{"db: {command: pass show hunter2}", "2:17", "want a list: a program and its arguments\nthere is no shell"},
		{"db: {command: []}", "2:17", "want a list"},
		{"db: {command: [pass, 5]}", "2:24", "this is a whole number, want text"},
		{"db: {command: [pass, [hunter2]]}", "2:24", "want text"},
		{"db: {command: [\"\", hunter2]}", "2:18", "the program has no name"},
		{"db: {command: [echo, \"hunter2\\0\"]}", "2:24", "NUL"},
		{"Db: {file: a}", "2:3", `"Db" is no name for a secret`},
		{"Db: hunter2", "2:3", `"Db" is no name for a secret`},
		{"Db: hunter2", "2:7", "never written here"},
		{"../db: {file: a}", "2:3", "is no name for a secret"},
		{strings.Repeat("a", 64) + ": {file: a}", "2:3", "is no name for a secret"},
	} {
		n, err := doc.Parse("hosts/zap.yaml", []byte("secrets:\n  "+test.form))
		if err != nil {
			t.Fatal(err)
		}
		var problems diag.List
		Read(n.Get("secrets"), "secrets", &problems)
		at := false
		for _, p := range problems {
			at = at || p.Pos.String() == "hosts/zap.yaml:"+test.at && strings.Contains(p.Message+"\n"+p.Hint, test.words)
		}
		if !at {
			t.Errorf("%s: want it at %s: %s\n%v", test.form, test.at, test.words, problems)
		}
		if err := problems.Err(); err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", test.form, err)
		}
	}
	for _, text := range []string{"secrets: hunter2", "secrets: [hunter2]", "secrets:"} {
		n, err := doc.Parse("hosts/zap.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		var problems diag.List
		if refs := Read(n.Get("secrets"), "secrets", &problems); refs != nil || len(problems) != 1 || strings.Contains(problems.Err().Error(), "hunter2") {
			t.Errorf("%s: %v", text, problems)
		}
	}
	if refs := Read(nil, "secrets", nil); refs != nil {
		t.Error(refs)
	}
}

// FuzzRead: whatever stands under secrets, a text that is no reference is shown
// by no problem, and a reference says one thing.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{"db: {file: a}", "db: hunter2", "a: {command: [b, c]}\n  d: {env: E}", "x: {age: y, identity: z}", "[1]"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := doc.Parse("hosts/zap.yaml", []byte("secrets:\n  "+text))
		if err != nil {
			t.Skip("no YAML")
		}
		var problems diag.List
		refs := Read(n.Get("secrets"), "secrets", &problems)
		for _, ref := range refs {
			if len(problems) > 0 {
				break
			}
			said := 0
			for _, is := range []bool{ref.File != "", ref.Env != "", ref.Age != "", ref.Command != nil} {
				if is {
					said++
				}
			}
			if said != 1 || !nameForm.MatchString(ref.Name) {
				t.Errorf("%q: %+v", text, ref)
			}
		}
		if err := problems.Err(); err != nil && strings.Contains(err.Error(), " | ") && !strings.Contains(text, " | ") {
			t.Errorf("a line is shown: %v", err)
		}
	})
}
