package verify

import (
	"strings"
	"testing"
	"time"

	"bake/internal/claim"
	"bake/internal/exposure"
)

func TestJudgeExposure(t *testing.T) {
	frame := exposure.Answer{Kind: exposure.Frame, After: 20 * time.Second}
	ssh := exposure.Answer{Kind: exposure.Accepted, Family: 6, Port: 22, After: 61 * time.Second}
	for name, test := range map[string]struct {
		first []exposure.Answer
		want  bool
		says  string
	}{
		"shut, then port 22":    {[]exposure.Answer{frame, ssh}, true, ""},
		"shut, then a ping too": {[]exposure.Answer{frame, ssh, {Kind: exposure.Echo, Family: 4, After: time.Hour}}, true, ""},
		"shut throughout":       {[]exposure.Answer{frame}, true, ""},
		"port 22 too early":     {[]exposure.Answer{frame, {Kind: exposure.Accepted, Family: 4, Port: 22, After: 59 * time.Second}}, false, "syn/ack over IPv4 from port 22 after 59.0 s"},
		"a refusal too early":   {[]exposure.Answer{frame, {Kind: exposure.Refused, Family: 6, Port: 80, After: 59 * time.Second}}, false, "rst over IPv6 from port 80"},
		"a refusal later":       {[]exposure.Answer{frame, ssh, {Kind: exposure.Refused, Family: 6, Port: 80, After: 99 * time.Second}}, false, "port 80"},
		"another port later":    {[]exposure.Answer{frame, ssh, {Kind: exposure.Accepted, Family: 4, Port: 111, After: 99 * time.Second}}, false, "port 111"},
		"a ping too early":      {[]exposure.Answer{frame, {Kind: exposure.Echo, Family: 4, After: 30 * time.Second}}, false, "echo over IPv4"},
		"a rejection later":     {[]exposure.Answer{frame, {Kind: exposure.Reject, Family: 4, After: 99 * time.Second}}, false, "reject over IPv4"},
		"a dead guest":          {nil, false, "nothing was measured"},
	} {
		t.Run(name, func(t *testing.T) {
			r := run{Options: Options{Plan: Plan{Layers: []Layer{{Checks: []claim.Check{ports("")}}}}}}
			got := r.judgeExposure(&Exposure{Record: exposure.Record{First: test.first}}, 60*time.Second)
			if got.OK != test.want || !strings.Contains(got.Got, test.says) {
				t.Errorf("%v, %q", got.OK, got.Got)
			}
		})
	}
}

func TestOpenPorts(t *testing.T) {
	p := Plan{Layers: []Layer{{Checks: []claim.Check{ports(""), inside("")}}, {Checks: []claim.Check{
		{Outside: &claim.Outside{TCP: &claim.Ports{Open: []int{443, 22}, Closed: []int{9}}}}, login("ops", accepted, "")}}}}
	if open, all := p.openPorts(); len(open) != 2 || open[0] != 22 || open[1] != 443 || len(all) != 4 {
		t.Errorf("%v, %v", open, all)
	}
}
