package lint

import (
	"fmt"
	"slices"
	"strings"

	"bake/internal/diag"
)

// Invalid makes findings of what is wrong with a host file or a layer itself.
func Invalid(list diag.List) []Finding {
	var out []Finding
	for _, p := range list {
		out = append(out, finding("invalid-file", Error, p))
	}
	return out
}

// Once leaves out what was found before: hosts share layers. One that stands
// somewhere without being allowed stays.
func Once(all []Finding) []Finding {
	var out []Finding
	seen := map[Finding]bool{}
	for _, f := range all {
		if !seen[f] {
			out = append(out, f)
		}
		seen[f] = true
	}
	return out
}

// Summary counts findings.
func Summary(all []Finding) string {
	errors, warnings, allowed := 0, 0, 0
	for _, f := range all {
		switch {
		case f.Allowed != "":
			allowed++
		case f.Severity == Error:
			errors++
		default:
			warnings++
		}
	}
	parts := []string{count(errors, "error"), count(warnings, "warning")}
	if allowed > 0 {
		parts = append(parts, fmt.Sprintf("%d allowed", allowed))
	}
	return strings.Join(parts, ", ")
}

func count(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// SARIF returns the findings in the form of OASIS SARIF 2.1.0, to be written as
// JSON. A finding that is allowed is one that is suppressed, with its reason.
func SARIF(all []Finding, version string) any {
	type object = map[string]any
	var rules, results []object
	for _, r := range Rules() {
		if slices.ContainsFunc(all, func(f Finding) bool { return f.Rule == r.ID }) {
			rules = append(rules, object{"id": r.ID, "shortDescription": object{"text": r.What},
				"fullDescription": object{"text": r.Why}, "help": object{"text": r.Fix + " (" + r.Source + ")"},
				"defaultConfiguration": object{"level": string(r.Severity)}})
		}
	}
	for _, f := range all {
		physical := object{"artifactLocation": object{"uri": f.Problem.Pos.File}}
		if f.Problem.Pos.Line > 0 {
			physical["region"] = object{"startLine": f.Problem.Pos.Line, "startColumn": max(1, f.Problem.Pos.Col)}
		}
		result := object{"ruleId": f.Rule, "level": string(f.Severity), "message": object{"text": f.Problem.Message},
			"locations": []object{{"physicalLocation": physical}}}
		if f.Allowed != "" {
			result["suppressions"] = []object{{"kind": "inSource", "justification": f.Allowed}}
		}
		results = append(results, result)
	}
	if results == nil {
		results = []object{}
	}
	driver := object{"name": "bake", "version": version, "rules": rules}
	if rules == nil {
		driver["rules"] = []object{}
	}
	return object{"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0",
		"runs": []object{{"tool": object{"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}}}
}
