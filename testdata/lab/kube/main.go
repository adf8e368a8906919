// Command kube is a Kubernetes control plane without a kubelet, for tests: the real
// kube-apiserver, kube-controller-manager and kube-scheduler, and the CRDs of KubeVirt and CDI
// as their authors install them.
//
//	kube kube-apiserver --etcd-servers=...
//	kube kube-controller-manager --kubeconfig=...
//	kube kube-scheduler --kubeconfig=...
//	kube crds > crds.json
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"lab/kube/components"

	"github.com/spf13/cobra"
	extv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	manager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	cdi "kubevirt.io/containerized-data-importer/pkg/operator/resources"
	"sigs.k8s.io/yaml"
)

// servers are the parts that run.
var servers = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": manager.NewControllerManagerCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
}

func main() {
	if len(os.Args) > 1 {
		if server, ok := servers[os.Args[1]]; ok {
			command := server()
			os.Args = os.Args[1:]
			os.Exit(cli.Run(command))
		}
	}
	if len(os.Args) != 2 || os.Args[1] != "crds" {
		fmt.Fprintln(os.Stderr, "usage: kube kube-apiserver | kube-controller-manager | kube-scheduler ARG...\n       kube crds")
		os.Exit(2)
	}
	if err := printCRDs(); err != nil {
		fmt.Fprintln(os.Stderr, "kube:", err)
		os.Exit(1)
	}
}

// printCRDs writes what a cluster with KubeVirt and CDI knows of virtual machines and data
// volumes, as one List in JSON.
func printCRDs() error {
	var items []*extv1.CustomResourceDefinition
	for _, make := range []func() (*extv1.CustomResourceDefinition, error){
		components.NewVirtualMachineCrd,
		components.NewVirtualMachineInstanceCrd,
	} {
		crd, err := make()
		if err != nil {
			return err
		}
		items = append(items, crd)
	}
	text, ok := cdi.CDICRDs["datavolume"]
	if !ok {
		return errors.New("CDI has no CRD of data volumes any more")
	}
	var crd extv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict([]byte(text), &crd); err != nil {
		return fmt.Errorf("CDI's CRD of data volumes: %w", err)
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"apiVersion": "v1", "kind": "List", "items": append(items, &crd)})
}
