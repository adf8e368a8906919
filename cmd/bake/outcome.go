package main

import (
	"fmt"

	"bake/internal/deploy"
)

// outcomeView is what became of a machine.
type outcomeView struct {
	deploy.Outcome
	Attested  bool     `json:"attested"`
	Claims    int      `json:"claims,omitempty"`
	Addresses []string `json:"addresses,omitempty"`
	Known     string   `json:"known_hosts,omitempty"`
}

func (v outcomeView) lines() []string {
	text := fmt.Sprintf("%s: generation %s", v.Host, v.Generation)
	switch {
	case !v.Attested:
		text += " runs"
	case v.Changed:
		text += fmt.Sprintf(" runs and has attested: %d claims hold", v.Claims)
	default:
		text += fmt.Sprintf(" runs as before: %d claims hold, nothing to do", v.Claims)
	}
	lines := []string{text}
	if v.Wanted != v.Generation {
		lines = append(lines, fmt.Sprintf("    wanted      %s: bake deploy --host %s changes to it", v.Wanted, v.Host))
	}
	if v.Previous != "" {
		lines = append(lines, "    before      "+v.Previous)
	}
	for _, address := range v.Addresses {
		lines = append(lines, "    address     "+address)
	}
	if v.Known != "" {
		lines = append(lines, "    known_hosts "+v.Known)
	}
	return lines
}
