package lint

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the table of rules in docs/lint.md")

// TestDocs keeps the table in docs/lint.md the one of the rules.
func TestDocs(t *testing.T) {
	const path, mark = "../../docs/lint.md", "## The rules\n\n"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, have, ok := strings.Cut(string(data), mark)
	if !ok {
		t.Fatalf("%s has no %q", path, mark)
	}
	var want strings.Builder
	want.WriteString("| rule | | what is wrong | why it matters | what to do |\n|---|---|---|---|---|\n")
	cell := strings.NewReplacer("|", `\|`, "<", "&lt;", "*", `\*`)
	for _, r := range Rules() {
		fmt.Fprintf(&want, "| %s | %s | %s | %s | %s |\n", r.ID, r.Severity, cell.Replace(r.What), cell.Replace(r.Why), cell.Replace(r.Fix))
	}
	if have == want.String() {
		return
	}
	if !*update {
		t.Fatalf("the table in %s is not that of the rules: go test ./internal/lint -run TestDocs -update", path)
	}
	if err := os.WriteFile(path, []byte(head+mark+want.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}
