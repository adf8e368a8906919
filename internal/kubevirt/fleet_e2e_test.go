//go:build e2e

package kubevirt

import (
	"bytes"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"bake/internal/kubelab"
)

// split divides a stream as kubectl does.
func split(stream []byte) (all [][]byte) {
	if len(stream) == 0 {
		return nil
	}
	return bytes.Split(stream, []byte("\n---\n"))
}

// kept are the objects of a VirtualMachine in which KubeVirt's own CRD keeps what it does not
// know, so that no server can find a misspelt field there.
var kept = map[string]bool{".spec.template.metadata": true, ".spec.template.spec.domain.clock": true}

// TestFleetObjects: a real kube-apiserver with the real CRDs accepts every object of 200 hosts
// of all kinds, with strict validation, and refuses each of them when a letter of a field is
// wrong, or a value is of another type.
func TestFleetObjects(t *testing.T) {
	c := kubelab.Start(t)
	c.Install(t)
	for _, name := range []string{"machines", "a-1"} {
		c.MustAsk(t, http.MethodPost, "/api/v1/namespaces", fmt.Appendf(nil, `{"metadata": {"name": %q}}`, name))
	}
	r := mathrand.New(mathrand.NewPCG(7, 11))
	accepted, sample := map[string]int{}, map[string][]byte{}
	accept := func(who string, stream []byte) {
		for _, document := range split(stream) {
			kind, code, said, err := c.Create(document, "")
			if err != nil || code != http.StatusCreated {
				t.Fatalf("%s, %s: %d, %v: %s\n%.4000s", who, kind, code, err, said, document)
			}
			accepted[kind]++
			if len(document) > len(sample[kind]) {
				sample[kind] = document
			}
		}
	}
	program, err := Program(anyBytes(r, 2_900_000), "a-1")
	if err != nil {
		t.Fatal(err)
	}
	accept("the program", program)
	for i := range 200 {
		h, g, o := anyHost(r, i)
		f, err := Export(h, g, o)
		if err != nil {
			t.Fatal(err)
		}
		for _, stream := range [][]byte{f.Secret, f.State, f.Machine} {
			accept(fmt.Sprintf("host %d", i), stream)
		}
	}
	for i, n := range someNights() {
		text, err := n.Export()
		if err != nil {
			t.Fatal(err)
		}
		accept(fmt.Sprintf("night %d", i), text)
	}
	t.Logf("accepted with strict validation: %v", accepted)
	for kind := range kubelab.Kinds {
		if accepted[kind] == 0 {
			t.Errorf("no %s was tried", kind)
		}
	}
	if accepted["VirtualMachine"] != 200 {
		t.Errorf("%d machines", accepted["VirtualMachine"])
	}
	refusals := 0
	for kind, document := range sample {
		if kind == "ConfigMap" || kind == "Secret" { // large, and with few fields
			document = shorten(t, document)
		}
		for _, wrong := range misspelt(t, document) {
			_, code, said, err := c.Create(wrong.document, "&dryRun=All")
			if kind == "VirtualMachine" && kept[wrong.field[:strings.LastIndex(wrong.field, ".")]] {
				if code != http.StatusConflict { // it is there already, by its right name
					t.Errorf("%s with %s: the CRD does not keep what it does not know there any more: %d", kind, wrong.field, code)
				}
				continue
			}
			if err != nil || code != http.StatusBadRequest || !strings.Contains(said, "unknown field") {
				t.Errorf("%s with %s is not refused: %d, %v: %.500s", kind, wrong.field, code, err, said)
			}
			refusals++
		}
	}
	t.Logf("refused for one misspelt field each: %d", refusals)
	for right, wrong := range map[string]string{"cores: ": "cores: two #", "runStrategy: ": "runStrategy: [x] #", "port: ": "port: no #"} {
		document := bytes.ReplaceAll(sample["VirtualMachine"], []byte(right), []byte(wrong))
		if _, code, said, err := c.Create(document, "&dryRun=All"); err != nil || code/100 != 4 || code == http.StatusConflict {
			t.Errorf("%s is not refused: %d, %v: %.500s", wrong, code, err, said)
		}
	}
}
