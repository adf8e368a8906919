package report

import (
	"strings"

	"bake/internal/lazy"
)

// documentLayers are those of the OpenClaw security architecture, by number from 1, and
// what each asks for.
var documentLayers = []struct{ title, wants string }{
	{"UFW firewall", "Incoming denied but for the listed ports"},
	{"Fail2ban", "Five failures in ten minutes ban for an hour"},
	{"DOCKER-USER chain", "Docker does not go around the firewall"},
	{"Localhost-only binding", "Ports of containers on 127.0.0.1"},
	{"Non-root container", "Processes in containers are not root"},
	{"systemd hardening", "The service in a sandbox"},
	{"Scoped sudo", "A few exact commands, no more"},
	{"Automatic security updates", "Every day, and no reboot by itself"},
}

// What the document has beside its numbered layers.
var (
	beforeLayers = coverView{Title: "Before layer 1", Wants: "Who may log in, and how"}
	overTailnet  = coverView{Title: "Tailscale access", Wants: "A tailnet instead of an open port"}
)

// coverView is a layer of the document and those of ours that answer to it.
type coverView struct {
	Number       string
	Title, Wants string
	Layers       []layerView
	Claims, Held int
}

func (c coverView) OK() bool { return c.Held == c.Claims }

func (c *coverView) add(l layerView) {
	c.Layers = append(c.Layers, l)
	c.Claims += len(l.Claims)
	c.Held += l.Held
}

const document = "security document"

var number = lazy.Regexp(`[1-8]`)

// cover finds in the layers' refs which layer of the document they answer to. It is nil
// where no layer says.
func cover(layers []layerView) []coverView {
	before, tailnet := beforeLayers, overTailnet
	rows := make([]coverView, len(documentLayers))
	for i, d := range documentLayers {
		rows[i] = coverView{Number: string(rune('1' + i)), Title: d.title, Wants: d.wants}
	}
	said := false
	for _, l := range layers {
		for _, ref := range l.Refs {
			_, where, ok := strings.Cut(ref, document)
			if !ok {
				continue
			}
			said = true
			switch {
			case strings.Contains(where, "before layer"):
				before.add(l)
			case strings.Contains(where, "Tailscale"):
				tailnet.add(l)
			default:
				for _, digit := range number.FindAllString(where, -1) {
					rows[digit[0]-'1'].add(l)
				}
			}
		}
	}
	if !said {
		return nil
	}
	if len(before.Layers) > 0 {
		rows = append([]coverView{before}, rows...)
	}
	if len(tailnet.Layers) > 0 {
		rows = append(rows, tailnet)
	}
	return rows
}
