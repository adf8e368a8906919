// Package kubevirt writes a generation of a host as the objects with which KubeVirt and CDI
// run it on a Kubernetes cluster.
//
// An export has up to three files for each host, and one for all of them, each a stream of
// YAML documents:
//
//	program   ConfigMaps with the program that attests, in pieces: the same for a whole fleet
//	secret    Secrets with the seed and with the host's secrets
//	state     the PersistentVolumeClaim of the state disk, which outlives the machine
//	machine   DataVolume of the root disk, NetworkPolicy, VirtualMachine
//
// The seed is a disk with the label cidata that KubeVirt makes of a Secret, and not its
// cloudInitNoCloud: that has two of the five files of a seed, and a meta-data of its own,
// without dsmode: local, by which a machine would be on the network before it is shut. What
// a Secret or a ConfigMap holds is at most 1 MiB, and the program is more: it comes on disks
// with the label bakeattest, from which the layer attest puts it together and holds it
// against its digest.
//
// It promises:
//   - Values are marshalled and never pasted: no name, key or parameter becomes YAML.
//   - Neither seed nor secrets are in the VirtualMachine, and nothing of them in any
//     name or label.
//   - The same host and generation give the same bytes.
//   - What the host file asks for and KubeVirt cannot give is an error at the line that
//     asks for it, or, where the machine is no less shut without it, a warning.
//   - Nothing comes in but on the ports that an outside claim says are open.
//
// It refuses to guess: whether a cluster has the storage, the huge pages or the feature
// gates that an export asks for, the cluster says.
//
// # Decisions
//
// 2026-11: structs of its own for the few fields, and not kubevirt.io/api, which is 24
// modules and 4.7 MB of the binary. That they are the real fields a real kube-apiserver
// says, with the real CRDs and strict validation (make e2e-fleet).
//
// 2026-11: the readiness probe is a connection to a port that a claim says is open. The
// layer attest drops whatever comes in until every claim holds, so that port answers after
// attestation and not before. A ping of the guest agent would say no more than that QEMU's
// agent runs, and a command in the guest is what the layer guest-agent forbids. With
// on_failure: ssh port 22 also answers after a failure, and is no probe.
//
// 2026-11: the root disk is a DataVolume of the generation's name, so that a new generation
// is a new disk and the one before is still there; the state disk is a claim in a file of
// its own, so that deleting the machine's file does not delete what must outlive it.
//
// 2026-11: RerunOnFailure, as libvirt has it: a machine that was shut down from inside stays
// off, one whose node died comes back. LiveMigrateIfPossible, so that a node can be drained
// whatever the storage can do.
//
// 2026-11: the processor is host-model, not host-passthrough as under libvirt: a cluster's
// nodes differ, and a machine that cannot move blocks its node. On arm64 KubeVirt has
// host-passthrough alone.
//
// 2026-11: machine.firmware: auto is secure boot, and machine.tpm: auto a TPM: virt-launcher
// brings both. That TPM begins anew at each start, for one that persists needs a feature gate
// (VMPersistentState) that few clusters have, and auto must not keep a machine from starting;
// machine.tpm: true asks for it. On arm64 KubeVirt has no secure boot, and auto has none.
//
// 2026-11: interfaces are masqueraded and list their ports, so that a cluster whose network
// ignores NetworkPolicy forwards no more than the claims say either.
package kubevirt

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"bake/internal/diag"
	"bake/internal/host"
	"bake/internal/lazy"
)

// A Generation is what a machine is made of, as far as it is not in the host file.
type Generation struct {
	Name       string            // 16 hexadecimal digits
	Words      map[string][]byte // files of the seed, without the program that attests
	Program    []byte            // that attests; empty where nobody does
	Secrets    map[string][]byte // files of the volume of secrets, nil without any
	BaseURL    string            // where the base image comes from, "" if from a file
	BaseSHA256 string            // of the image at that address
	IsBase     bool              // the disk in the generation's own image is the base image, see package publish
}

// Options are what the host file does not say.
type Options struct {
	Namespace    string // "" for the one that kubectl is set to
	Image        string // reference of the generation's image, as bake publish names it; "" for none
	PullSecret   string // name of the Secret with which a node pulls that image
	ImportSecret string // name of the Secret with which CDI does
	Network      string // NetworkAttachmentDefinition in the place of the pod network, NAMESPACE/NAME or NAME
	StorageClass string // "" for the cluster's default
	Ephemeral    bool   // the root disk is as old as the machine's pod
}

// Files are the parts of a host's export, nil for what there is not.
type Files struct {
	Secret  []byte
	State   []byte
	Machine []byte

	Warnings diag.List // what the cluster does otherwise
}

const (
	maxData   = 1 << 20   // bytes of a Secret's or a ConfigMap's values together
	pieceSize = 1_000_000 // of the program
	maxPieces = 10        // the layer attest reads one digit

	labelManaged  = "app.kubernetes.io/managed-by"
	labelInstance = "app.kubernetes.io/instance"
)

var (
	dnsName   = lazy.Regexp(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)
	dnsLabel  = lazy.Regexp(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	netName   = lazy.Regexp(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/)?[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)
	imageForm = lazy.Regexp(`^[A-Za-z0-9][A-Za-z0-9._:/\[\]-]{0,250}(@sha256:[0-9a-f]{64})?$`)
)

// Check says what is wrong with options that a person has given, with the option's name.
func (o Options) Check() error {
	for _, c := range []struct {
		option, value string
		form          lazy.Regexp
		want          string
	}{
		{"namespace", o.Namespace, dnsLabel, "at most 63 of a-z, 0-9 and -"},
		{"pull-secret", o.PullSecret, dnsName, "the name of a Secret"},
		{"import-secret", o.ImportSecret, dnsName, "the name of a Secret"},
		{"storage-class", o.StorageClass, dnsName, "the name of a StorageClass"},
		{"network", o.Network, netName, "NAME or NAMESPACE/NAME of a NetworkAttachmentDefinition"},
		{"image", o.Image, imageForm, "REGISTRY/REPOSITORY@sha256:DIGEST or :TAG, without a scheme"},
	} {
		if c.value != "" && !c.form.MatchString(c.value) {
			return fmt.Errorf("--%s %q: want %s", c.option, c.value, c.want)
		}
	}
	switch {
	case strings.Contains(o.Image, "://"):
		return fmt.Errorf("--image %q: want REGISTRY/REPOSITORY@sha256:DIGEST or :TAG, without a scheme", o.Image)
	case o.Image == "" && (o.PullSecret != "" || o.ImportSecret != "" || o.Ephemeral):
		return errors.New("--pull-secret, --import-secret and --ephemeral go with --from or --image")
	}
	return nil
}

// export is one host on its way to YAML.
type export struct {
	*host.Host
	Generation
	Options
	problems diag.List
	warnings diag.List
	pieces   [][]byte // of the program
	program  string   // name of the ConfigMaps
	ports    []policyPort
}

// Export writes a host's generation as objects. The error is a diag.List when KubeVirt
// cannot give what the host file asks for; it names every such thing at once.
func Export(h *host.Host, g Generation, o Options) (Files, error) {
	if err := o.Check(); err != nil {
		return Files{}, err
	}
	e := &export{Host: h, Generation: g, Options: o}
	e.vet()
	e.ports = e.openPorts()
	var err error
	if e.program, e.pieces, err = cut(g.Program); err != nil {
		return Files{}, err
	}
	machine := []object{e.rootDisk(), e.policy(), e.machine()}
	if o.Ephemeral {
		machine = machine[1:]
	}
	if err := e.problems.Err(); err != nil {
		return Files{}, err
	}
	f := Files{Warnings: e.warnings}
	var state []object
	if h.Machine.State > 0 {
		state = append(state, e.stateDisk())
	}
	secrets, err := e.secrets()
	if err != nil {
		return Files{}, err
	}
	for to, objects := range map[*[]byte][]object{&f.Secret: secrets, &f.State: state, &f.Machine: machine} {
		if *to, err = encode(objects); err != nil {
			return Files{}, fmt.Errorf("writing the objects of host %s: %w", h.Name, err)
		}
	}
	return f, nil
}

// encode writes objects as a stream of YAML documents.
func encode(objects []object) ([]byte, error) {
	if len(objects) == 0 {
		return nil, nil
	}
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	for _, o := range objects {
		if err := encoder.Encode(o); err != nil {
			return nil, err
		}
	}
	err := encoder.Close()
	return out.Bytes(), err
}

// about is the metadata of one of the host's objects.
func (e *export) about(name string) metadata {
	return metadata{Name: name, Namespace: e.Namespace, Labels: e.labels(),
		Annotations: map[string]string{"bake/generation": e.Generation.Name}}
}

// labels are those of the host's objects, and of its pod.
func (e *export) labels() map[string]string {
	return map[string]string{labelManaged: "bake", labelInstance: e.Host.Name}
}

func (e *export) seedName() string    { return e.Host.Name + "-seed-" + e.Generation.Name }
func (e *export) secretsName() string { return e.Host.Name + "-secrets" }
func (e *export) rootName() string    { return e.Host.Name + "-root-" + e.Generation.Name }
func (e *export) stateName() string   { return e.Host.Name + "-state" }

// cut divides the program into pieces that fit, and names it by what it is.
func cut(program []byte) (name string, pieces [][]byte, err error) {
	if len(program) == 0 {
		return "", nil, nil
	}
	sum := sha256.Sum256(program)
	pieces = slices.Collect(slices.Chunk(program, pieceSize))
	if len(pieces) > maxPieces {
		err = fmt.Errorf("the program that attests has %d bytes, more than %d pieces", len(program), maxPieces)
	}
	return "bake-attest-" + hex.EncodeToString(sum[:8]), pieces, err
}

func pieceName(program string, i int) string { return fmt.Sprintf("%s-%d", program, i) }

// ProgramName is what the ConfigMaps of a program that attests are called, without the number
// of the piece; "" without a program.
func ProgramName(program []byte) (string, error) {
	name, _, err := cut(program)
	return name, err
}

// Program writes the program that attests as ConfigMaps, of which a fleet needs one set a
// namespace.
func Program(program []byte, namespace string) ([]byte, error) {
	name, pieces, err := cut(program)
	if err != nil {
		return nil, err
	}
	var all []object
	for i, piece := range pieces {
		all = append(all, object{APIVersion: "v1", Kind: "ConfigMap", Immutable: true,
			Metadata:   metadata{Name: pieceName(name, i), Namespace: namespace, Labels: map[string]string{labelManaged: "bake"}},
			BinaryData: map[string]string{fmt.Sprintf("attest.%d", i): base64.StdEncoding.EncodeToString(piece)}})
	}
	return encode(all)
}

// secrets are the Secrets of the seed and of the host's secrets. That of the seed is of one
// generation and never changes.
func (e *export) secrets() (all []object, err error) {
	for _, s := range []struct {
		what, name string
		files      map[string][]byte
		immutable  bool
	}{{"seed", e.seedName(), e.Words, true}, {"secrets", e.secretsName(), e.Generation.Secrets, false}} {
		if len(s.files) == 0 {
			continue
		}
		data, total := map[string]string{}, 0
		for _, name := range slices.Sorted(maps.Keys(s.files)) {
			data[name] = base64.StdEncoding.EncodeToString(s.files[name])
			total += len(s.files[name])
		}
		if total > maxData {
			return nil, e.fileProblem("the %s of host %s have %d bytes, and a Secret holds %d", s.what, e.Host.Name, total, maxData)
		}
		all = append(all, object{APIVersion: "v1", Kind: "Secret", Type: "Opaque", Immutable: s.immutable,
			Metadata: e.about(s.name), Data: data})
	}
	return all, nil
}

func (e *export) fileProblem(format string, args ...any) error {
	return diag.List{{Pos: diag.Position{File: e.Host.File}, Message: fmt.Sprintf(format, args...)}}
}
